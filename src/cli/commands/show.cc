#include <array>
#include <nlohmann/json.hpp>

#include "cli/commands/table.h"
#include "cli/console.h"
#include "cli/context.h"
#include "cli/run_view.h"

namespace squall::cli {

namespace {

base::ExitStatus run(const Arguments& arguments) {
  auto archived = open_run(arguments, arguments.positional("RUN"));
  if (!archived.ok()) return fail(archived.error());
  if (arguments.flag("--json")) {
    print_json(report::render_json(view_of(**archived)));
  } else {
    print(report::render_terminal(view_of(**archived), terminal_options()));
  }
  return base::ExitStatus::kHeld;
}

constexpr std::array kPositionals = {kRunPositional};
constexpr std::array kOptions = {kMapOption, kJsonOption};
constexpr std::array<std::string_view, 2> kExamples = {"squall show", "squall show 3f2a --json"};

}  // namespace

const Command kShowCommand{
    .name = "show",
    .group = "Learn",
    .summary = "One run: verdicts, timeline, proofs",
    .details = "Judged anew from its record, also when the run died half-way.",
    .positionals = kPositionals,
    .options = kOptions,
    .examples = kExamples,
    .run = run,
};

}  // namespace squall::cli
