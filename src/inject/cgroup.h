#pragma once
// The cgroup v2 hierarchy, wherever it is mounted (alone, or beside v1 as `unified`). Groups are
// named by their path below the mount: "/system.slice/api.service".

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace squall::inject {

// Where the v2 hierarchy is mounted; kUnsupported when it is not.
base::Result<std::string> v2_mount();
// The group of a process; kUnsupported when it is the root, which cannot be frozen.
base::Result<std::string> v2_group_of(pid_t pid);

// Does the group whose folder (with the mount) is given, with all groups below it, hold these
// processes and what descends from them, and nothing else? kBlocked with the reason when not.
base::Status check_folder_holds_only(const std::string& folder,
                                     const std::vector<base::ProcessIdentity>& roots);

// Is the process in the group of this folder, or in one below it?
bool folder_holds(const std::string& folder, pid_t pid);

// Where a controller ("cpu", "memory", "pids", "blkio" or "io") rules a process, in whichever
// hierarchy has it.
struct ControllerGroup {
  std::string folder;  // with the mount
  std::string name;    // as /proc/PID/cgroup has it: "/system.slice/api.service"
  bool v2 = false;
};
// `v1` and `v2` are the controller's names in the two. kUnsupported when no hierarchy has it, or
// when the process is in the root group, which cannot be limited.
base::Result<ControllerGroup> controller_group_of(pid_t pid, std::string_view v1,
                                                  std::string_view v2);

// The root of the hierarchy that has the controller; `name` is "/".
base::Result<ControllerGroup> controller_hierarchy(std::string_view v1, std::string_view v2);

}  // namespace squall::inject
