#pragma once
// The queue of tasks in Redis. A message is the number of a task, and a task has one message for
// its whole life: ready, then reserved by a worker, then acknowledged. The database says what state
// a task is in; the queue only says who may look at it next.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "cache.h"

namespace orchestrator {

using TaskId = std::int64_t;

struct QueueSnapshot {
  std::vector<TaskId> ready;
  std::map<TaskId, std::string> reserved;  // by which incarnation of which worker
};

// All operations are single scripts, so each happens wholly or not at all. Nothing or false means
// that the queue did not answer.
class TaskQueue {
 public:
  explicit TaskQueue(Cache& cache) : cache_(cache) {}

  // Blocks for up to `retry_budget` where the cures allow retries.
  bool push(const std::vector<TaskId>& tasks, milliseconds retry_budget);

  // Takes up to `limit` messages. `visibility` of 0: they are never given to anybody else.
  std::optional<std::vector<TaskId>> reserve(const std::string& holder, int limit,
                                             milliseconds visibility);
  // Holds what `holder` has for another `visibility`.
  bool extend(const std::string& holder, const std::vector<TaskId>& tasks, milliseconds visibility);
  bool acknowledge(const std::string& holder, const std::vector<TaskId>& tasks);

  // Puts messages whose visibility timeout passed back; says how many.
  std::optional<int> return_expired();

  std::optional<QueueSnapshot> snapshot();

 private:
  std::optional<CacheReply> run(const char* script, const std::vector<std::string>& arguments);

  Cache& cache_;
};

}  // namespace orchestrator
