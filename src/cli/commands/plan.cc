#include <fmt/format.h>

#include <array>
#include <nlohmann/json.hpp>

#include "base/text.h"
#include "base/units.h"
#include "cli/commands/table.h"
#include "cli/console.h"
#include "cli/context.h"
#include "engine/planner.h"
#include "engine/situation.h"
#include "host/host.h"

namespace squall::cli {

namespace {

std::string heading(std::string_view text) {
  return paint(text, Colour::kBold, colour_on_output()) + "\n";
}

std::string describe(const model::PlannedFault& fault) {
  std::string text =
      fmt::format("  {}: {} on {}, at {} for {}\n", fault.name, fault.kind, fault.target,
                  base::format_duration(fault.at), base::format_duration(fault.duration));
  for (const model::PlannedChange& change : fault.changes) {
    text += fmt::format("    change  {}\n    revert  {}  [{}]\n", change.change, change.revert,
                        model::to_string(change.lifetime));
  }
  if (fault.overlap)
    text += "    overlap allowed: another fault that says so, too, may be on the same targets\n";
  return text;
}

std::string describe(const model::Plan& plan) {
  std::string text = fmt::format(
      "{}\n{}\n\n", paint(plan.experiment, Colour::kBold, colour_on_output()), plan.scenario);
  text += heading("Faults: each change beside its revert");
  for (const model::PlannedFault& fault : plan.faults) text += describe(fault);
  text += heading("Blast radius");
  text += fmt::format(
      "  services {}; at most {}; {}\n", fmt::join(plan.blast_radius.services, ", "),
      base::counted(static_cast<std::size_t>(plan.blast_radius.processes), "process", "processes"),
      base::format_duration(plan.blast_radius.duration));
  text += fmt::format("  if everything of Squall is killed: {}\n", model::to_string(plan.lifetime));
  text += heading("Predictions: can the planned traffic decide them?");
  for (std::size_t i = 0; i < plan.predictions.size(); ++i) {
    const model::PlannedPrediction& prediction = plan.predictions[i];
    const model::Decidability& power = plan.decidability[i];
    text += fmt::format("  {} {}{}: {}\n      {} ({})\n",
                        power.decidable ? "yes" : paint("no ", Colour::kYellow, colour_on_output()),
                        prediction.name, prediction.steady_state ? " (steady state)" : "",
                        prediction.text, power.message, power.method);
  }
  text += heading("Stops at once when");
  for (const std::string& rule : plan.abort_when) text += fmt::format("  {}\n", rule);
  for (const std::string& warning : plan.warnings) {
    text += fmt::format("{} {}\n", paint("warning:", Colour::kYellow, colour_on_output()), warning);
  }
  text += fmt::format("\nenvironment {}{}, seed {}\nplan {}\n",
                      plan.environment.empty() ? "production" : plan.environment,
                      plan.production ? " (production: needs approvals)" : "", plan.seed,
                      model::plan_hash(plan));
  return text;
}

base::ExitStatus run(const Arguments& arguments) {
  const std::string file = arguments.positional("EXPERIMENT");
  auto map = load_map(arguments, file);
  if (!map.ok()) return fail(map.error());
  auto experiment = engine::load_experiment(file, map->map);
  if (!experiment.ok()) return fail(experiment.error());
  const model::Plan plan = engine::make_plan(map->map, experiment->experiment, experiment->text);
  if (arguments.flag("--json")) {
    base::Json json = model::to_json(plan);
    json["hash"] = model::plan_hash(plan);
    print_json(json);
  } else {
    print(describe(plan));
  }
  if (!arguments.flag("--bind")) return base::ExitStatus::kHeld;
  const engine::BoundPlan bound =
      engine::bind_plan(plan, map->map, experiment->experiment, host::real_host());
  for (const model::FaultBinding& fault : bound.binding.faults) {
    for (const model::BoundTarget& target : fault.targets) {
      say(fmt::format("would touch now: {} by {}", target.description, fault.mechanism));
    }
  }
  for (const base::Error& error : bound.errors) return fail(error);
  return base::ExitStatus::kHeld;
}

constexpr std::array kPositionals = {Positional{"EXPERIMENT", "The experiment file"}};
constexpr std::array kOptions = {
    kMapOption, kEnvironmentOption, kJsonOption,
    Option{"--bind", {}, "Also look up what it would touch on this host now"}};
constexpr std::array<std::string_view, 2> kExamples = {
    "squall plan worker-dies.yaml --env dev", "squall plan worker-dies.yaml --env dev --bind"};

}  // namespace

const Command kPlanCommand{
    .name = "plan",
    .group = "Design",
    .summary = "Show what would be changed, how it is undone, and what can be decided",
    .details =
        "Changes nothing. The hash names the plan: `squall run --plan HASH` refuses another.",
    .positionals = kPositionals,
    .options = kOptions,
    .examples = kExamples,
    .run = run,
};

}  // namespace squall::cli
