#pragma once
// The cgroup v2 hierarchy, wherever it is mounted (alone, or beside v1 as `unified`). Groups are
// named by their path below the mount: "/system.slice/api.service".

#include <sys/types.h>

#include <string>
#include <utility>

#include "base/fd.h"
#include "base/result.h"

namespace squall::inject {

// Where the v2 hierarchy is mounted; kUnsupported when it is not.
base::Result<std::string> v2_mount();
// The group of a process; kUnsupported when it is the root, which cannot be frozen.
base::Result<std::string> v2_group_of(pid_t pid);

// Does the group, with all groups below it, hold `root` and its descendants, and nothing else?
// kBlocked with the reason when not.
base::Status check_holds_only(const std::string& group, const base::ProcessIdentity& root);

struct FreezeState {
  bool asked = false;   // cgroup.freeze
  bool frozen = false;  // cgroup.events
};
// kNotFound when the group is gone.
base::Result<FreezeState> read_freeze(const std::string& group);
base::Status write_freeze(const std::string& group, bool frozen);

// A group of our own below the root of the hierarchy, for rehearsals. Removed with the object.
class ScratchGroup {
 public:
  static base::Result<ScratchGroup> create();
  ScratchGroup(ScratchGroup&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  ScratchGroup& operator=(ScratchGroup&&) = delete;
  ~ScratchGroup();
  const std::string& path() const { return path_; }
  base::Status add(pid_t pid) const;
  base::Status remove_process(pid_t pid) const;  // back to the root group

 private:
  explicit ScratchGroup(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

}  // namespace squall::inject
