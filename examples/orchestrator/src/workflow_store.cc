#include "workflow_store.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "log.h"
#include "schema.h"

namespace orchestrator {
namespace {

std::vector<TaskId> first_column(const QueryResult& result) {
  std::vector<TaskId> tasks;
  for (int row = 0; row < result.rows(); ++row) tasks.push_back(result.number(row, 0));
  return tasks;
}

constexpr const char* kWorkflowAsJson = R"(
  SELECT json_build_object(
    'id', w.id, 'client_ref', w.client_ref, 'name', w.name, 'owner', w.owner, 'state', w.state,
    'created_at', w.created_at, 'finished_at', w.finished_at,
    'tasks', (SELECT json_agg(json_build_object('id', t.id, 'name', t.name, 'state', t.state,
                                                'attempt', t.attempt, 'worker', t.worker,
                                                'depends_on', t.depends_on) ORDER BY t.position)
              FROM tasks t WHERE t.workflow_id = w.id))
  FROM workflows w WHERE )";

}  // namespace

// Logs what failed: nobody else will say it.
QueryResult WorkflowStore::ask(const char* sql, const std::vector<std::string>& parameters) {
  QueryResult result = database_.query(sql, parameters);
  if (!result.ok()) log_warning(fmt::format("database: {}", result.error()));
  return result;
}

QueryResult WorkflowStore::create(const Pipeline& pipeline, const std::string& owner) {
  return database_.query(
      R"(WITH created AS (
           INSERT INTO workflows (client_ref, name, owner) VALUES ($1, $2, $3)
           ON CONFLICT (client_ref) DO NOTHING RETURNING id, state),
         created_tasks AS (
           INSERT INTO tasks (workflow_id, position, name, run_ms, fails, depends_on)
           SELECT created.id, t.position, t.name, t.run_ms, t.fails, t.depends_on
           FROM created, jsonb_to_recordset($4::jsonb)
             AS t(position int, name text, run_ms int, fails boolean, depends_on int[]))
         SELECT id, state, true FROM created
         UNION ALL SELECT id, state, false FROM workflows WHERE client_ref = $1)",
      {pipeline.client_ref, pipeline.name, owner, tasks_as_json(pipeline).dump()});
}

QueryResult WorkflowStore::recent(int limit) {
  return database_.query(
      R"(SELECT coalesce(json_agg(json_build_object(
           'id', w.id, 'client_ref', w.client_ref, 'name', w.name, 'state', w.state)), '[]')
         FROM (SELECT * FROM workflows ORDER BY id DESC LIMIT $1::int) w)",
      {std::to_string(limit)});
}

QueryResult WorkflowStore::find(std::int64_t workflow) {
  static const std::string sql = std::string(kWorkflowAsJson) + "w.id = $1::bigint";
  return database_.query(sql.c_str(), {std::to_string(workflow)});
}

QueryResult WorkflowStore::find_by_reference(const std::string& client_ref) {
  static const std::string sql = std::string(kWorkflowAsJson) + "w.client_ref = $1";
  return database_.query(sql.c_str(), {client_ref});
}

QueryResult WorkflowStore::last_audit() {
  return database_.query(
      R"(SELECT details || jsonb_build_object('disagreements', (SELECT count FROM disagreements),
                                              'made_at', made_at) FROM audits)");
}

bool WorkflowStore::make_schema() {
  return ask(kSchema).ok();
}

std::optional<std::vector<TaskId>> WorkflowStore::queue_runnable_tasks() {
  const auto result = ask(
      R"(UPDATE tasks SET state = 'queued', changed_at = now()
         WHERE id IN (SELECT id FROM runnable_tasks ORDER BY id LIMIT 500) RETURNING id)");
  if (!result.ok()) return std::nullopt;
  return first_column(result);
}

bool WorkflowStore::finish_workflows() {
  const auto cancelled = ask(
      R"(UPDATE tasks t SET state = 'cancelled', changed_at = now()
         WHERE t.state = 'waiting' AND EXISTS (
           SELECT FROM tasks f WHERE f.workflow_id = t.workflow_id
             AND f.state IN ('failed', 'cancelled')))");
  if (!cancelled.ok()) return false;
  return ask(R"(UPDATE workflows w
                SET finished_at = now(), state = CASE
                  WHEN EXISTS (SELECT FROM tasks t WHERE t.workflow_id = w.id
                                 AND t.state = 'failed')
                  THEN 'failed' ELSE 'completed' END
                WHERE w.state = 'running' AND NOT EXISTS (
                  SELECT FROM tasks t WHERE t.workflow_id = w.id
                    AND t.state IN ('waiting', 'queued', 'running', 'abandoned')))")
      .ok();
}

std::optional<int> WorkflowStore::abandon_tasks(milliseconds silent_for) {
  const auto result = ask(
      R"(UPDATE tasks SET state = 'abandoned', changed_at = now()
         WHERE state = 'running' AND heartbeat_at < now() - $1::interval)",
      {fmt::format("{} ms", silent_for.count())});
  if (!result.ok()) return std::nullopt;
  return result.affected();
}

std::optional<Settled> WorkflowStore::settle_abandoned_tasks() {
  const auto result = ask(
      R"(UPDATE tasks SET changed_at = now(),
           state = CASE WHEN attempt < $1::int THEN 'queued' ELSE 'failed' END
         WHERE state = 'abandoned' RETURNING state = 'queued')",
      {std::to_string(kAttemptsMax)});
  if (!result.ok()) return std::nullopt;
  Settled settled;
  for (int row = 0; row < result.rows(); ++row) {
    ++(result.truth(row, 0) ? settled.requeued : settled.failed);
  }
  return settled;
}

std::optional<std::map<TaskId, std::string>> WorkflowStore::active_tasks() {
  const auto result =
      ask("SELECT id, state FROM tasks WHERE state IN ('queued', 'running', 'abandoned')");
  if (!result.ok()) return std::nullopt;
  std::map<TaskId, std::string> tasks;
  for (int row = 0; row < result.rows(); ++row) {
    tasks[result.number(row, 0)] = result.text(row, 1);
  }
  return tasks;
}

std::optional<std::set<std::string>> WorkflowStore::live_workers() {
  const auto result =
      ask(R"(SELECT incarnation FROM worker_lives WHERE heartbeat_at > now() - interval '4 s')");
  if (!result.ok()) return std::nullopt;
  std::set<std::string> workers;
  for (int row = 0; row < result.rows(); ++row) workers.emplace(result.text(row, 0));
  return workers;
}

bool WorkflowStore::write_audit(int disagreements, const nlohmann::json& details) {
  return ask(R"(INSERT INTO audits (disagreements, details, made_at)
                VALUES ($1::int, $2::jsonb, now())
                ON CONFLICT (only_row) DO UPDATE SET disagreements = excluded.disagreements,
                  details = excluded.details, made_at = excluded.made_at)",
             {std::to_string(disagreements), details.dump()})
      .ok();
}

std::optional<std::vector<Claim>> WorkflowStore::claim(const std::string& incarnation,
                                                       const std::vector<TaskId>& tasks) {
  const auto result = ask(
      R"(WITH claimed AS (
           UPDATE tasks SET state = 'running', worker = $2, attempt = attempt + 1,
             changed_at = now(), heartbeat_at = now()
           WHERE id = ANY ($1::bigint[]) AND state = 'queued' RETURNING id)
         SELECT t.id, c.id IS NOT NULL, t.state IN ('completed', 'failed', 'cancelled'), t.run_ms
         FROM tasks t LEFT JOIN claimed c ON c.id = t.id WHERE t.id = ANY ($1::bigint[]))",
      {array_of(tasks), incarnation});
  if (!result.ok()) return std::nullopt;
  std::vector<Claim> claims;
  for (int row = 0; row < result.rows(); ++row) {
    claims.push_back({result.number(row, 0), result.truth(row, 1), result.truth(row, 2),
                      static_cast<int>(result.number(row, 3))});
  }
  return claims;
}

std::optional<std::vector<TaskId>> WorkflowStore::finish(const std::string& incarnation,
                                                         const std::vector<TaskId>& tasks) {
  const auto result = ask(
      R"(UPDATE tasks SET changed_at = now(),
           state = CASE WHEN fails THEN 'failed' ELSE 'completed' END
         WHERE id = ANY ($1::bigint[]) AND worker = $2 AND state = 'running' RETURNING id)",
      {array_of(tasks), incarnation});
  if (!result.ok()) return std::nullopt;
  return first_column(result);
}

bool WorkflowStore::heartbeat(const std::string& incarnation, const std::vector<TaskId>& running) {
  return ask(R"(WITH alive AS (
                  INSERT INTO worker_lives (incarnation, heartbeat_at) VALUES ($1, now())
                  ON CONFLICT (incarnation) DO UPDATE SET heartbeat_at = excluded.heartbeat_at)
                UPDATE tasks SET heartbeat_at = now()
                WHERE id = ANY ($2::bigint[]) AND worker = $1 AND state = 'running')",
             {incarnation, array_of(running)})
      .ok();
}

}  // namespace orchestrator
