#include <fmt/format.h>

#include "safety/checks/table.h"

namespace squall::safety {

CheckResult check_kill_switch(const Situation& situation) {
  if (!situation.kill_switch || !situation.kill_switch->ok()) {
    return cannot_tell(situation.kill_switch ? situation.kill_switch->error().to_string()
                                             : "the kill switch was not read",
                       "run `squall status`");
  }
  const std::optional<Engaged>& engaged = situation.kill_switch->value();
  if (!engaged) return pass("off");
  return block(
      fmt::format("engaged by {} since {}: {}", engaged->who, engaged->since, engaged->why),
      "when it is safe again: squall release");
}

}  // namespace squall::safety
