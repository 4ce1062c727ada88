#include "scheduler.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "log.h"

namespace orchestrator {
namespace {

using std::chrono::steady_clock;

constexpr milliseconds kTick{50};
constexpr milliseconds kCleanUpEvery{500};
constexpr milliseconds kDatabaseDeadline{2'000};
constexpr milliseconds kQueueBudget{500};
// A message that is not pushed is a task that does not run: here patience costs nothing.
constexpr milliseconds kPushBudget{8'000};

}  // namespace

Scheduler::Scheduler(const Settings& settings)
    : cures_(settings.cures),
      database_(settings.primary_dsn, kDatabaseDeadline),
      cache_(settings.sentinel_port, settings.queue_password,
             CachePolicy::with(settings.cures, kQueueBudget)),
      store_(database_),
      queue_(cache_) {}

void Scheduler::run() {
  while (!store_.make_schema()) std::this_thread::sleep_for(kCleanUpEvery);
  abandon_silent_tasks(cures_.reaper ? kAbandonedAfter : kAbandonedAfterNaive);
  log_info("ready");
  auto next_clean_up = steady_clock::now();
  while (true) {
    queue_runnable_tasks();
    store_.finish_workflows();
    if (steady_clock::now() >= next_clean_up) {
      clean_up();
      next_clean_up = steady_clock::now() + kCleanUpEvery;
    }
    // A database that is down answers at once; asking it twenty times a second helps nobody.
    std::this_thread::sleep_for(database_.connected() ? kTick : kCleanUpEvery);
  }
}

void Scheduler::queue_runnable_tasks() {
  const auto tasks = store_.queue_runnable_tasks();
  if (tasks && !tasks->empty()) queue_.push(*tasks, kPushBudget);
}

void Scheduler::clean_up() {
  if (cures_.visibility_timeout) return_expired_messages();
  if (cures_.reaper) abandon_silent_tasks(kAbandonedAfter);
  if (cures_.requeue_dead) settle_abandoned_tasks();
  audit();
}

void Scheduler::return_expired_messages() {
  const auto count = queue_.return_expired();
  if (count && *count > 0) {
    log_info(fmt::format("{} messages were not acknowledged in time and are ready again", *count));
  }
}

void Scheduler::abandon_silent_tasks(milliseconds silent_for) {
  const auto count = store_.abandon_tasks(silent_for);
  if (count && *count > 0) log_info(fmt::format("{} silent tasks are abandoned", *count));
}

void Scheduler::settle_abandoned_tasks() {
  const auto settled = store_.settle_abandoned_tasks();
  if (settled && settled->requeued + settled->failed > 0) {
    log_info(fmt::format("of the abandoned tasks {} run again, {} failed", settled->requeued,
                         settled->failed));
  }
}

void Scheduler::audit() {
  // The queue first: a task that is queued in between has no message yet, and that passes, while a
  // message whose task ends in between would look the same in either order.
  const auto queue = queue_.snapshot();
  if (!queue) return;
  const auto tasks = store_.active_tasks();
  const auto workers = store_.live_workers();
  if (!tasks || !workers) return;
  const auto now = steady_clock::now();
  audit_.compare(*queue, *tasks, *workers, now);
  store_.write_audit(audit_.count(now), audit_.details(now));

  // The reaper's second duty: messages that were lost, as when a primary dies before its replica
  // has heard of them.
  const auto lost = audit_.queued_without_message(now);
  if (cures_.reaper && !lost.empty() && queue_.push(lost, kQueueBudget)) {
    log_info(fmt::format("{} tasks had lost their message and have one again", lost.size()));
  }
}

}  // namespace orchestrator
