#pragma once
// One function a check, one file each; check.cc lists them.

#include "safety/check.h"

namespace squall::safety {

CheckResult check_environment(const Situation& situation);
CheckResult check_binding(const Situation& situation);
CheckResult check_overlap(const Situation& situation);
CheckResult check_kill_switch(const Situation& situation);
CheckResult check_probes(const Situation& situation);
CheckResult check_rehearsal(const Situation& situation);
CheckResult check_evidence_room(const Situation& situation);
CheckResult check_signals(const Situation& situation);
CheckResult check_steady_state(const Situation& situation);

}  // namespace squall::safety
