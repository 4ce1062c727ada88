#include "engine/archive.h"

#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "judge/judge.h"
#include "model/verdict.h"

namespace squall::engine {

namespace {

base::Error unreadable(const std::string& path, std::string_view what, const base::Error& cause) {
  return base::Error{.code = base::ErrorCode::kCorrupt,
                     .message = fmt::format("{} of {}: {}", what, path, cause.to_string()),
                     .hint = "the record may come from a newer Squall; `squall version` tells ours",
                     .context = {}};
}

store::RunRow row_of(const ArchivedRun& run) {
  const evidence::RecordHeader& header = run.record.header();
  store::RunRow row;
  row.run = header.run.text();
  row.experiment = header.experiment_name;
  row.system = run.map.name;
  row.environment = header.environment;
  row.plan_hash = header.plan_hash;
  row.record_path = run.record_path;
  row.started_ns = header.wall_start.time_since_epoch().count();
  row.duration_ns = (run.record.last_instant() - header.boot_start).count();
  row.outcome = model::to_string(run.judgement.outcome);
  row.verdict = model::to_string(run.judgement.verdict);
  row.exit_status = judge::exit_status_of(run.judgement);
  row.predictions = run.judgement.predictions;
  return row;
}

}  // namespace

base::Result<std::unique_ptr<ArchivedRun>> open_archived(const std::string& record_path) {
  SQUALL_ASSIGN(evidence::Record record, evidence::Record::read(record_path));
  auto run = std::make_unique<ArchivedRun>();
  run->record_path = record_path;
  run->record = std::move(record);
  const evidence::RecordHeader& header = run->record.header();
  model::Diagnostics diagnostics;
  run->map = model::parse_system_map(header.system_map_text, header.system_map_file,
                                     header.environment, vocabulary(), diagnostics);
  if (diagnostics.has_errors()) {
    return unreadable(record_path, "the system map", diagnostics.to_error());
  }
  run->experiment = model::parse_experiment(header.experiment_text, header.experiment_file,
                                            run->map, vocabulary(), diagnostics);
  if (diagnostics.has_errors()) {
    return unreadable(record_path, "the experiment", diagnostics.to_error());
  }
  SQUALL_ASSIGN(const base::Json plan, base::parse_json(header.plan));
  SQUALL_ASSIGN(run->plan, model::plan_from_json(plan));
  if (const std::string* binding = run->record.document("binding"); binding != nullptr) {
    SQUALL_ASSIGN(const base::Json json, base::parse_json(*binding));
    SQUALL_ASSIGN(run->binding, model::binding_from_json(json));
  }
  run->judgement = judge::judge({run->record, run->map, run->experiment});
  return run;
}

base::Status index_run(const Workspace& workspace, const std::string& record_path) {
  SQUALL_ASSIGN(const auto run, open_archived(record_path));
  SQUALL_ASSIGN(store::Store store, workspace.open_store());
  return store.put(row_of(*run));
}

base::Result<int> reindex(const Workspace& workspace, std::vector<std::string>& failures) {
  SQUALL_ASSIGN(store::Store store, workspace.open_store());
  SQUALL_TRY(store.begin());
  SQUALL_TRY(store.clear());
  int count = 0;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(workspace.runs_directory(), error)) {
    if (entry.path().extension() != ".record") continue;
    auto run = open_archived(entry.path().string());
    if (!run.ok()) {
      failures.push_back(run.error().to_string());
      continue;
    }
    SQUALL_TRY(store.put(row_of(**run)));
    ++count;
  }
  SQUALL_TRY(store.commit());
  return count;
}

}  // namespace squall::engine
