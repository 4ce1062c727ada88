#include "store/store.h"

#include <fmt/format.h>
#include <sqlite3.h>

#include <array>
#include <utility>

#include "model/verdict.h"

namespace squall::store {

namespace {

// Each entry brings the schema from its index to the next version. Never edit one that was shipped.
constexpr std::array kMigrations = {
    R"(CREATE TABLE run (
         run TEXT PRIMARY KEY,
         experiment TEXT NOT NULL,
         system TEXT NOT NULL,
         environment TEXT NOT NULL,
         plan_hash TEXT NOT NULL,
         record_path TEXT NOT NULL,
         started_ns INTEGER NOT NULL,
         duration_ns INTEGER NOT NULL,
         outcome TEXT NOT NULL,
         verdict TEXT NOT NULL,
         exit_status INTEGER NOT NULL) STRICT;
       CREATE INDEX run_by_time ON run (started_ns DESC);
       CREATE INDEX run_by_experiment ON run (experiment, started_ns DESC);
       CREATE TABLE prediction (
         run TEXT NOT NULL REFERENCES run (run) ON DELETE CASCADE,
         name TEXT NOT NULL,
         phase TEXT NOT NULL,
         text TEXT NOT NULL,
         verdict TEXT NOT NULL,
         observed REAL,
         interval_low REAL,
         interval_high REAL,
         threshold REAL,
         samples INTEGER NOT NULL,
         PRIMARY KEY (run, name, phase)) STRICT, WITHOUT ROWID;)",
};

base::Error database_error(sqlite3* database, std::string what) {
  const int code = database == nullptr ? SQLITE_NOMEM : sqlite3_errcode(database);
  base::Error error;
  error.code = base::ErrorCode::kInternal;
  error.message =
      fmt::format("{}: {}", what, database == nullptr ? "out of memory" : sqlite3_errmsg(database));
  if (code == SQLITE_CORRUPT || code == SQLITE_NOTADB) {
    error.code = base::ErrorCode::kCorrupt;
    error.hint = "the index can be made anew from the records: squall reindex";
  } else if (code == SQLITE_FULL) {
    error.code = base::ErrorCode::kExhausted;
    error.hint = "free some space where the system map lies";
  } else if (code == SQLITE_CANTOPEN || code == SQLITE_READONLY || code == SQLITE_PERM) {
    error.code = base::ErrorCode::kPermission;
    error.hint = "the folder .squall beside the system map must be writable for you";
  } else if (code == SQLITE_BUSY) {
    error.code = base::ErrorCode::kConflict;
    error.hint = "another squall is writing; try again";
  }
  return error;
}

// A prepared statement that finalizes itself. Binding counts from 1 in call order.
class Statement {
 public:
  Statement(sqlite3* database, const char* sql) : database_(database) {
    if (sqlite3_prepare_v2(database, sql, -1, &statement_, nullptr) != SQLITE_OK) {
      statement_ = nullptr;
    }
  }
  ~Statement() { sqlite3_finalize(statement_); }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  Statement& text(std::string_view value) {
    if (statement_ != nullptr) {
      sqlite3_bind_text(statement_, ++bound_, value.data(), static_cast<int>(value.size()),
                        SQLITE_TRANSIENT);
    }
    return *this;
  }
  Statement& integer(std::int64_t value) {
    if (statement_ != nullptr) sqlite3_bind_int64(statement_, ++bound_, value);
    return *this;
  }
  Statement& real(const std::optional<double>& value) {
    if (statement_ == nullptr) return *this;
    if (value) {
      sqlite3_bind_double(statement_, ++bound_, *value);
    } else {
      sqlite3_bind_null(statement_, ++bound_);
    }
    return *this;
  }
  // SQLITE_ROW, SQLITE_DONE or an error code.
  int step() { return statement_ == nullptr ? SQLITE_ERROR : sqlite3_step(statement_); }
  std::string text_at(int column) const {
    const auto* bytes = sqlite3_column_text(statement_, column);
    const int size = sqlite3_column_bytes(statement_, column);
    return bytes == nullptr
               ? std::string{}
               : std::string(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(size));
  }
  std::int64_t integer_at(int column) const { return sqlite3_column_int64(statement_, column); }
  base::Error error(std::string what) const { return database_error(database_, std::move(what)); }

 private:
  sqlite3* database_;
  sqlite3_stmt* statement_ = nullptr;
  int bound_ = 0;
};

base::Status execute(sqlite3* database, const char* sql, const char* what) {
  if (sqlite3_exec(database, sql, nullptr, nullptr, nullptr) != SQLITE_OK) {
    return database_error(database, what);
  }
  return {};
}

base::Result<int> schema_version(sqlite3* database) {
  Statement query(database, "PRAGMA user_version");
  if (query.step() != SQLITE_ROW) return query.error("reading the version of the index");
  return static_cast<int>(query.integer_at(0));
}

base::Status migrate(sqlite3* database) {
  SQUALL_ASSIGN(const int version, schema_version(database));
  const int newest = static_cast<int>(kMigrations.size());
  if (version > newest) {
    return base::Error{
        .code = base::ErrorCode::kUnsupported,
        .message = fmt::format("the index has version {}, this Squall knows {}", version, newest),
        .hint =
            "use the newer Squall, or move .squall/index.db away and run "
            "`squall reindex`",
        .context = {}};
  }
  if (version == newest) return {};
  SQUALL_TRY(execute(database, "BEGIN IMMEDIATE", "locking the index"));
  // Another process may have migrated while we waited for the lock.
  SQUALL_ASSIGN(const int locked_version, schema_version(database));
  for (int next = locked_version; next < newest; ++next) {
    SQUALL_TRY(execute(database, kMigrations[static_cast<std::size_t>(next)],
                       "bringing the index up to date"));
  }
  SQUALL_TRY(execute(database, fmt::format("PRAGMA user_version = {}", newest).c_str(),
                     "bringing the index up to date"));
  return execute(database, "COMMIT", "bringing the index up to date");
}

constexpr const char* kColumns =
    "run, experiment, system, environment, plan_hash, record_path, started_ns, duration_ns, "
    "outcome, verdict, exit_status";

RunRow row_of(const Statement& statement) {
  RunRow row;
  row.run = statement.text_at(0);
  row.experiment = statement.text_at(1);
  row.system = statement.text_at(2);
  row.environment = statement.text_at(3);
  row.plan_hash = statement.text_at(4);
  row.record_path = statement.text_at(5);
  row.started_ns = statement.integer_at(6);
  row.duration_ns = statement.integer_at(7);
  row.outcome = statement.text_at(8);
  row.verdict = statement.text_at(9);
  row.exit_status = static_cast<int>(statement.integer_at(10));
  return row;
}

base::Status put_prediction(sqlite3* database, const std::string& run,
                            const judge::PredictionResult& result) {
  Statement insert(database,
                   "INSERT OR REPLACE INTO prediction (run, name, phase, text, verdict, observed, "
                   "interval_low, interval_high, threshold, samples) "
                   "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
  insert.text(run).text(result.name).text(result.phase).text(result.text);
  insert.text(model::to_string(result.verdict)).real(result.observed).real(result.interval_low);
  insert.real(result.interval_high).real(result.threshold);
  insert.integer(static_cast<std::int64_t>(result.samples));
  if (insert.step() != SQLITE_DONE) return insert.error("writing a prediction to the index");
  return {};
}

}  // namespace

base::Result<Store> Store::open(const std::string& path) {
  sqlite3* database = nullptr;
  const int opened =
      sqlite3_open_v2(path.c_str(), &database, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, nullptr);
  Store store(database);
  if (opened != SQLITE_OK) return database_error(database, "opening " + path);
  sqlite3_extended_result_codes(database, 0);
  sqlite3_busy_timeout(database, 5000);
  SQUALL_TRY(execute(database, "PRAGMA journal_mode = WAL", "opening the index"));
  // The index can be rebuilt, so a lost last transaction after a power cut is no loss.
  SQUALL_TRY(execute(database, "PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON",
                     "opening the index"));
  SQUALL_TRY(migrate(database));
  return store;
}

Store::Store(Store&& other) noexcept : database_(std::exchange(other.database_, nullptr)) {}
Store& Store::operator=(Store&& other) noexcept {
  if (this != &other) {
    sqlite3_close(database_);
    database_ = std::exchange(other.database_, nullptr);
  }
  return *this;
}
Store::~Store() {
  sqlite3_close(database_);
}

base::Status Store::put(const RunRow& row) {
  SQUALL_TRY(execute(database_, "SAVEPOINT put", "writing to the index"));
  Statement forget(database_, "DELETE FROM run WHERE run = ?");
  forget.text(row.run);
  if (forget.step() != SQLITE_DONE) return forget.error("writing to the index");
  Statement insert(database_,
                   "INSERT INTO run (run, experiment, system, environment, plan_hash, record_path, "
                   "started_ns, duration_ns, outcome, verdict, exit_status) "
                   "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
  insert.text(row.run).text(row.experiment).text(row.system).text(row.environment);
  insert.text(row.plan_hash).text(row.record_path).integer(row.started_ns);
  insert.integer(row.duration_ns).text(row.outcome).text(row.verdict).integer(row.exit_status);
  if (insert.step() != SQLITE_DONE) return insert.error("writing a run to the index");
  for (const judge::PredictionResult& result : row.predictions) {
    SQUALL_TRY(put_prediction(database_, row.run, result));
  }
  return execute(database_, "RELEASE put", "writing to the index");
}

base::Result<std::vector<RunRow>> Store::list(const RunFilter& filter) const {
  const std::string sql = fmt::format(
      "SELECT {} FROM run WHERE (?1 = '' OR experiment = ?1) AND (?2 = '' OR verdict = ?2) "
      "ORDER BY started_ns DESC, run DESC LIMIT {}",
      kColumns, filter.limit > 0 ? filter.limit : -1);
  Statement query(database_, sql.c_str());
  query.text(filter.experiment).text(filter.verdict);
  std::vector<RunRow> rows;
  int state = SQLITE_DONE;
  while ((state = query.step()) == SQLITE_ROW) rows.push_back(row_of(query));
  if (state != SQLITE_DONE) return query.error("reading the index");
  return rows;
}

base::Result<RunRow> Store::find(std::string_view id) const {
  const bool last = id == "last";
  const std::string sql =
      fmt::format("SELECT {} FROM run {} ORDER BY started_ns DESC, run DESC LIMIT 2", kColumns,
                  last ? "" : "WHERE instr(run, ?1) > 0");
  Statement query(database_, sql.c_str());
  if (!last) query.text(id);
  std::vector<RunRow> rows;
  int state = SQLITE_DONE;
  while ((state = query.step()) == SQLITE_ROW) rows.push_back(row_of(query));
  if (state != SQLITE_DONE) return query.error("reading the index");
  if (rows.empty() || (id.empty() && !last)) {
    return base::Error{
        .code = base::ErrorCode::kNotFound,
        .message =
            last ? std::string("there is no run yet") : fmt::format("no run matches `{}`", id),
        .hint = last ? "start one: squall run EXPERIMENT.yaml" : "list them with `squall list`",
        .context = {}};
  }
  if (!last && rows.size() > 1 && rows[0].run != id) {
    return base::Error{.code = base::ErrorCode::kConflict,
                       .message = fmt::format("several runs match `{}`, among them {} and {}", id,
                                              rows[0].run, rows[1].run),
                       .hint = "give more of the id",
                       .context = {}};
  }
  return std::move(rows.front());
}

base::Status Store::clear() {
  return execute(database_, "DELETE FROM run", "clearing the index");
}
base::Status Store::begin() {
  return execute(database_, "BEGIN IMMEDIATE", "locking the index");
}
base::Status Store::commit() {
  return execute(database_, "COMMIT", "writing to the index");
}

}  // namespace squall::store
