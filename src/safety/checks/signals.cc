#include <fmt/format.h>

#include "base/text.h"
#include "safety/checks/table.h"

namespace squall::safety {

CheckResult check_signals(const Situation& situation) {
  if (!situation.baseline) {
    return cannot_tell("there was no baseline", "see the checks before it");
  }
  if (situation.signals_without_data.empty()) return pass("all have data");
  return block(fmt::format("no data in the baseline for {}",
                           base::enumerate(situation.signals_without_data)),
               "check the probe of that name in the system map; `squall check` shows each probe");
}

}  // namespace squall::safety
