#pragma once
// What a process is told: where everything is (a JSON file, so that no secret stands in argv) and
// which of the six cures it has (argv, so that `ps` shows them).

#include <chrono>
#include <optional>
#include <string>

namespace orchestrator {

using std::chrono::milliseconds;

// The six cures. Without any of them the orchestrator is naive; `--hardened` is all of them.
struct Cures {
  bool visibility_timeout =
      false;                    // a reserved message returns to the queue when its worker is silent
  bool cache_retries = false;   // short cache timeouts, retries with backoff, database instead
  bool reaper = false;          // finds abandoned tasks and messages within seconds
  bool requeue_dead = false;    // abandoned tasks run again, or are marked failed
  bool warm_pool = false;       // the API opens its database connections before they are needed
  bool mind_the_spool = false;  // full: no new work, and what is done waits for room
};

// The clockwork of the cures. The naive abandonment time is an hour and looked at only when the
// scheduler starts.
inline constexpr milliseconds kHeartbeatEvery{500};
inline constexpr milliseconds kVisibilityTimeout{3'000};
inline constexpr milliseconds kAbandonedAfter{3'000};
inline constexpr milliseconds kAbandonedAfterNaive{3'600'000};
inline constexpr int kAttemptsMax = 5;

struct Settings {
  std::string member;       // "worker-2"
  std::string incarnation;  // "worker-2/4711-1717171717": this life of the member
  Cures cures;
  std::string primary_dsn;  // libpq connection strings
  std::string standby_dsn;
  int api_port = 0;
  int sentinel_port = 0;
  std::string queue_password;
  std::string spool;  // folder
};

// Reads `--settings=FILE --instance=NAME/MEMBER [--max-lifetime=SECONDS] [cures]`. Says what is
// wrong on standard error and gives nothing when it is. Arms the lifetime: a process that nobody
// stops ends by itself.
std::optional<Settings> read_settings(int argc, char** argv);

}  // namespace orchestrator
