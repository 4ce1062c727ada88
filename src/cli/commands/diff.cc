#include <array>
#include <nlohmann/json.hpp>

#include "cli/commands/table.h"
#include "cli/console.h"
#include "cli/context.h"
#include "cli/run_view.h"
#include "report/difference.h"

namespace squall::cli {

namespace {

base::ExitStatus run(const Arguments& arguments) {
  auto then = open_run(arguments, arguments.positional("THEN"));
  if (!then.ok()) return fail(then.error());
  auto now = open_run(arguments, arguments.positional("NOW"));
  if (!now.ok()) return fail(now.error());
  const report::RunDifference difference = report::compare(view_of(**then), view_of(**now));
  if (arguments.flag("--json")) {
    print_json(report::render_difference_json(difference));
  } else {
    print(report::render_difference_terminal(difference, terminal_options()));
  }
  return base::ExitStatus::kHeld;
}

constexpr std::array kPositionals = {
    Positional{"THEN", "The earlier run: id, part of it, or a record file"},
    Positional{"NOW", "The later run; default: the last one", false}};
constexpr std::array kOptions = {kMapOption, kJsonOption};
constexpr std::array<std::string_view, 2> kExamples = {"squall diff 3f2a last",
                                                       "squall diff main.record branch.record"};

}  // namespace

const Command kDiffCommand{
    .name = "diff",
    .group = "Learn",
    .summary = "Two runs, prediction by prediction: what was fixed, what was discovered",
    .details = {},
    .positionals = kPositionals,
    .options = kOptions,
    .examples = kExamples,
    .run = run,
};

}  // namespace squall::cli
