#include "database.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <libpq-fe.h>
#include <poll.h>

#include <charconv>
#include <cstdlib>

namespace orchestrator {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

std::string one_line(std::string_view message) {
  std::string line(message.substr(0, message.find('\n')));
  return line.empty() ? "connection lost" : line;
}

// Class 57P is "operator intervention" (shutting down, starting up), 08 connection trouble, 53 out
// of resources, 25006 a write on a standby: all pass, given time.
bool passes_with_time(std::string_view sqlstate) {
  return sqlstate.starts_with("57P") || sqlstate.starts_with("08") || sqlstate.starts_with("53") ||
         sqlstate == "25006" || sqlstate.empty();
}

}  // namespace

void QueryResult::Clear::operator()(pg_result* result) const {
  PQclear(result);
}

QueryResult::QueryResult(pg_result* result) : result_(result) {
  const auto status = PQresultStatus(result);
  if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK) return;
  const char* sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
  status_ = passes_with_time(sqlstate == nullptr ? "" : sqlstate) ? Status::kUnavailable
                                                                  : Status::kRejected;
  error_ = one_line(PQresultErrorMessage(result));
}

int QueryResult::rows() const {
  return result_ ? PQntuples(result_.get()) : 0;
}

int QueryResult::affected() const {
  return result_ ? std::atoi(PQcmdTuples(result_.get())) : 0;
}

std::string_view QueryResult::text(int row, int column) const {
  return {PQgetvalue(result_.get(), row, column),
          static_cast<std::size_t>(PQgetlength(result_.get(), row, column))};
}

std::int64_t QueryResult::number(int row, int column) const {
  std::int64_t value = 0;
  const std::string_view digits = text(row, column);
  std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return value;
}

Database::Database(std::string dsn, milliseconds deadline)
    : dsn_(std::move(dsn)), deadline_(deadline) {}

void Database::Finish::operator()(pg_conn* connection) const {
  PQfinish(connection);
}

bool Database::wait(short events, Instant until) const {
  pollfd waiting{PQsocket(connection_.get()), events, 0};
  const auto left = std::chrono::duration_cast<milliseconds>(until - steady_clock::now()).count();
  return left > 0 && ::poll(&waiting, 1, static_cast<int>(left)) > 0;
}

std::optional<std::string> Database::connect(Instant until) {
  connection_.reset(PQconnectStart(dsn_.c_str()));
  if (connection_ == nullptr) return "out of memory";
  auto state = PGRES_POLLING_WRITING;
  while (PQstatus(connection_.get()) != CONNECTION_BAD && state != PGRES_POLLING_OK) {
    if (state == PGRES_POLLING_FAILED) break;
    if (!wait(state == PGRES_POLLING_READING ? POLLIN : POLLOUT, until)) {
      return "no answer to the connection request in time";
    }
    state = PQconnectPoll(connection_.get());
  }
  if (state != PGRES_POLLING_OK) return one_line(PQerrorMessage(connection_.get()));
  return std::nullopt;
}

QueryResult Database::lose(std::string reason) {
  connection_.reset();
  return {QueryResult::Status::kUnavailable, std::move(reason)};
}

QueryResult Database::query(const char* sql, const std::vector<std::string>& parameters) {
  const auto until = steady_clock::now() + deadline_;
  if (connection_ == nullptr) {
    if (auto error = connect(until)) return lose(*error);
  }
  std::vector<const char*> values;
  for (const auto& parameter : parameters) values.push_back(parameter.c_str());
  const int count = static_cast<int>(values.size());
  // Without parameters several statements may stand in one text, as the schema does.
  const int sent = count == 0 ? PQsendQuery(connection_.get(), sql)
                              : PQsendQueryParams(connection_.get(), sql, count, nullptr,
                                                  values.data(), nullptr, nullptr, 0);
  if (sent == 0) return lose(one_line(PQerrorMessage(connection_.get())));
  return receive(until);
}

QueryResult Database::receive(Instant until) {
  std::optional<QueryResult> last;
  while (true) {
    while (PQisBusy(connection_.get()) != 0) {
      if (!wait(POLLIN, until)) return lose("no answer in time");
      if (PQconsumeInput(connection_.get()) == 0) {
        return lose(one_line(PQerrorMessage(connection_.get())));
      }
    }
    pg_result* next = PQgetResult(connection_.get());
    if (next == nullptr) break;
    if (!last || last->ok()) {
      last.emplace(next);
    } else {
      PQclear(next);
    }
  }
  if (!last) return lose("connection lost");
  if (last->unavailable()) connection_.reset();
  return std::move(*last);
}

std::string array_of(const std::vector<std::int64_t>& numbers) {
  return fmt::format("{{{}}}", fmt::join(numbers, ","));
}

}  // namespace orchestrator
