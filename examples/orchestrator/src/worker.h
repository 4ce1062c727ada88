#pragma once
// Runs tasks, several at a time on one thread: the work of a task is waiting for something else.
// A worker that loses its database or its queue lets go of what it could not finish and goes on;
// who picks that up again is the scheduler's business, and only a hardened one does.

#include <chrono>
#include <map>
#include <random>
#include <vector>

#include "cache.h"
#include "database.h"
#include "settings.h"
#include "spool.h"
#include "task_queue.h"
#include "workflow_store.h"

namespace orchestrator {

class Worker {
 public:
  explicit Worker(const Settings& settings);

  [[noreturn]] void run();

 private:
  using Instant = std::chrono::steady_clock::time_point;

  bool heartbeat();
  void finish_due_tasks();
  // Those of `due` whose output lies in the spool.
  std::vector<TaskId> keep_outputs(const std::vector<TaskId>& due);
  // Says whether the queue had something.
  bool take_task();
  milliseconds pause(bool took_one);
  std::vector<TaskId> held() const;

  std::string incarnation_;
  bool minds_the_spool_;
  std::string spool_folder_;
  Spool spool_;
  milliseconds visibility_;
  Database database_;
  Cache cache_;
  WorkflowStore store_;
  TaskQueue queue_;
  std::map<TaskId, Instant> running_;  // and when their work is done
  std::minstd_rand random_;
};

}  // namespace orchestrator
