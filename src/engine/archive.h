#pragma once
// Runs of the past: a record read again, with the files it carries, and judged.

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "engine/workspace.h"
#include "evidence/record.h"
#include "judge/judgement.h"
#include "model/plan.h"

namespace squall::engine {

// A record with everything that can be derived from it. The map and experiment are parsed from the
// texts in the record, so a run can be judged on another machine and after its files have changed.
struct ArchivedRun {
  std::string record_path;
  evidence::Record record;
  model::SystemMap map;
  model::Experiment experiment;
  model::Plan plan;
  model::Binding binding;      // empty when the run was never bound
  judge::Judgement judgement;  // made now, from the record
};

// kCorrupt when the header or the files in it cannot be read.
base::Result<std::unique_ptr<ArchivedRun>> open_archived(const std::string& record_path);

// Reads the record and puts its row into the index.
base::Status index_run(const Workspace& workspace, const std::string& record_path);

// Makes the index anew from all records. Returns how many runs it holds; `failures` gets one
// sentence for each record that could not be read.
base::Result<int> reindex(const Workspace& workspace, std::vector<std::string>& failures);

}  // namespace squall::engine
