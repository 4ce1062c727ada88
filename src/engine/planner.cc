#include "engine/planner.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/digest.h"
#include "base/units.h"
#include "inject/client.h"
#include "judge/judge.h"

namespace squall::engine {

namespace {

std::uint64_t seed_of(const model::Experiment& experiment, std::string_view text) {
  if (experiment.seed != 0) return experiment.seed;
  const std::string digest = base::sha256_hex(text);
  std::uint64_t seed = 0;
  std::from_chars(digest.data(), digest.data() + 12, seed, 16);
  return seed;
}

std::string location_of(const model::Location& location) {
  const std::size_t slash = location.file.rfind('/');
  const std::string name =
      slash == std::string::npos ? location.file : location.file.substr(slash + 1);
  return fmt::format("{}:{}:{}", name, location.line, location.column);
}

void add_predictions(model::Plan& plan, const model::SystemMap& map,
                     const model::Experiment& experiment) {
  const auto add = [&](const model::Prediction& prediction, bool steady_state) {
    plan.predictions.push_back(
        {prediction.name, prediction.text, steady_state, location_of(prediction.location)});
    plan.decidability.push_back(judge::decidability(prediction, map, experiment));
  };
  for (const model::Prediction& prediction : experiment.hypothesis) add(prediction, false);
  for (const model::Prediction& prediction : map.steady_state) add(prediction, true);
  for (const model::Prediction& rule : experiment.abort_when) plan.abort_when.push_back(rule.text);
  for (const model::Prediction& rule : map.abort_when) plan.abort_when.push_back(rule.text);
}

void add_warnings(model::Plan& plan) {
  for (std::size_t i = 0; i < plan.faults.size(); ++i) {
    for (std::size_t j = i + 1; j < plan.faults.size(); ++j) {
      const model::PlannedFault& a = plan.faults[i];
      const model::PlannedFault& b = plan.faults[j];
      if (a.at < b.at + b.duration && b.at < a.at + a.duration) {
        plan.warnings.push_back(
            fmt::format("faults `{}` and `{}` overlap: what follows cannot be put down to either "
                        "of them; one fault at a time teaches more",
                        a.name, b.name));
      }
    }
  }
  for (const model::Decidability& each : plan.decidability) {
    if (!each.decidable) {
      plan.warnings.push_back(fmt::format("`{}`: {}", each.prediction, each.message));
    }
  }
}

}  // namespace

model::Plan make_plan(const model::SystemMap& map, const model::Experiment& experiment,
                      std::string_view experiment_text) {
  model::Plan plan;
  plan.experiment = experiment.name;
  plan.system = map.name;
  plan.scenario = experiment.scenario;
  plan.environment = map.environment.name;
  plan.production = map.environment.production;
  plan.seed = seed_of(experiment, experiment_text);
  plan.blast_radius = experiment.blast_radius;
  if (plan.blast_radius.processes == 0) plan.blast_radius.processes = 1;
  plan.phases = experiment.phases;
  plan.lag_limit = experiment.lag_limit;
  plan.drop_limit = experiment.drop_limit;
  plan.lifetime = model::LifetimeClass::kKernelHeld;
  for (const model::FaultSpecification& fault : experiment.faults) {
    plan.faults.push_back(inject::describe(map, fault));
    plan.lifetime = std::max(plan.lifetime, plan.faults.back().lifetime);
  }
  add_predictions(plan, map, experiment);
  add_warnings(plan);
  return plan;
}

}  // namespace squall::engine
