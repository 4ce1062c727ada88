#pragma once
// How a command is described. Parser, help, docs/commands.md and shell completion come from these
// tables; a command is one file under commands/ and one line in commands.cc.

#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/exit_status.h"

namespace squall::cli {

struct Option {
  std::string_view name;        // "--env"
  std::string_view value = {};  // "NAME"; empty: a flag
  std::string_view summary;
};

struct Positional {
  std::string_view name;  // "EXPERIMENT"
  std::string_view summary;
  bool required = true;
  bool repeated = false;  // takes all that are left
};

// What was given. Asking for an option that the command does not describe is a defect.
class Arguments {
 public:
  bool flag(std::string_view name) const;
  std::optional<std::string> option(std::string_view name) const;
  std::string option_or(std::string_view name, std::string_view fallback) const;
  // Empty when not given.
  std::string positional(std::string_view name) const;
  std::vector<std::string> positionals(std::string_view name) const;

  std::map<std::string, bool, std::less<>> flags;
  std::map<std::string, std::string, std::less<>> options;
  std::map<std::string, std::vector<std::string>, std::less<>> positional_values;
};

struct Command {
  std::string_view name;
  std::string_view group;    // heading in the help
  std::string_view summary;  // one line
  std::string_view details;  // a few plain sentences; may be empty
  std::span<const Positional> positionals;
  std::span<const Option> options;
  std::span<const std::string_view> examples;
  base::ExitStatus (*run)(const Arguments& arguments) = nullptr;
  bool hidden = false;
};

// A command that our own processes start, never people.
constexpr Command internal_command(std::string_view name, std::string_view summary,
                                   base::ExitStatus (*run)(const Arguments&)) {
  return {.name = name,
          .group = "Internal",
          .summary = summary,
          .details = {},
          .positionals = {},
          .options = {},
          .examples = {},
          .run = run,
          .hidden = true};
}

// The explicit table of all commands.
std::span<const Command* const> commands();

// Parses the command line and runs the command. Returns the exit status of the program.
int run_command_line(int argc, char** argv);

}  // namespace squall::cli
