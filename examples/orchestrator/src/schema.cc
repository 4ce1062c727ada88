#include "schema.h"

namespace orchestrator {

// The life of a task:
//
//   waiting -> queued -> running -> completed | failed
//                ^          |
//                |          v            cancelled: another task of the workflow failed
//                +----- abandoned -> failed (attempts used up)
//
// The views are what an observer looks at. Four seconds is more than ten times what any step takes
// when all is well.
const char* const kSchema = R"sql(
SET client_min_messages = warning;

CREATE TABLE IF NOT EXISTS workflows (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  client_ref text NOT NULL UNIQUE,
  name text NOT NULL,
  owner text NOT NULL,
  state text NOT NULL DEFAULT 'running',
  created_at timestamptz NOT NULL DEFAULT now(),
  finished_at timestamptz);
CREATE INDEX IF NOT EXISTS workflows_running ON workflows (id) WHERE state = 'running';
CREATE INDEX IF NOT EXISTS workflows_finished ON workflows (finished_at);

CREATE TABLE IF NOT EXISTS tasks (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  workflow_id bigint NOT NULL REFERENCES workflows,
  position int NOT NULL,
  name text NOT NULL,
  run_ms int NOT NULL,
  fails boolean NOT NULL,
  depends_on int[] NOT NULL,
  state text NOT NULL DEFAULT 'waiting',
  attempt int NOT NULL DEFAULT 0,
  worker text NOT NULL DEFAULT '',
  changed_at timestamptz NOT NULL DEFAULT now(),
  heartbeat_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (workflow_id, position));
CREATE INDEX IF NOT EXISTS tasks_active ON tasks (state, id)
  WHERE state IN ('waiting', 'queued', 'running', 'abandoned');

CREATE TABLE IF NOT EXISTS worker_lives (
  incarnation text PRIMARY KEY,
  heartbeat_at timestamptz NOT NULL);

CREATE TABLE IF NOT EXISTS audits (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  disagreements int NOT NULL,
  details jsonb NOT NULL,
  made_at timestamptz NOT NULL);

CREATE OR REPLACE VIEW runnable_tasks AS
  SELECT t.* FROM tasks t
  WHERE t.state = 'waiting' AND NOT EXISTS (
    SELECT FROM tasks earlier
    WHERE earlier.workflow_id = t.workflow_id AND earlier.position = ANY (t.depends_on)
      AND earlier.state <> 'completed');

-- Work that should have moved on seconds ago.
CREATE OR REPLACE VIEW stuck_tasks AS
  SELECT id, state FROM tasks
  WHERE state IN ('queued', 'abandoned') AND changed_at < now() - interval '4 s'
  UNION ALL
  SELECT id, state FROM tasks
  WHERE state = 'running' AND heartbeat_at < now() - interval '4 s'
  UNION ALL
  SELECT id, state FROM runnable_tasks r
  WHERE greatest(r.changed_at, (SELECT max(changed_at) FROM tasks earlier
                                WHERE earlier.workflow_id = r.workflow_id
                                  AND earlier.position = ANY (r.depends_on)))
        < now() - interval '4 s';

-- Workflows, of those running or finished within two minutes, whose state contradicts their tasks.
CREATE OR REPLACE VIEW inconsistent_workflows AS
  SELECT w.id, w.state FROM workflows w
  CROSS JOIN LATERAL (
    SELECT bool_and(state = 'completed') AS all_completed, bool_or(state = 'failed') AS any_failed,
           bool_or(state IN ('waiting', 'queued', 'running', 'abandoned')) AS any_active,
           max(changed_at) AS changed_at
    FROM tasks WHERE workflow_id = w.id) t
  WHERE (w.state = 'running' OR w.finished_at > now() - interval '2 min')
    AND ((w.state = 'completed' AND NOT t.all_completed)
      OR (w.state = 'failed' AND (t.any_active OR NOT t.any_failed))
      OR (w.state = 'running' AND NOT t.any_active AND t.changed_at < now() - interval '4 s'));

-- Messages and tasks that contradict each other. An audit that stopped counts as one.
CREATE OR REPLACE VIEW disagreements AS
  SELECT coalesce((SELECT disagreements FROM audits WHERE made_at > now() - interval '6 s'), 1)
    AS count;
)sql";

}  // namespace orchestrator
