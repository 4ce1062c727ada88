// The only file that knows CLI11: it turns the command tables into a parser and their help.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>

#include "base/check.h"
#include "base/log.h"
#include "base/text.h"
#include "base/version.h"
#include "cli/command.h"
#include "cli/console.h"

namespace squall::cli {

namespace {

// Where CLI11 stores what it parsed for one command.
struct Parsed {
  std::map<std::string, bool> flags;
  std::map<std::string, std::string> options;
  std::map<std::string, std::vector<std::string>> positionals;
};

constexpr std::string_view kIntroduction =
    "Squall breaks one thing on purpose, and tells you prediction by prediction whether you were "
    "right.\nNo fault outlives its experiment.";

std::string footer_of(const Command& command) {
  std::string footer;
  if (!command.details.empty()) footer += fmt::format("{}\n", command.details);
  if (!command.examples.empty()) footer += "\nExamples:\n";
  for (const std::string_view example : command.examples) footer += fmt::format("  {}\n", example);
  return footer;
}

void describe(CLI::App& app, const Command& command, Parsed& parsed) {
  for (const Positional& positional : command.positionals) {
    const std::string name(positional.name);
    const std::string summary(positional.summary);
    // A single positional is bound to one string: CLI11 lets a vector take all that follows.
    CLI::Option* option = positional.repeated
                              ? app.add_option(name, parsed.positionals[name], summary)
                              : app.add_option(name, parsed.options[name], summary);
    option->type_name("");
    if (positional.required) option->required();
  }
  for (const Option& each : command.options) {
    const std::string name(each.name);
    if (each.value.empty()) {
      app.add_flag(name, parsed.flags[name], std::string(each.summary));
    } else {
      app.add_option(name, parsed.options[name], std::string(each.summary))
          ->type_name(std::string(each.value));
    }
  }
  app.add_flag("--no-color", parsed.flags["--no-color"], "Plain text");
  app.footer(footer_of(command));
}

std::string overview() {
  std::string text = fmt::format("{}\n\nUsage: squall COMMAND [ARGUMENTS]\n", kIntroduction);
  std::vector<std::string_view> groups;
  for (const Command* command : commands()) {
    if (!command->hidden &&
        std::find(groups.begin(), groups.end(), command->group) == groups.end()) {
      groups.push_back(command->group);
    }
  }
  for (const std::string_view group : groups) {
    text += fmt::format("\n{}\n", group);
    for (const Command* command : commands()) {
      if (command->hidden || command->group != group) continue;
      text += fmt::format("  {:<10} {}\n", command->name, command->summary);
    }
  }
  text += "\n`squall COMMAND --help` shows arguments and examples.\n";
  return text;
}

base::ExitStatus usage_error(std::string message, std::string hint) {
  return fail(base::Error{.code = base::ErrorCode::kUsage,
                          .message = std::move(message),
                          .hint = std::move(hint),
                          .context = {}});
}

const Command* find_command(std::string_view name) {
  for (const Command* command : commands()) {
    if (command->name == name) return command;
  }
  return nullptr;
}

Arguments arguments_of(const Command& command, Parsed&& parsed, const CLI::App& app) {
  Arguments arguments;
  for (const Option& each : command.options) {
    const std::string name(each.name);
    if (each.value.empty()) {
      arguments.flags[name] = parsed.flags[name];
    } else if (app.get_option(name)->count() > 0) {
      arguments.options[name] = parsed.options[name];
    }
  }
  for (const Positional& each : command.positionals) {
    const std::string name(each.name);
    auto& values = arguments.positional_values[name];
    if (each.repeated) {
      values = std::move(parsed.positionals[name]);
    } else if (app.get_option(name)->count() > 0) {
      values = {parsed.options[name]};
    }
  }
  return arguments;
}

int run_one(const Command& command, int argc, char** argv) {
  CLI::App app(std::string(command.summary), fmt::format("squall {}", command.name));
  app.set_help_flag("-h,--help", "This text");
  Parsed parsed;
  describe(app, command, parsed);
  try {
    app.parse(argc - 1, argv + 1);
  } catch (const CLI::CallForHelp&) {
    print(app.help());
    return 0;
  } catch (const CLI::ParseError& error) {
    return static_cast<int>(usage_error(
        error.what(), fmt::format("`squall {} --help` shows what it takes", command.name)));
  }
  if (parsed.flags["--no-color"]) forbid_colour();
  return static_cast<int>(command.run(arguments_of(command, std::move(parsed), app)));
}

}  // namespace

bool Arguments::flag(std::string_view name) const {
  const auto found = flags.find(name);
  SQUALL_CHECK(found != flags.end());
  return found->second;
}
std::optional<std::string> Arguments::option(std::string_view name) const {
  const auto found = options.find(name);
  if (found == options.end()) return std::nullopt;
  return found->second;
}
std::string Arguments::option_or(std::string_view name, std::string_view fallback) const {
  return option(name).value_or(std::string(fallback));
}
std::vector<std::string> Arguments::positionals(std::string_view name) const {
  const auto found = positional_values.find(name);
  SQUALL_CHECK(found != positional_values.end());
  return found->second;
}
std::string Arguments::positional(std::string_view name) const {
  const std::vector<std::string> values = positionals(name);
  return values.empty() ? std::string{} : values.front();
}

int run_command_line(int argc, char** argv) {
  if (argc < 2) {
    print(overview());
    return static_cast<int>(base::ExitStatus::kUsage);
  }
  std::string_view name = argv[1];
  if (name == "-h" || name == "--help" || name == "help") {
    if (argc > 2) {
      if (const Command* command = find_command(argv[2]); command != nullptr) {
        std::string help = "--help";
        std::vector<char*> arguments = {argv[0], argv[2], help.data()};
        return run_one(*command, 3, arguments.data());
      }
    }
    print(overview());
    return 0;
  }
  if (name == "--version" || name == "-V") name = "version";
  const Command* command = find_command(name);
  if (command == nullptr) {
    std::vector<std::string> names;
    for (const Command* each : commands()) {
      if (!each->hidden) names.emplace_back(each->name);
    }
    return static_cast<int>(
        usage_error(fmt::format("there is no command `{}`.{}", base::printable(name),
                                base::did_you_mean(name, names)),
                    "`squall --help` lists the commands"));
  }
  return run_one(*command, argc, argv);
}

}  // namespace squall::cli
