#pragma once
// The ways in which process.pause makes processes stand still, each with the life of a fault. Its
// targets are opened by the kind, which also watches them.

#include <memory>
#include <string_view>
#include <vector>

#include "inject/fault.h"
#include "inject/faults/process/targets.h"
#include "inject/freezer.h"

namespace squall::inject {

inline constexpr std::string_view kFreezer2 = "cgroup v2 freezer";
inline constexpr std::string_view kFreezer1 = "cgroup v1 freezer";
inline constexpr std::string_view kTracerStop = "ptrace stop";
inline constexpr std::string_view kStopSignal = "SIGSTOP";

class Standstill : public Fault {
 public:
  // Takes in a member that came up while the others stand still; called again as the step says.
  // kUnsupported when it is out of this one's reach, and nothing was changed.
  virtual Step join(const Target& fresh) = 0;
};

// Through pidfds, each process of the trees, and what is born until all of them stand.
std::unique_ptr<Standstill> stand_still_by_signal(std::vector<Target> targets,
                                                  FaultContext& context);
// The group must hold the targets' trees and nothing else.
std::unique_ptr<Standstill> stand_still_by_freezer(std::vector<Target> targets, Freezer freezer,
                                                   FaultContext& context);
// By workers that trace all threads of the trees and end with the holder (workers/stopper).
std::unique_ptr<Standstill> stand_still_by_tracer(std::vector<Target> targets,
                                                  FaultContext& context);

}  // namespace squall::inject
