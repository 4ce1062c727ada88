#pragma once
// Binds the plan and gathers what the preflight checks need to know.

#include <string>
#include <vector>

#include "engine/workspace.h"
#include "host/host.h"
#include "inject/client.h"
#include "model/plan.h"
#include "observe/observer.h"
#include "safety/check.h"

namespace squall::engine {

// The binding, or what stood against it; one error a fault that could not be bound.
struct BoundPlan {
  model::Binding binding;
  std::vector<base::Error> errors;
};
BoundPlan bind_plan(const model::Plan& plan, const model::SystemMap& map,
                    const model::Experiment& experiment, const host::Host& host,
                    const std::string& inject_state_directory = {});

// How many bytes the record of this run may need, generously.
std::uint64_t record_size_estimate(const model::SystemMap& map,
                                   const model::Experiment& experiment);

struct SituationSources {
  const model::Plan& plan;
  const BoundPlan& bound;
  observe::Observer& observer;
  inject::HolderClient* holder;  // null: could not be started
  std::optional<base::Error> holder_error;
  std::string record_directory;
  std::uint64_t record_size = 0;
  std::string inject_state_directory;
};
// Everything before the baseline. Asks the probes and rehearses the reverts; takes as long as the
// slowest probe (seconds at most). `situation.plan` and `.binding` point into the sources.
safety::Situation gather_situation(const SituationSources& sources);

}  // namespace squall::engine
