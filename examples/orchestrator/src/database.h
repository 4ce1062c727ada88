#pragma once
// PostgreSQL behind a deadline. A query never blocks longer than it is allowed to, even when the
// server is stopped in the middle of it.

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

struct pg_conn;
struct pg_result;

namespace orchestrator {

class QueryResult {
 public:
  enum class Status {
    kOk,
    kUnavailable,  // no connection, deadline passed, shutting down: worth trying again later
    kRejected,     // the server understood and said no
  };

  QueryResult(Status status, std::string error) : status_(status), error_(std::move(error)) {}
  explicit QueryResult(pg_result* result);

  bool ok() const { return status_ == Status::kOk; }
  bool unavailable() const { return status_ == Status::kUnavailable; }
  const std::string& error() const { return error_; }

  int rows() const;
  int affected() const;
  std::string_view text(int row, int column) const;  // valid while the result lives
  std::int64_t number(int row, int column) const;
  bool truth(int row, int column) const { return text(row, column) == "t"; }

 private:
  struct Clear {
    void operator()(pg_result* result) const;
  };
  Status status_ = Status::kOk;
  std::string error_;
  std::unique_ptr<pg_result, Clear> result_;
};

// One connection, made on first use and again after it broke. For one thread at a time.
class Database {
 public:
  Database(std::string dsn, std::chrono::milliseconds deadline);

  // Parameters are texts: $1, $2, ...
  QueryResult query(const char* sql, const std::vector<std::string>& parameters = {});
  bool connected() const { return connection_ != nullptr; }

 private:
  using Instant = std::chrono::steady_clock::time_point;
  struct Finish {
    void operator()(pg_conn* connection) const;
  };
  std::optional<std::string> connect(Instant until);
  QueryResult receive(Instant until);
  QueryResult lose(std::string reason);
  bool wait(short events, Instant until) const;

  std::string dsn_;
  std::chrono::milliseconds deadline_;
  std::unique_ptr<pg_conn, Finish> connection_;
};

// PostgreSQL's text form of an array of numbers: {1,2,3}.
std::string array_of(const std::vector<std::int64_t>& numbers);

}  // namespace orchestrator
