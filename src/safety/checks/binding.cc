#include <fmt/format.h>

#include <algorithm>

#include "base/text.h"
#include "safety/checks/table.h"

namespace squall::safety {

CheckResult check_binding(const Situation& situation) {
  if (!situation.binding_errors.empty()) {
    std::vector<std::string> reasons;
    std::vector<std::string> remedies;
    for (const base::Error& error : situation.binding_errors) {
      reasons.push_back(error.to_string());
      const bool told = std::find(remedies.begin(), remedies.end(), error.hint) != remedies.end();
      if (!error.hint.empty() && !told) remedies.push_back(error.hint);
    }
    return block(base::join(reasons, "; "), base::join(remedies, "; "));
  }
  if (situation.binding == nullptr) {
    return cannot_tell("the targets were not looked up", "run `squall plan` to see why");
  }
  const std::vector<std::string> reasons = model::misfits(*situation.plan, *situation.binding);
  if (!reasons.empty()) {
    return block(base::join(reasons, "; "),
                 "widen blast_radius in the experiment, or narrow the fault's target");
  }
  std::vector<std::string> targets;
  for (const model::FaultBinding& fault : situation.binding->faults) {
    for (const model::BoundTarget& target : fault.targets) targets.push_back(target.description);
  }
  return pass(targets.empty() ? "no process is touched" : base::enumerate(targets));
}

}  // namespace squall::safety
