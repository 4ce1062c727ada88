#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <nlohmann/json.hpp>

#include "base/text.h"
#include "cli/commands/table.h"
#include "cli/console.h"
#include "cli/context.h"
#include "engine/planner.h"
#include "engine/situation.h"
#include "host/host.h"
#include "inject/client.h"
#include "inject/policy.h"
#include "inject/warden.h"

namespace squall::cli {

namespace {

base::Json as_json(const inject::MechanismReport& report) {
  return {{"mechanism", report.mechanism},
          {"works", report.works},
          {"detail", report.detail},
          {"precision", report.precision},
          {"remedy", report.remedy},
          {"kinds", report.kinds},
          {"class", std::string(model::to_string(report.lifetime))}};
}

// Would the faults of this experiment find their targets and a mechanism on this host, now?
base::ExitStatus check_experiment(const Arguments& arguments, const std::string& file) {
  auto map = load_map(arguments, file);
  if (!map.ok()) return fail(map.error());
  auto experiment = engine::load_experiment(file, map->map);
  if (!experiment.ok()) return fail(experiment.error());
  const model::Plan plan = engine::make_plan(map->map, experiment->experiment, experiment->text);
  const engine::BoundPlan bound =
      engine::bind_plan(plan, map->map, experiment->experiment, host::real_host());
  for (const model::FaultBinding& fault : bound.binding.faults) {
    print_line(fmt::format("{} {}: {} by {} [{}]", paint("ok", Colour::kGreen, colour_on_output()),
                           fault.fault, fault.kind, fault.mechanism,
                           model::to_string(fault.lifetime)));
    for (const model::BoundTarget& target : fault.targets) {
      print_line(fmt::format("   {}", target.description));
    }
  }
  base::ExitStatus status = base::ExitStatus::kHeld;
  for (const base::Error& error : bound.errors) status = fail(error);
  return status;
}

// Who may inject faults here: we, by which way, and what the policy says to others than root.
void print_callers() {
  const inject::WardenReport warden = inject::examine_warden();
  const bool may = geteuid() == 0 || warden.usable;
  print_line(fmt::format("{} {}",
                         may ? paint("ok", Colour::kGreen, colour_on_output())
                             : paint("no", Colour::kRed, colour_on_output()),
                         warden.text));
  if (!warden.remedy.empty()) print_line("   " + warden.remedy);
  const auto policy = inject::read_policy({});
  if (policy.ok()) {
    print_line(
        fmt::format("{} policy {}: {}; others than root may otherwise only touch processes "
                    "of their own",
                    paint("ok", Colour::kGreen, colour_on_output()), policy->file,
                    base::counted(policy->rules.size(), "rule")));
  } else if (geteuid() == 0 || policy.error().code != base::ErrorCode::kPermission) {
    print_line(fmt::format("{} policy: only root may inject faults until it is put right:\n{}",
                           paint("no", Colour::kRed, colour_on_output()), policy.error().message));
    if (!policy.error().hint.empty()) print_line("   " + policy.error().hint);
  }
}

base::ExitStatus run(const Arguments& arguments) {
  if (const auto file = arguments.option("--for")) return check_experiment(arguments, *file);
  const auto reports = inject::probe_mechanisms();
  const auto leases = inject::active_leases();
  if (arguments.flag("--json")) {
    base::Json json = {{"root", geteuid() == 0}, {"mechanisms", base::Json::array()}};
    for (const auto& report : reports) json["mechanisms"].push_back(as_json(report));
    const inject::WardenReport warden = inject::examine_warden();
    json["warden"] = warden.runs;
    json["may_inject"] = geteuid() == 0 || warden.usable;
    if (leases.ok()) json["active_leases"] = leases->size();
    print_json(json);
    return base::ExitStatus::kHeld;
  }
  for (const auto& report : reports) {
    print_line(fmt::format("{} {:<24} {:<12} {}",
                           report.works ? paint("ok", Colour::kGreen, colour_on_output())
                                        : paint("no", Colour::kRed, colour_on_output()),
                           report.mechanism, model::to_string(report.lifetime), report.detail));
    if (!report.precision.empty()) print_line(fmt::format("   {}", report.precision));
    if (!report.kinds.empty()) print_line(fmt::format("   for {}", base::enumerate(report.kinds)));
    if (!report.works && !report.remedy.empty()) print_line(fmt::format("   {}", report.remedy));
  }
  print_callers();
  if (!leases.ok()) {
    (void)fail(leases.error());
  } else if (leases->empty()) {
    print_line("clean: no fault is active on this host");
  } else {
    print_line(
        fmt::format("{} active: see `squall status`", base::counted(leases->size(), "fault")));
  }
  return base::ExitStatus::kHeld;
}

constexpr std::array kOptions = {
    kMapOption, kEnvironmentOption, kJsonOption,
    Option{"--for", "EXPERIMENT", "Ask only whether this experiment's faults can be bound now"}};
constexpr std::array<std::string_view, 2> kExamples = {
    "squall doctor", "squall doctor --for worker-dies.yaml --env dev"};

}  // namespace

const Command kDoctorCommand{
    .name = "doctor",
    .group = "Design",
    .summary = "What this host can do, tried on scratch targets of our own",
    .details = {},
    .positionals = {},
    .options = kOptions,
    .examples = kExamples,
    .run = run,
};

}  // namespace squall::cli
