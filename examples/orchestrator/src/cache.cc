#include "cache.h"

#include <fmt/format.h>
#include <hiredis/hiredis.h>
#include <sys/time.h>

#include <algorithm>
#include <cstdlib>
#include <thread>

namespace orchestrator {
namespace {

using std::chrono::steady_clock;

constexpr const char* kSentinelName = "queue";
constexpr milliseconds kFirstBackoff{10};
constexpr milliseconds kLongestBackoff{160};

timeval as_timeval(milliseconds duration) {
  return {duration.count() / 1000, (duration.count() % 1000) * 1000};
}

CacheReply unavailable(std::string reason) {
  return {CacheReply::Kind::kUnavailable, std::move(reason), 0, {}};
}

CacheReply converted(const redisReply& reply) {
  CacheReply result;
  switch (reply.type) {
    case REDIS_REPLY_STRING:
    case REDIS_REPLY_STATUS:
      result.kind = CacheReply::Kind::kText;
      result.text.assign(reply.str, reply.len);
      break;
    case REDIS_REPLY_INTEGER:
      result.kind = CacheReply::Kind::kNumber;
      result.number = reply.integer;
      break;
    case REDIS_REPLY_ARRAY:
      result.kind = CacheReply::Kind::kList;
      for (std::size_t i = 0; i < reply.elements; ++i) {
        result.list.push_back(converted(*reply.element[i]));
      }
      break;
    case REDIS_REPLY_ERROR:
      result.kind = CacheReply::Kind::kRejected;
      result.text.assign(reply.str, reply.len);
      break;
    default:
      break;
  }
  return result;
}

// Answers of a server that is no longer, or not yet, the primary. The connection to it is useless.
bool from_the_wrong_server(const CacheReply& reply) {
  return reply.kind == CacheReply::Kind::kRejected &&
         (reply.text.starts_with("READONLY") || reply.text.starts_with("LOADING") ||
          reply.text.starts_with("MASTERDOWN"));
}

CacheReply send(redisContext& context, const std::vector<std::string>& words) {
  std::vector<const char*> texts;
  std::vector<std::size_t> lengths;
  for (const auto& word : words) {
    texts.push_back(word.data());
    lengths.push_back(word.size());
  }
  auto* raw = static_cast<redisReply*>(
      redisCommandArgv(&context, static_cast<int>(words.size()), texts.data(), lengths.data()));
  if (raw == nullptr) return unavailable(context.errstr);
  CacheReply reply = converted(*raw);
  freeReplyObject(raw);
  return reply;
}

}  // namespace

CachePolicy CachePolicy::with(const Cures& cures, milliseconds budget) {
  if (!cures.cache_retries) return {};
  return {milliseconds(100), milliseconds(250), budget};
}

Cache::Cache(int sentinel_port, std::string password, CachePolicy policy)
    : sentinel_port_(sentinel_port), password_(std::move(password)), policy_(policy) {}

void Cache::Free::operator()(redisContext* context) const {
  redisFree(context);
}

Cache::Context Cache::open(int port, std::string& error) const {
  Context context(
      policy_.connect_timeout.count() > 0
          ? redisConnectWithTimeout("127.0.0.1", port, as_timeval(policy_.connect_timeout))
          : redisConnect("127.0.0.1", port));
  if (context == nullptr || context->err != 0) {
    error = context == nullptr ? "out of memory" : context->errstr;
    return nullptr;
  }
  if (policy_.command_timeout.count() > 0) {
    redisSetTimeout(context.get(), as_timeval(policy_.command_timeout));
  }
  const CacheReply greeting = send(*context, {"AUTH", password_});
  if (!greeting.ok()) {
    error = greeting.text;
    return nullptr;
  }
  return context;
}

std::optional<std::string> Cache::connect() {
  std::string error;
  const Context sentinel = open(sentinel_port_, error);
  if (sentinel == nullptr) return "sentinel: " + error;
  const CacheReply address =
      send(*sentinel, {"SENTINEL", "get-master-addr-by-name", kSentinelName});
  if (address.list.size() != 2) return "sentinel knows no primary";
  context_ = open(std::atoi(address.list[1].text.c_str()), error);
  if (context_ == nullptr) return "primary: " + error;
  return std::nullopt;
}

CacheReply Cache::try_once(const std::vector<std::string>& words) {
  if (context_ == nullptr) {
    if (auto error = connect()) return unavailable(*error);
  }
  CacheReply reply = send(*context_, words);
  if (reply.kind == CacheReply::Kind::kUnavailable || from_the_wrong_server(reply)) {
    reply.kind = CacheReply::Kind::kUnavailable;
    context_.reset();
  }
  return reply;
}

CacheReply Cache::command(const std::vector<std::string>& words) {
  return command_within(words, policy_.retry_budget);
}

CacheReply Cache::command_within(const std::vector<std::string>& words, milliseconds retry_budget) {
  if (policy_.retry_budget.count() == 0) retry_budget = milliseconds(0);
  const auto until = steady_clock::now() + retry_budget;
  milliseconds backoff = kFirstBackoff;
  while (true) {
    CacheReply reply = try_once(words);
    if (reply.kind != CacheReply::Kind::kUnavailable || steady_clock::now() + backoff > until) {
      return reply;
    }
    // Callers are many and start together when a primary dies; the spread keeps them apart.
    const auto spread = std::chrono::microseconds(std::rand() % (backoff.count() * 500));
    std::this_thread::sleep_for(backoff + spread);
    backoff = std::min(backoff * 2, kLongestBackoff);
  }
}

}  // namespace orchestrator
