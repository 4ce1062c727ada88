#pragma once
// Everything that is asked of the database, each in one statement, so that each happens wholly or
// not at all. The database is the source of truth: who may run a task is decided here.

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "database.h"
#include "pipeline.h"
#include "settings.h"
#include "task_queue.h"

namespace orchestrator {

struct Claim {
  TaskId task = 0;
  bool claimed = false;   // it is ours now; else somebody else's, or
  bool finished = false;  // over: its message can go
  int run_ms = 0;
};

struct Settled {
  int requeued = 0;
  int failed = 0;
};

class WorkflowStore {
 public:
  explicit WorkflowStore(Database& database) : database_(database) {}

  // ---- for the API: results as they came, so that it can tell unavailable from refused
  // ----------- One row: id, state, whether it is new. Repeating a client_ref creates nothing.
  QueryResult create(const Pipeline& pipeline, const std::string& owner);
  QueryResult recent(int limit);                                 // one row: a JSON list
  QueryResult find(std::int64_t workflow);                       // none or one row: a JSON object
  QueryResult find_by_reference(const std::string& client_ref);  // likewise
  QueryResult last_audit();                                      // none or one row, likewise

  // ---- for the scheduler: nothing when the database did not answer
  // -------------------------------
  bool make_schema();
  std::optional<std::vector<TaskId>> queue_runnable_tasks();
  bool finish_workflows();
  std::optional<int> abandon_tasks(milliseconds silent_for);
  std::optional<Settled> settle_abandoned_tasks();
  std::optional<std::map<TaskId, std::string>> active_tasks();  // number to state, not waiting
  std::optional<std::set<std::string>> live_workers();          // incarnations
  bool write_audit(int disagreements, const nlohmann::json& details);

  // ---- for workers
  // -------------------------------------------------------------------------------
  std::optional<std::vector<Claim>> claim(const std::string& incarnation,
                                          const std::vector<TaskId>& tasks);
  // The tasks whose end was recorded; the others are no longer this worker's.
  std::optional<std::vector<TaskId>> finish(const std::string& incarnation,
                                            const std::vector<TaskId>& tasks);
  // Says that the worker lives and still has `running` in its hands.
  bool heartbeat(const std::string& incarnation, const std::vector<TaskId>& running);

 private:
  QueryResult ask(const char* sql, const std::vector<std::string>& parameters = {});

  Database& database_;
};

}  // namespace orchestrator
