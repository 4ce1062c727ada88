#include "audit.h"

#include <nlohmann/json.hpp>

namespace orchestrator {
namespace {

constexpr std::chrono::seconds kGrace{2};

}  // namespace

void Audit::compare(const QueueSnapshot& queue, const std::map<TaskId, std::string>& active_tasks,
                    const std::set<std::string>& live_workers, Instant now) {
  std::map<Key, Finding> present;
  const auto find = [&](Disagreement kind, TaskId task, bool queued = false) {
    const Key key{kind, task};
    const auto known = findings_.find(key);
    present[key] = {known == findings_.end() ? now : known->second.since, queued};
  };

  std::set<TaskId> messages(queue.ready.begin(), queue.ready.end());
  for (const auto& [task, holder] : queue.reserved) {
    messages.insert(task);
    if (!live_workers.contains(holder)) find(Disagreement::kMessageOfDeadWorker, task);
  }
  for (const TaskId task : messages) {
    if (!active_tasks.contains(task)) find(Disagreement::kMessageWithoutTask, task);
  }
  for (const auto& [task, state] : active_tasks) {
    if (!messages.contains(task)) {
      find(Disagreement::kTaskWithoutMessage, task, state == "queued");
    }
  }
  findings_ = std::move(present);
}

int Audit::count(Instant now) const {
  int count = 0;
  for (const auto& [key, finding] : findings_) count += now - finding.since >= kGrace ? 1 : 0;
  return count;
}

nlohmann::json Audit::details(Instant now) const {
  std::map<Disagreement, int> counts;
  for (const auto& [key, finding] : findings_) {
    if (now - finding.since >= kGrace) ++counts[key.first];
  }
  return {{"tasks_without_message", counts[Disagreement::kTaskWithoutMessage]},
          {"messages_without_task", counts[Disagreement::kMessageWithoutTask]},
          {"messages_of_dead_workers", counts[Disagreement::kMessageOfDeadWorker]}};
}

std::vector<TaskId> Audit::queued_without_message(Instant now) const {
  std::vector<TaskId> tasks;
  for (const auto& [key, finding] : findings_) {
    if (finding.queued && now - finding.since >= kGrace) tasks.push_back(key.second);
  }
  return tasks;
}

}  // namespace orchestrator
