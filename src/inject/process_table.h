#pragma once
// The process tree as it is now, read from /proc/PID/stat: parents, children, states.

#include <optional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace squall::inject {

struct ProcessEntry {
  base::ProcessIdentity identity;
  pid_t parent = 0;
  char state = '?';  // R S D T t Z X
  std::string name;
};

// Every process that we see. A snapshot that is not atomic.
base::Result<std::vector<ProcessEntry>> read_process_table();

// `root` and all that descend from it, parents before children; empty when it is not there.
std::vector<ProcessEntry> tree_of(const std::vector<ProcessEntry>& table,
                                  const base::ProcessIdentity& root);

// The state letter; absent when the process is gone or another one has its number.
std::optional<char> process_state(const base::ProcessIdentity& identity);

// kBlocked when `pid` is 1, a kernel thread's parent, this process, or one that this process
// descends from: a fault there could stop Squall itself.
base::Status check_not_ourselves(pid_t pid);
// The same for another process of ours: kBlocked when `pid` is `squall` or one that it descends
// from.
base::Status check_does_not_carry(pid_t pid, pid_t squall);
// kBlocked when `pid` is a process that `squall` forked for itself: a starter, a worker.
base::Status check_not_forked_by(pid_t pid, pid_t squall);

}  // namespace squall::inject
