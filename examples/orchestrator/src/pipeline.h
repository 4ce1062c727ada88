#pragma once
// A pipeline as the caller writes it: tasks with names, each after the tasks it depends on.

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace orchestrator {

struct PipelineTask {
  std::string name;
  int run_ms = 300;             // how long the work takes, 0 to 60,000 ms
  bool fails = false;           // the work ends in failure, and with it the workflow
  std::vector<int> depends_on;  // positions of tasks in the pipeline
};

struct Pipeline {
  std::string client_ref;  // the caller's own number or name for it; repeating it creates nothing
  std::string name;
  std::vector<PipelineTask> tasks;
};

// Reads the body of POST /workflows. `error` says what the caller has to change; empty when all is
// well. Without `tasks` the pipeline is the standard one: extract, then clean and enrich side by
// side, then publish.
Pipeline read_pipeline(const std::string& body, std::string& error);

nlohmann::json tasks_as_json(const Pipeline& pipeline);

}  // namespace orchestrator
