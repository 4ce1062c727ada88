#pragma once
// /proc as a worker sees it after it has given everything else up: one descriptor, opened before,
// and a root that is /proc itself.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace squall::inject {

struct ThreadFacts {
  pid_t process = 0;  // whose thread it is
  pid_t parent = 0;   // of that process
  pid_t tracer = 0;
  int seccomp = 0;  // 0: none, 1: strict, 2: filter
  // Whose rights it has; absent when they are those of several users (a setuid program).
  std::optional<uid_t> user = {};
};

class ProcView {
 public:
  static base::Result<ProcView> open();
  // Makes /proc the root of this process: no path leads anywhere else. kPermission without
  // CAP_SYS_CHROOT.
  base::Status enter() const;
  int fd() const { return folder_.get(); }

  // Each is empty when there is no such process or thread any more.
  std::optional<ThreadFacts> thread(pid_t id) const;
  struct Ancestry {
    base::ProcessIdentity identity;
    pid_t parent = 0;
    char state = '?';
  };
  std::optional<Ancestry> ancestry(pid_t id) const;
  // Does `id` descend from one of `roots`, or is it one?
  bool descends(pid_t id, const std::vector<base::ProcessIdentity>& roots) const;
  // The number of the system call in which the thread waits; -1: it does not wait, or we may not
  // know.
  int waits_in(pid_t id) const;
  // What a descriptor of the process shows: a path for files.
  std::string link(pid_t process, int descriptor) const;
  // Both need directories to be read: before the worker is confined only.
  std::vector<pid_t> threads(pid_t process) const;
  std::vector<int> descriptors(pid_t process) const;

 private:
  explicit ProcView(base::UniqueFd folder) : folder_(std::move(folder)) {}
  std::string read(pid_t id, const char* file) const;
  std::vector<int> numbers(pid_t id, const char* folder) const;
  base::UniqueFd folder_;
};

// Is `link` the file or folder `path`, or something in it? Deleted files count.
bool is_under(std::string_view link, std::string_view path);

}  // namespace squall::inject
