#include "task_queue.h"

#include <fmt/format.h>

#include <cstdlib>

#include "log.h"

namespace orchestrator {
namespace {

// Keys of every script: the ready list (oldest at the right end), the reserved set (score: when the
// reservation ends, in milliseconds of the server's clock), and who holds which message.
constexpr const char* kReady = "queue:ready";
constexpr const char* kReserved = "queue:reserved";
constexpr const char* kHolders = "queue:holders";

constexpr const char* kReserve = R"(
  local now = redis.call('TIME')
  local ends = '+inf'
  if tonumber(ARGV[3]) > 0 then
    ends = now[1] * 1000 + math.floor(now[2] / 1000) + tonumber(ARGV[3])
  end
  local taken = {}
  for _ = 1, tonumber(ARGV[2]) do
    local message = redis.call('RPOP', KEYS[1])
    if not message then break end
    redis.call('ZADD', KEYS[2], ends, message)
    redis.call('HSET', KEYS[3], message, ARGV[1])
    taken[#taken + 1] = message
  end
  return taken)";

constexpr const char* kExtend = R"(
  local now = redis.call('TIME')
  local ends = now[1] * 1000 + math.floor(now[2] / 1000) + tonumber(ARGV[2])
  for i = 3, #ARGV do
    if redis.call('HGET', KEYS[3], ARGV[i]) == ARGV[1] then
      redis.call('ZADD', KEYS[2], 'XX', ends, ARGV[i])
    end
  end
  return 1)";

// Only the holder may acknowledge: a worker that was too slow must not remove the message from
// under the worker that has it now.
constexpr const char* kAcknowledge = R"(
  for i = 2, #ARGV do
    if redis.call('HGET', KEYS[3], ARGV[i]) == ARGV[1] then
      redis.call('ZREM', KEYS[2], ARGV[i])
      redis.call('HDEL', KEYS[3], ARGV[i])
    end
  end
  return 1)";

constexpr const char* kReturnExpired = R"(
  local now = redis.call('TIME')
  local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
  local expired = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now_ms, 'LIMIT', 0, 1000)
  for _, message in ipairs(expired) do
    redis.call('ZREM', KEYS[2], message)
    redis.call('HDEL', KEYS[3], message)
    redis.call('RPUSH', KEYS[1], message)
  end
  return #expired)";

constexpr const char* kSnapshot = R"(
  return {redis.call('LRANGE', KEYS[1], 0, -1), redis.call('HGETALL', KEYS[3])})";

TaskId as_task(const CacheReply& reply) {
  return std::atoll(reply.text.c_str());
}

void append(std::vector<std::string>& words, const std::vector<TaskId>& tasks) {
  for (const TaskId task : tasks) words.push_back(std::to_string(task));
}

}  // namespace

std::optional<CacheReply> TaskQueue::run(const char* script,
                                         const std::vector<std::string>& arguments) {
  std::vector<std::string> words{"EVAL", script, "3", kReady, kReserved, kHolders};
  words.insert(words.end(), arguments.begin(), arguments.end());
  CacheReply reply = cache_.command(words);
  if (reply.ok()) return reply;
  log_warning(fmt::format("queue: {}", reply.text));
  return std::nullopt;
}

bool TaskQueue::push(const std::vector<TaskId>& tasks, milliseconds retry_budget) {
  std::vector<std::string> words{"LPUSH", kReady};
  append(words, tasks);
  const CacheReply reply = cache_.command_within(words, retry_budget);
  if (!reply.ok()) {
    log_warning(
        fmt::format("queue: {} messages could not be pushed: {}", tasks.size(), reply.text));
  }
  return reply.ok();
}

std::optional<std::vector<TaskId>> TaskQueue::reserve(const std::string& holder, int limit,
                                                      milliseconds visibility) {
  const auto reply =
      run(kReserve, {holder, std::to_string(limit), std::to_string(visibility.count())});
  if (!reply) return std::nullopt;
  std::vector<TaskId> tasks;
  for (const auto& message : reply->list) tasks.push_back(as_task(message));
  return tasks;
}

bool TaskQueue::extend(const std::string& holder, const std::vector<TaskId>& tasks,
                       milliseconds visibility) {
  std::vector<std::string> arguments{holder, std::to_string(visibility.count())};
  append(arguments, tasks);
  return run(kExtend, arguments).has_value();
}

bool TaskQueue::acknowledge(const std::string& holder, const std::vector<TaskId>& tasks) {
  std::vector<std::string> arguments{holder};
  append(arguments, tasks);
  return run(kAcknowledge, arguments).has_value();
}

std::optional<int> TaskQueue::return_expired() {
  const auto reply = run(kReturnExpired, {});
  if (!reply) return std::nullopt;
  return static_cast<int>(reply->number);
}

std::optional<QueueSnapshot> TaskQueue::snapshot() {
  const auto reply = run(kSnapshot, {});
  if (!reply || reply->list.size() != 2) return std::nullopt;
  QueueSnapshot result;
  for (const auto& message : reply->list[0].list) result.ready.push_back(as_task(message));
  const auto& holders = reply->list[1].list;
  for (std::size_t i = 0; i + 1 < holders.size(); i += 2) {
    result.reserved[as_task(holders[i])] = holders[i + 1].text;
  }
  return result;
}

}  // namespace orchestrator
