#include <array>
#include <nlohmann/json.hpp>

#include "cli/commands/table.h"
#include "cli/console.h"
#include "cli/context.h"
#include "inject/client.h"

namespace squall::cli {

namespace {

base::ExitStatus run(const Arguments& arguments) {
  auto lines = inject::cleanup();
  if (!lines.ok()) return fail(lines.error());
  if (arguments.flag("--json")) {
    print_json({{"reverted", *lines}});
    return base::ExitStatus::kHeld;
  }
  if (lines->empty()) print_line("clean: nothing was left behind");
  for (const std::string& line : *lines) print_line(line);
  return base::ExitStatus::kHeld;
}

constexpr std::array kOptions = {kJsonOption};

}  // namespace

const Command kCleanupCommand{
    .name = "cleanup",
    .group = "Run",
    .summary = "Undo what a killed run left behind, from its revert journal",
    .details =
        "Safe to run at any time and as often as you like. Exit status 8 when something "
        "could not be undone; the message says what to do by hand.",
    .positionals = {},
    .options = kOptions,
    .examples = {},
    .run = run,
};

}  // namespace squall::cli
