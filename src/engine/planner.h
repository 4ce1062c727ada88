#pragma once
#include "model/plan.h"

namespace squall::engine {

// The plan of an experiment on a system: pure, the same files give the same plan and hash. A seed
// that the experiment does not state is derived from its text, so that a plan stays the same until
// somebody changes the experiment.
model::Plan make_plan(const model::SystemMap& map, const model::Experiment& experiment,
                      std::string_view experiment_text);

}  // namespace squall::engine
