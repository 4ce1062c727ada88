#include <fmt/format.h>

#include "base/text.h"
#include "safety/checks/table.h"

namespace squall::safety {

// A sick system teaches nothing when it is made sicker.
CheckResult check_steady_state(const Situation& situation) {
  if (!situation.baseline) {
    return cannot_tell("there was no baseline", "see the checks before it");
  }
  std::vector<std::string> violated;
  std::vector<std::string> open;
  std::size_t held = 0;
  for (const judge::PredictionResult& result : situation.baseline->predictions) {
    if (!result.steady_state || result.phase != "baseline") continue;
    const std::string line = fmt::format("{}: {}", result.name, result.reason);
    if (result.verdict == model::Verdict::kHeld) {
      ++held;
    } else if (result.verdict == model::Verdict::kViolated) {
      violated.push_back(line);
    } else {
      open.push_back(line);
    }
  }
  if (!violated.empty()) {
    return block(fmt::format("not healthy: {}", base::join(violated, "; ")),
                 "mend the system first; an experiment on a sick system teaches nothing");
  }
  if (!open.empty()) {
    return cannot_tell(
        base::join(open, "; "),
        "lengthen the baseline (phases: { baseline: 2min }) or raise the probe's rate");
  }
  if (held == 0) return pass("no steady state is defined for this system");
  return pass(base::counted(held, "prediction") + " held in the baseline");
}

}  // namespace squall::safety
