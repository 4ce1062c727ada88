#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "base/text.h"
#include "model/plan.h"

namespace squall::model {
namespace {

using Processes = std::set<std::pair<pid_t, std::uint64_t>>;

bool contains(const std::vector<std::string>& list, const std::string& wanted) {
  return std::find(list.begin(), list.end(), wanted) != list.end();
}

void compare(const Plan& plan, const PlannedFault& planned, const FaultBinding& bound,
             Processes& touched, std::vector<std::string>& result) {
  if (bound.kind != planned.kind) {
    result.push_back(fmt::format("fault `{}` is planned as {} and bound as {}", planned.name,
                                 planned.kind, bound.kind));
  }
  if (bound.targets.empty()) {
    result.push_back(fmt::format("fault `{}` is bound to nothing", planned.name));
  }
  if (!contains(planned.mechanisms, bound.mechanism)) {
    result.push_back(fmt::format(
        "fault `{}` would use the mechanism {}; the plan permits {}", planned.name, bound.mechanism,
        planned.mechanisms.empty() ? "none" : base::enumerate(planned.mechanisms)));
  }
  // Ordered from the strongest to the weakest.
  if (bound.lifetime > planned.lifetime) {
    result.push_back(fmt::format("fault `{}` would be {}; the plan allows {} at the weakest",
                                 planned.name, to_string(bound.lifetime),
                                 to_string(planned.lifetime)));
  }
  if (bound.overlap && !planned.overlap) {
    result.push_back(
        fmt::format("fault `{}` would share its targets; the plan does not say "
                    "`overlap: true`",
                    planned.name));
  }
  Processes own;
  for (const BoundTarget& target : bound.targets) {
    if (target.process.pid != 0) own.emplace(target.process.pid, target.process.start_time);
    if (!target.service.empty() && !contains(plan.blast_radius.services, target.service)) {
      result.push_back(
          fmt::format("fault `{}` would touch {} of service `{}`, which is outside the "
                      "blast radius",
                      planned.name, target.description, target.service));
    } else if (!target.service.empty() && !contains(planned.services, target.service)) {
      result.push_back(
          fmt::format("fault `{}` would touch {} of service `{}`, which it does not "
                      "name",
                      planned.name, target.description, target.service));
    }
  }
  if (own.size() > static_cast<std::size_t>(std::max(planned.processes_max, 0))) {
    result.push_back(fmt::format("fault `{}` would touch {} processes; the plan allows {}",
                                 planned.name, own.size(), planned.processes_max));
  }
  touched.merge(own);
}

}  // namespace

std::vector<std::string> misfits(const Plan& plan, const Binding& binding) {
  std::vector<std::string> result;
  Processes touched;
  for (const PlannedFault& planned : plan.faults) {
    auto of_fault = [&](const FaultBinding& bound) { return bound.fault == planned.name; };
    auto count = std::count_if(binding.faults.begin(), binding.faults.end(), of_fault);
    if (count == 0) result.push_back(fmt::format("fault `{}` is not bound", planned.name));
    if (count > 1) result.push_back(fmt::format("fault `{}` is bound twice", planned.name));
    for (const FaultBinding& bound : binding.faults) {
      if (of_fault(bound)) compare(plan, planned, bound, touched, result);
    }
  }
  for (const FaultBinding& bound : binding.faults) {
    bool known =
        std::any_of(plan.faults.begin(), plan.faults.end(),
                    [&](const PlannedFault& planned) { return planned.name == bound.fault; });
    if (!known) result.push_back(fmt::format("the plan has no fault `{}`", bound.fault));
  }
  auto allowed = static_cast<std::size_t>(std::max(1, plan.blast_radius.processes));
  if (touched.size() > allowed) {
    result.push_back(fmt::format("{} processes would be touched; the blast radius allows {}",
                                 touched.size(), allowed));
  }
  return result;
}

}  // namespace squall::model
