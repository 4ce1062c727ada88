#pragma once
// The freezer that rules a process, whichever hierarchy has it: the v1 controller, or v2's
// cgroup.freeze. Container engines pause by it.

#include <sys/types.h>

#include <string>

#include "base/result.h"
#include "inject/cgroup.h"

namespace squall::inject {

struct Freezer {
  std::string folder;  // of the group, with the mount
  bool v2 = false;
};
// kUnsupported when the process is in no group of its own; kNotFound when it is gone.
base::Result<Freezer> freezer_of(pid_t pid);

// kNotFound when the group is gone.
base::Result<FreezeState> read_freezer(const Freezer& freezer);
base::Status thaw(const Freezer& freezer);
// The file and what to write into it, for people.
std::string thaw_by_hand(const Freezer& freezer);
std::string freeze_by_hand(const Freezer& freezer);

}  // namespace squall::inject
