#pragma once
// State of others beside a fault: what they had before, and what they change while it is in force.
// All of it must be there afterwards, byte for byte.

#include <string>

#include "base/process.h"
#include "base/result.h"
#include "host_snapshot.h"
#include "scenarios.h"
#include "stage.h"

namespace squall::crash_sweep {

class Foreign {
 public:
  explicit Foreign(const Stage& stage) : stage_(stage) {}
  Foreign(const Foreign&) = delete;
  Foreign& operator=(const Foreign&) = delete;
  ~Foreign() { remove(); }

  // Before the fault: a table of rules, a queue on a link, a file, a cgroup, and a process with
  // limits of its own that somebody has stopped.
  base::Status plant();
  // While it is in force: more of each, changes of what was planted, and what `scenario` says that
  // others do to the target itself.
  base::Status change(const Scenario& scenario);
  void remove();
  // How all that is now.
  Snapshot look() const;

 private:
  std::string group() const;
  const Stage& stage_;
  base::ChildProcess neighbour_;
};

}  // namespace squall::crash_sweep
