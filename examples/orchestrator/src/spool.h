#pragma once
// Where workers keep what tasks produced: one file a task, on a filesystem of its own that may be
// full. Each worker keeps its last thousand.

#include <deque>
#include <string>

#include "task_queue.h"

namespace orchestrator {

class Spool {
 public:
  // `member` names the folder of this worker in it; what an earlier life left there goes.
  Spool(const std::string& folder, const std::string& member);

  // False when it has no room: then nothing is left of the file either.
  bool keep(TaskId task);

 private:
  std::string folder_;
  std::deque<std::string> kept_;
};

// Is there so little room left that no new work should be begun? Also when nobody can tell.
bool is_nearly_full(const std::string& folder);

}  // namespace orchestrator
