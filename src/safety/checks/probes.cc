#include <fmt/format.h>

#include "base/text.h"
#include "safety/checks/table.h"

namespace squall::safety {

CheckResult check_probes(const Situation& situation) {
  std::vector<std::string> failures;
  std::string remedy;
  for (const ProbeAnswer& probe : situation.probes) {
    if (!probe.error) continue;
    failures.push_back(fmt::format("{}: {}", probe.probe, probe.error->to_string()));
    if (remedy.empty()) remedy = probe.error->hint;
  }
  if (failures.empty()) return pass(base::counted(situation.probes.size(), "probe") + " answered");
  if (remedy.empty()) remedy = "start the system, or mend the probe in the system map";
  return block(base::join(failures, "; "), remedy);
}

}  // namespace squall::safety
