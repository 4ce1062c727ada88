#pragma once
// One run of one experiment, from loaded files to a judged record.

#include <optional>
#include <string>

#include "base/clock.h"
#include "base/ids.h"
#include "base/result.h"
#include "engine/progress.h"
#include "engine/workspace.h"
#include "judge/judgement.h"
#include "model/plan.h"

namespace squall::engine {

struct RunOptions {
  const LoadedMap& map;
  const LoadedExperiment& experiment;
  std::string reviewed_plan_hash;      // `--plan HASH`: refuse when the plan is another; empty: any
  std::string inject_state_directory;  // empty: the default of inject
};

struct RunResult {
  base::RunId run;
  std::string record_path;
  judge::Judgement judgement;
  int exit_status = 1;
};

// Blocks until the run is over. SIGINT, SIGTERM and SIGHUP of this process are taken for the time
// of the run and stop it in order; a second one leaves at once (the holder reverts by itself). An
// error means that there is no record to judge; every later trouble is an outcome in the judgement.
base::Result<RunResult> run_experiment(const RunOptions& options, Progress& progress);

}  // namespace squall::engine
