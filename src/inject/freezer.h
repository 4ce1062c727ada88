#pragma once
// The freezer that rules a process, whichever hierarchy has it: the v1 controller, or v2's
// cgroup.freeze. process.pause and container engines pause by it.

#include <sys/types.h>

#include <string>
#include <utility>

#include "base/fd.h"
#include "base/result.h"
#include "inject/cgroup.h"

namespace squall::inject {

struct Freezer {
  std::string folder;  // of the group, with the mount
  bool v2 = false;
};
// kUnsupported when the process is in no group of its own; kNotFound when it is gone.
base::Result<Freezer> freezer_of(pid_t pid);
base::Result<Freezer> freezer_of(pid_t pid, bool v2);
// Where the hierarchy is mounted; kUnsupported when it is not.
base::Result<std::string> freezer_mount(bool v2);

struct FreezeState {
  bool asked = false;   // of this very group
  bool frozen = false;  // also by a group above it
};
// kNotFound when the group is gone.
base::Result<FreezeState> read_freezer(const Freezer& freezer);
base::Status freeze(const Freezer& freezer);
base::Status thaw(const Freezer& freezer);
// The file and what to write into it, for people.
std::string thaw_by_hand(const Freezer& freezer);
std::string freeze_by_hand(const Freezer& freezer);

// A group of our own below the root of the hierarchy, for rehearsals. Removed with the object.
class ScratchFreezer {
 public:
  static base::Result<ScratchFreezer> create(bool v2);
  ScratchFreezer(ScratchFreezer&& other) noexcept
      : mount_(std::move(other.mount_)), name_(std::exchange(other.name_, {})) {}
  ScratchFreezer& operator=(ScratchFreezer&&) = delete;
  ~ScratchFreezer();
  const std::string& name() const { return name_; }  // below the mount
  base::Status add(pid_t pid) const;
  base::Status remove_process(pid_t pid) const;  // back to the root group

 private:
  ScratchFreezer(std::string mount, std::string name)
      : mount_(std::move(mount)), name_(std::move(name)) {}
  std::string mount_;
  std::string name_;
};

}  // namespace squall::inject
