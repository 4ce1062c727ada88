#pragma once
// The list of recent workflows: kept in the cache, so that reads go on while the database is down,
// and, with `--cache-retries`, read from the database while the cache is down.

#include <atomic>
#include <optional>
#include <string>

#include "cache.h"
#include "connection_pool.h"
#include "database.h"
#include "settings.h"

namespace orchestrator {

struct RecentAnswer {
  enum class Source { kCache, kStaleCache, kDatabase, kNone };
  Source source = Source::kNone;
  std::string body;  // JSON; with kNone the reason, as text
};

class RecentWorkflows {
 public:
  RecentWorkflows(const Cures& cures, ConnectionPool<Cache>& caches,
                  ConnectionPool<Database>& databases)
      : cures_(cures), caches_(caches), databases_(databases) {}

  RecentAnswer read();  // thread-safe

 private:
  std::optional<std::string> read_database();
  std::optional<std::string> refresh(Cache& cache);

  Cures cures_;
  ConnectionPool<Cache>& caches_;
  ConnectionPool<Database>& databases_;
  // One request refreshes an old list; the others are content with it.
  std::atomic<bool> refreshing_ = false;
};

}  // namespace orchestrator
