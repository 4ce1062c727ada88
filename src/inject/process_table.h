#pragma once
// The process tree as it is now, read from /proc/PID/stat: parents, children, states.

#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/result.h"

namespace squall::inject {

struct ProcessEntry {
  base::ProcessIdentity identity;
  pid_t parent = 0;
  char state = '?';  // R S D T t Z X
  std::string name;
};

// Every process that we see; an error when one cannot be looked at. Not atomic.
base::Result<std::vector<ProcessEntry>> read_process_table();

// `root` and all that descend from it, parents before children; empty when it is not there.
std::vector<ProcessEntry> tree_of(const std::vector<ProcessEntry>& table,
                                  const base::ProcessIdentity& root);

// The state letter; absent when the process is gone, another one has its number, or it cannot be
// looked at: for texts and for what looks again.
std::optional<char> process_state(const base::ProcessIdentity& identity);

// The state letter, X when it is gone. An error when nobody can tell: a revert that took that for
// gone would leave its target as it is.
base::Result<char> look_at_state(const base::ProcessIdentity& identity);

// When it was started, on the boot clock, to 10 ms or so.
base::Instant started_at(const base::ProcessIdentity& identity);

// Absent when it is gone or another one has its number; an error when nobody can tell.
base::Result<std::optional<base::PidFd>> open_if_there(const base::ProcessIdentity& identity);

// Processes that a journal names, opened when the revert needs them: one that cannot be looked at
// yet must not pass for gone.
class RecalledProcesses {
 public:
  void add(const base::ProcessIdentity& identity) { waiting_.push_back(identity); }
  // Adds those that are there to `opened`. Again after an error: goes on where it was.
  base::Status open_into(std::vector<base::PidFd>& opened) {
    while (!waiting_.empty()) {
      SQUALL_ASSIGN(auto process, open_if_there(waiting_.front()));
      if (process) opened.push_back(std::move(*process));
      waiting_.erase(waiting_.begin());
    }
    return {};
  }

 private:
  std::vector<base::ProcessIdentity> waiting_;
};

// kBlocked when `pid` is 1, a kernel thread's parent, this process, or one that this process
// descends from: a fault there could stop Squall itself.
base::Status check_not_ourselves(pid_t pid);
// The same for another process of ours: kBlocked when `pid` is `squall` or one that it descends
// from.
base::Status check_does_not_carry(pid_t pid, pid_t squall);
// kBlocked when `pid` is a process that `squall` forked for itself: a starter, a worker.
base::Status check_not_forked_by(pid_t pid, pid_t squall);

}  // namespace squall::inject
