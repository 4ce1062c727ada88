#include "worker.h"

#include <fmt/format.h>

#include <functional>
#include <thread>

#include "log.h"

namespace orchestrator {
namespace {

using std::chrono::steady_clock;

constexpr std::size_t kSlots = 16;
constexpr milliseconds kPoll{25};
constexpr milliseconds kPollAgain{5};
constexpr milliseconds kDatabaseDeadline{1'000};
// All of one turn has to end well before the tasks look abandoned.
constexpr milliseconds kQueueBudget{400};

}  // namespace

Worker::Worker(const Settings& settings)
    : incarnation_(settings.incarnation),
      minds_the_spool_(settings.cures.mind_the_spool),
      spool_folder_(settings.spool),
      spool_(settings.spool, settings.member),
      visibility_(settings.cures.visibility_timeout ? kVisibilityTimeout : milliseconds(0)),
      database_(settings.primary_dsn, kDatabaseDeadline),
      cache_(settings.sentinel_port, settings.queue_password,
             CachePolicy::with(settings.cures, kQueueBudget)),
      store_(database_),
      queue_(cache_),
      random_(static_cast<unsigned>(std::hash<std::string>{}(settings.incarnation))) {}

void Worker::run() {
  log_info(fmt::format("ready as {}", incarnation_));
  auto next_heartbeat = steady_clock::now();
  while (true) {
    if (steady_clock::now() >= next_heartbeat) {
      next_heartbeat = steady_clock::now() + kHeartbeatEvery;
      // Without a database there is nothing a worker may take.
      if (!heartbeat()) {
        std::this_thread::sleep_for(kHeartbeatEvery / 2);
        continue;
      }
    }
    finish_due_tasks();
    std::this_thread::sleep_for(pause(take_task()));
  }
}

std::vector<TaskId> Worker::held() const {
  std::vector<TaskId> tasks;
  for (const auto& [task, done] : running_) tasks.push_back(task);
  return tasks;
}

bool Worker::heartbeat() {
  const std::vector<TaskId> tasks = held();
  const bool heard = store_.heartbeat(incarnation_, tasks);
  if (visibility_.count() > 0 && !tasks.empty()) {
    queue_.extend(incarnation_, tasks, visibility_);
  }
  return heard;
}

void Worker::finish_due_tasks() {
  std::vector<TaskId> due;
  const auto now = steady_clock::now();
  for (const auto& [task, done] : running_) {
    if (done <= now) due.push_back(task);
  }
  due = keep_outputs(due);
  if (due.empty()) return;
  const auto recorded = store_.finish(incarnation_, due);
  for (const TaskId task : due) running_.erase(task);
  if (!recorded) {
    log_warning(fmt::format("the end of {} tasks could not be recorded", due.size()));
    return;
  }
  // A task that was taken from us meanwhile keeps its message: somebody else needs it.
  if (!recorded->empty()) queue_.acknowledge(incarnation_, *recorded);
}

// Without room a naive worker lets go of the task: it keeps nothing that it cannot end. The cure
// keeps it, alive, until there is room again.
std::vector<TaskId> Worker::keep_outputs(const std::vector<TaskId>& due) {
  std::vector<TaskId> kept;
  for (const TaskId task : due) {
    if (spool_.keep(task)) {
      kept.push_back(task);
    } else if (!minds_the_spool_) {
      log_warning(fmt::format("the output of task {} finds no room", task));
      running_.erase(task);
    }
  }
  return kept;
}

// Workers that ask one task at a time, at random moments, and less often the more they have, share
// the work evenly. At a fixed pace the one that asks just after the scheduler's turn gets it all.
milliseconds Worker::pause(bool took_one) {
  const auto longest = 2 * (took_one ? kPollAgain : kPoll) + milliseconds(5) * running_.size();
  return milliseconds(1 + random_() % longest.count());
}

bool Worker::take_task() {
  if (running_.size() >= kSlots || !database_.connected()) return false;
  if (minds_the_spool_ && is_nearly_full(spool_folder_)) return false;
  const auto reserved = queue_.reserve(incarnation_, /*limit=*/1, visibility_);
  if (!reserved || reserved->empty()) return false;
  const auto claims = store_.claim(incarnation_, *reserved);
  if (!claims) {
    log_warning(fmt::format("task {} could not be claimed", reserved->front()));
    return false;
  }
  for (const Claim& claim : *claims) {
    if (claim.claimed) {
      running_[claim.task] = steady_clock::now() + milliseconds(claim.run_ms);
    } else if (claim.finished) {
      queue_.acknowledge(incarnation_, {claim.task});
    }
  }
  return true;
}

}  // namespace orchestrator
