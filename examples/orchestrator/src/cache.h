#pragma once
// Redis found through Sentinel. Here weakness and cure 2 live: without `--cache-retries` a command
// is tried once and may wait for ever; with it, short timeouts and retries with backoff ride out a
// fail-over within a budget.

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "settings.h"

struct redisContext;

namespace orchestrator {

struct CachePolicy {
  milliseconds connect_timeout{0};  // 0: as long as the kernel likes
  milliseconds command_timeout{0};  // 0: for ever
  milliseconds retry_budget{0};     // 0: one attempt

  // What this process may do, given its cures: `budget` is how long one command may take in all.
  static CachePolicy with(const Cures& cures, milliseconds budget);
};

struct CacheReply {
  enum class Kind { kNothing, kText, kNumber, kList, kRejected, kUnavailable };
  Kind kind = Kind::kNothing;
  std::string text;  // also the reason when rejected or unavailable
  std::int64_t number = 0;
  std::vector<CacheReply> list;

  bool ok() const { return kind != Kind::kRejected && kind != Kind::kUnavailable; }
};

// One connection to the present primary, made on first use and again after it broke. For one thread
// at a time.
class Cache {
 public:
  Cache(int sentinel_port, std::string password, CachePolicy policy);

  CacheReply command(const std::vector<std::string>& words);
  // The same with a budget of its own, for a caller that can afford to wait longer or less.
  CacheReply command_within(const std::vector<std::string>& words, milliseconds retry_budget);

 private:
  struct Free {
    void operator()(redisContext* context) const;
  };
  using Context = std::unique_ptr<redisContext, Free>;

  CacheReply try_once(const std::vector<std::string>& words);
  std::optional<std::string> connect();
  Context open(int port, std::string& error) const;

  int sentinel_port_;
  std::string password_;
  CachePolicy policy_;
  Context context_;
};

}  // namespace orchestrator
