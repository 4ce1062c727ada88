#pragma once
// The index of runs beside the system map: `.squall/index.db` (SQLite, WAL). Nothing in it is the
// truth; `squall reindex` makes it anew from the records in `.squall/runs/`.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "judge/judgement.h"

struct sqlite3;

namespace squall::store {

// One run as listed.
struct RunRow {
  std::string run;  // id
  std::string experiment;
  std::string system;
  std::string environment;
  std::string plan_hash;
  std::string record_path;
  std::int64_t started_ns = 0;  // wall clock, since 1970
  std::int64_t duration_ns = 0;
  std::string outcome;  // as model::to_string
  std::string verdict;
  int exit_status = 0;
  std::vector<judge::PredictionResult> predictions;  // only the columns of the index are kept
};

struct RunFilter {
  std::string experiment;  // empty: all
  std::string verdict;
  int limit = 50;  // newest first; 0: no limit
};

// Not thread-safe. Several processes may have the same index open.
class Store {
 public:
  // Opens or creates `path` and brings its schema up to date. An index written by a newer Squall is
  // refused with kUnsupported; a damaged one with kCorrupt and the hint to run `squall reindex`.
  static base::Result<Store> open(const std::string& path);
  Store(Store&&) noexcept;
  Store& operator=(Store&&) noexcept;
  ~Store();

  base::Status put(const RunRow& row);  // replaces the row of the same run
  base::Result<std::vector<RunRow>> list(const RunFilter& filter) const;  // without predictions
  // `id` is a whole id or any part of it that is unique; "last" is the newest run. kNotFound and
  // kConflict (several match) name what there is.
  base::Result<RunRow> find(std::string_view id) const;
  base::Status clear();
  // All puts in one transaction when called between these two.
  base::Status begin();
  base::Status commit();

 private:
  explicit Store(sqlite3* database) : database_(database) {}
  sqlite3* database_ = nullptr;
};

}  // namespace squall::store
