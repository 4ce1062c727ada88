#pragma once
// Do queue and database agree? Each is read at its own moment, so a contradiction counts only when
// it lasts.

#include <chrono>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "task_queue.h"

namespace orchestrator {

enum class Disagreement {
  kTaskWithoutMessage,   // queued or running, and nobody will ever be told, or tell
  kMessageWithoutTask,   // finished long ago, and still in the queue
  kMessageOfDeadWorker,  // reserved by a worker that is no more
};

class Audit {
 public:
  using Instant = std::chrono::steady_clock::time_point;

  // Compares what was read at `now`, and forgets contradictions that are no longer there.
  void compare(const QueueSnapshot& queue, const std::map<TaskId, std::string>& active_tasks,
               const std::set<std::string>& live_workers, Instant now);

  // What has lasted for at least two seconds at `now`.
  int count(Instant now) const;
  nlohmann::json details(Instant now) const;
  std::vector<TaskId> queued_without_message(Instant now) const;

 private:
  struct Finding {
    Instant since;
    bool queued = false;
  };
  using Key = std::pair<Disagreement, TaskId>;
  std::map<Key, Finding> findings_;
};

}  // namespace orchestrator
