#include <fmt/format.h>

#include <algorithm>

#include "safety/checks/table.h"

namespace squall::safety {

namespace {

bool touches(const OtherLease& lease, const model::BoundTarget& target) {
  const auto& processes = lease.processes;
  if (target.process.pid != 0 &&
      std::find(processes.begin(), processes.end(), target.process) != processes.end()) {
    return true;
  }
  const auto& words = lease.targets;
  return std::find(words.begin(), words.end(), target.description) != words.end();
}

}  // namespace

CheckResult check_overlap(const Situation& situation) {
  if (!situation.other_leases || !situation.other_leases->ok()) {
    return cannot_tell(situation.other_leases ? situation.other_leases->error().to_string()
                                              : "the leases on this host were not looked up",
                       "run `squall status` to see what is active");
  }
  const std::vector<OtherLease>& leases = situation.other_leases->value();
  if (situation.binding != nullptr) {
    for (const model::FaultBinding& fault : situation.binding->faults) {
      for (const model::BoundTarget& target : fault.targets) {
        for (const OtherLease& lease : leases) {
          if (!touches(lease, target) || (fault.overlap && lease.overlap)) continue;
          const std::string_view who = fault.overlap   ? "the other plan does"
                                       : lease.overlap ? "this plan does"
                                                       : "both plans do";
          return block(
              fmt::format("{} is held by fault `{}` of run {} ({}), and {} not say `overlap: true`",
                          target.description, lease.fault, lease.run, lease.experiment, who),
              fmt::format("wait for it, or end it: squall stop {}", lease.run));
        }
      }
    }
  }
  return pass(leases.empty()
                  ? "no other fault is active on this host"
                  : fmt::format("{} other faults are active, none on these targets without leave",
                                leases.size()));
}

}  // namespace squall::safety
