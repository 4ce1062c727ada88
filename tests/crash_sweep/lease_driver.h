#pragma once
// The engine of a sweep, a process of its own so that it can be killed: arms one fault, waits until
// it is effective or a moment, has it reverted, and ends when that is verified.
//
// At two moments it waits until the sweep has looked at the host: when the fault is armed, and when
// it was told that the fault is gone. For that it makes a file in the folder and waits at a named
// pipe: in one call, for each of its calls is a point.

#include <string>
#include <vector>

namespace squall::crash_sweep {

inline constexpr const char* kArmedMark = "/state-armed";
inline constexpr const char* kGoneMark = "/state-gone";
inline constexpr const char* kLookedPipe = "/state-looked";

// What the engine learned. Whatever is neither of the first two leaves it to `squall cleanup`.
enum class DriverExit {
  kVerified = 0,
  kNotArmed = 7,  // arming failed, and what was done of it is undone
  kLeft = 8,      // it was told that the fault may still be there
  kBroken = 9,    // it lost touch
};

// What it does when the fault is in force.
struct Course {
  bool kill_holder = false;   // instead of asking for the revert
  bool await_joined = false;  // first waits until another member has joined, or a while
};

int drive_lease(const std::string& run, const std::string& folder, const std::string& binding_file,
                Course course, std::vector<std::string> keeper_argv);

}  // namespace squall::crash_sweep
