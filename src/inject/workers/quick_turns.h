#pragma once
// For workers that somebody waits for: a processor without delay, also on a busy machine.

namespace squall::inject {

// The lowest real-time priority and precise timers; false where that is not allowed (then the best
// of the ordinary ones). The worker must sleep at least every 0.4 s, or the kernel kills it: one
// that never sleeps again would take a processor from everybody. Call it before confine().
bool ask_for_quick_turns();

}  // namespace squall::inject
