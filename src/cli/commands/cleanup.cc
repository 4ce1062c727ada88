#include <array>
#include <nlohmann/json.hpp>

#include "cli/commands/table.h"
#include "cli/console.h"
#include "cli/context.h"
#include "inject/client.h"

namespace squall::cli {

namespace {

base::ExitStatus run(const Arguments& arguments) {
  const auto forgotten = arguments.option("--forget");
  auto lines = forgotten ? inject::forget(*forgotten) : inject::cleanup();
  if (!lines.ok()) return fail(lines.error());
  if (arguments.flag("--json")) {
    print_json({{forgotten ? "forgotten" : "reverted", *lines}});
    return base::ExitStatus::kHeld;
  }
  if (lines->empty()) print_line("clean: nothing was left behind");
  for (const std::string& line : *lines) print_line(line);
  return base::ExitStatus::kHeld;
}

constexpr std::array kOptions = {
    Option{"--forget", "RUN",
           "Set the journals of this run aside without undoing anything: when its targets are gone "
           "for good, or you have put them right by hand"},
    kJsonOption};
constexpr std::array<std::string_view, 2> kExamples = {"squall cleanup",
                                                       "squall cleanup --forget 01a1fe78"};

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
    .examples = kExamples,
    .run = run,
};

}  // namespace squall::cli
