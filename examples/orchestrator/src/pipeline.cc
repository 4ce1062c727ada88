#include "pipeline.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

namespace orchestrator {
namespace {

using nlohmann::json;

constexpr std::size_t kTasksMax = 64;
constexpr std::size_t kTextMax = 200;
constexpr int kRunMsMax = 60'000;

const std::vector<PipelineTask>& standard_tasks() {
  static const std::vector<PipelineTask> tasks{{"extract", 500, false, {}},
                                               {"clean", 600, false, {0}},
                                               {"enrich", 400, false, {0}},
                                               {"publish", 500, false, {1, 2}}};
  return tasks;
}

// A client_ref may be written as a number; it is kept as text.
std::string reference_of(const json& value) {
  if (value.is_number_integer()) return value.dump();
  return value.is_string() ? value.get<std::string>() : "";
}

std::string read_task(const json& value, std::map<std::string, int>& positions,
                      PipelineTask& task) {
  if (!value.is_object() || !value.contains("name") || !value["name"].is_string()) {
    return "every task needs a name";
  }
  task.name = value["name"].get<std::string>();
  if (task.name.empty() || task.name.size() > kTextMax) return "a task's name is empty or too long";
  if (value.contains("run_ms")) {
    if (!value["run_ms"].is_number_integer()) return "run_ms wants a whole number";
    const auto run_ms = value["run_ms"].get<std::int64_t>();
    if (run_ms < 0 || run_ms > kRunMsMax) return fmt::format("run_ms wants 0 to {}", kRunMsMax);
    task.run_ms = static_cast<int>(run_ms);
  }
  task.fails = value.contains("fails") && value["fails"] == true;
  // A task may depend only on tasks written above it, so there can be no circle.
  const json dependencies = value.value("depends_on", json::array());
  if (!dependencies.is_array()) return "depends_on wants a list of task names";
  for (const auto& dependency : dependencies) {
    const auto found =
        dependency.is_string() ? positions.find(dependency.get<std::string>()) : positions.end();
    if (found == positions.end()) {
      return fmt::format("task '{}' depends on {}, which is not a task above it", task.name,
                         dependency.dump());
    }
    task.depends_on.push_back(found->second);
  }
  if (!positions.emplace(task.name, static_cast<int>(positions.size())).second) {
    return fmt::format("two tasks are named '{}'", task.name);
  }
  return "";
}

}  // namespace

Pipeline read_pipeline(const std::string& body, std::string& error) {
  Pipeline pipeline;
  const json value = json::parse(body, nullptr, /*allow_exceptions=*/false);
  if (!value.is_object()) {
    error = "the body is not a JSON object";
    return pipeline;
  }
  if (value.contains("client_ref")) pipeline.client_ref = reference_of(value["client_ref"]);
  if (pipeline.client_ref.empty() || pipeline.client_ref.size() > kTextMax) {
    error =
        fmt::format("client_ref wants a text of 1 to {} characters or a whole number", kTextMax);
    return pipeline;
  }
  pipeline.name = "workflow";
  if (value.contains("name") && value["name"].is_string()) pipeline.name = value["name"];
  if (!value.contains("tasks")) {
    pipeline.tasks = standard_tasks();
    return pipeline;
  }
  const json& tasks = value["tasks"];
  if (!tasks.is_array() || tasks.empty() || tasks.size() > kTasksMax) {
    error = fmt::format("tasks wants a list of 1 to {} tasks", kTasksMax);
    return pipeline;
  }
  std::map<std::string, int> positions;
  for (const auto& task : tasks) {
    error = read_task(task, positions, pipeline.tasks.emplace_back());
    if (!error.empty()) return pipeline;
  }
  return pipeline;
}

json tasks_as_json(const Pipeline& pipeline) {
  json tasks = json::array();
  for (std::size_t i = 0; i < pipeline.tasks.size(); ++i) {
    const PipelineTask& task = pipeline.tasks[i];
    tasks.push_back({{"position", i},
                     {"name", task.name},
                     {"run_ms", task.run_ms},
                     {"fails", task.fails},
                     {"depends_on", task.depends_on}});
  }
  return tasks;
}

}  // namespace orchestrator
