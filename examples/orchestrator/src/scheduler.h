#pragma once
// Moves workflows on: queues the tasks whose turn it is, ends the workflows that are over, and,
// with the cures, brings back what dead workers held. Here weaknesses 1, 3 and 4 live.

#include "audit.h"
#include "cache.h"
#include "database.h"
#include "settings.h"
#include "task_queue.h"
#include "workflow_store.h"

namespace orchestrator {

class Scheduler {
 public:
  explicit Scheduler(const Settings& settings);

  [[noreturn]] void run();

 private:
  void queue_runnable_tasks();
  void clean_up();
  void return_expired_messages();
  void abandon_silent_tasks(milliseconds silent_for);
  void settle_abandoned_tasks();
  void audit();

  Cures cures_;
  Database database_;
  Cache cache_;
  WorkflowStore store_;
  TaskQueue queue_;
  Audit audit_;
};

}  // namespace orchestrator
