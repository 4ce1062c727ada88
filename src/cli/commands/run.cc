#include <fmt/format.h>

#include <array>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "cli/commands/table.h"
#include "cli/console.h"
#include "cli/context.h"
#include "cli/progress_display.h"
#include "cli/run_view.h"
#include "engine/run.h"

namespace squall::cli {

namespace {

DisplayStyle style_of(const Arguments& arguments) {
  if (arguments.flag("--quiet")) return DisplayStyle::kQuiet;
  return error_is_terminal() && !arguments.flag("--plain") ? DisplayStyle::kTerminal
                                                           : DisplayStyle::kPlain;
}

base::Status write_report(const engine::ArchivedRun& run, const std::string& path) {
  return base::write_file_atomically(path, report::render_html(view_of(run)));
}

base::ExitStatus run(const Arguments& arguments) {
  const std::string file = arguments.positional("EXPERIMENT");
  auto map = load_map(arguments, file);
  if (!map.ok()) return fail(map.error());
  auto experiment = engine::load_experiment(file, map->map);
  if (!experiment.ok()) return fail(experiment.error());

  const auto display = make_progress_display(style_of(arguments));
  const engine::RunOptions options{*map, *experiment, arguments.option_or("--plan", ""), {}};
  auto result = engine::run_experiment(options, *display);
  if (!result.ok()) return fail(result.error());

  auto archived = engine::open_archived(result->record_path);
  if (!archived.ok()) return fail(archived.error());
  // The same, unless the record could not be written to its end.
  (*archived)->judgement = result->judgement;
  if (arguments.flag("--json")) {
    print_json(report::render_json(view_of(**archived)));
  } else {
    print(report::render_terminal(view_of(**archived), terminal_options()));
  }
  if (const auto path = arguments.option("--report")) {
    if (const auto written = write_report(**archived, *path); !written.ok()) {
      (void)fail(written.error());
    } else {
      say(fmt::format("report: {}", *path));
    }
  }
  return static_cast<base::ExitStatus>(result->exit_status);
}

constexpr std::array kPositionals = {Positional{"EXPERIMENT", "The experiment file"}};
constexpr std::array kOptions = {
    kMapOption,
    kEnvironmentOption,
    kJsonOption,
    Option{"--plan", "HASH", "Refuse to run unless the plan has this hash (or its beginning)"},
    Option{"--report", "FILE", "Also write the HTML report"},
    Option{"--plain", {}, "One line an event, also on a terminal"},
    Option{"--quiet", {}, "No progress, only the result"}};
constexpr std::array<std::string_view, 3> kExamples = {
    "squall run worker-dies.yaml --env dev",
    "squall run worker-dies.yaml --env dev --report out.html",
    "squall run worker-dies.yaml --env staging --json > result.json"};

}  // namespace

const Command kRunCommand{
    .name = "run",
    .group = "Run",
    .summary = "Run one experiment: preflight, baseline, fault, recovery, verdicts",
    .details =
        "Needs root in this version, to inject. Ctrl-C reverts and judges what was seen; a "
        "second one leaves at once.\nExit status: 0 all held, 1 tool error, 2 bad file, 3 "
        "blocked, 4 violated, 5 inconclusive,\n6 aborted, 7 stopped, 8 a revert could not "
        "be verified.",
    .positionals = kPositionals,
    .options = kOptions,
    .examples = kExamples,
    .run = run,
};

}  // namespace squall::cli
