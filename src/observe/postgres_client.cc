#include "observe/postgres_client.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <poll.h>
#include <postgresql/libpq-fe.h>

#include <algorithm>
#include <array>

#include "base/text.h"
#include "observe/address.h"

namespace squall::observe {
namespace {

// The functions of libpq that we use.
struct Library {
  decltype(&PQconninfoParse) parse = nullptr;
  decltype(&PQconninfoFree) free_parsed = nullptr;
  decltype(&PQfreemem) free_memory = nullptr;
  decltype(&PQconnectStartParams) connect_start = nullptr;
  decltype(&PQconnectPoll) connect_poll = nullptr;
  decltype(&PQfinish) finish = nullptr;
  decltype(&PQsocket) socket = nullptr;
  decltype(&PQstatus) status = nullptr;
  decltype(&PQsetnonblocking) set_nonblocking = nullptr;
  decltype(&PQsendQuery) send_query = nullptr;
  decltype(&PQflush) flush = nullptr;
  decltype(&PQconsumeInput) consume_input = nullptr;
  decltype(&PQisBusy) is_busy = nullptr;
  decltype(&PQgetResult) get_result = nullptr;
  decltype(&PQclear) clear = nullptr;
  decltype(&PQresultStatus) result_status = nullptr;
  decltype(&PQntuples) rows = nullptr;
  decltype(&PQnfields) columns = nullptr;
  decltype(&PQgetisnull) is_null = nullptr;
  decltype(&PQgetvalue) value = nullptr;
  decltype(&PQresultErrorField) error_field = nullptr;
  decltype(&PQerrorMessage) error_message = nullptr;
};

base::Result<Library> load() {
  void* handle = dlopen("libpq.so.5", RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    return base::Error{.code = base::ErrorCode::kUnsupported,
                       .message = "the PostgreSQL client library libpq.so.5 is not installed",
                       .hint = "apt-get install libpq5"};
  }
  Library library;
  bool complete = true;
  const auto find = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(handle, name));
    complete = complete && function != nullptr;
  };
  find(library.parse, "PQconninfoParse");
  find(library.free_parsed, "PQconninfoFree");
  find(library.free_memory, "PQfreemem");
  find(library.connect_start, "PQconnectStartParams");
  find(library.connect_poll, "PQconnectPoll");
  find(library.finish, "PQfinish");
  find(library.socket, "PQsocket");
  find(library.status, "PQstatus");
  find(library.set_nonblocking, "PQsetnonblocking");
  find(library.send_query, "PQsendQuery");
  find(library.flush, "PQflush");
  find(library.consume_input, "PQconsumeInput");
  find(library.is_busy, "PQisBusy");
  find(library.get_result, "PQgetResult");
  find(library.clear, "PQclear");
  find(library.result_status, "PQresultStatus");
  find(library.rows, "PQntuples");
  find(library.columns, "PQnfields");
  find(library.is_null, "PQgetisnull");
  find(library.value, "PQgetvalue");
  find(library.error_field, "PQresultErrorField");
  find(library.error_message, "PQerrorMessage");
  if (!complete) {
    return base::Error{.code = base::ErrorCode::kUnsupported,
                       .message = "libpq.so.5 lacks functions that are needed",
                       .hint = "install libpq5 of PostgreSQL 12 or newer"};
  }
  return library;
}

const base::Result<Library>& library() {
  static const base::Result<Library> loaded = load();
  return loaded;
}

base::Error timeout_error() {
  return base::Error{.code = base::ErrorCode::kTimeout,
                     .message = "PostgreSQL did not answer in time",
                     .hint = "check that the server is not overloaded, locked or stopped"};
}

}  // namespace

struct PostgresClient::State {
  Library pq;
  std::string dsn;
  PGconn* connection = nullptr;
  bool failed_connecting = false;

  base::Status connect(base::Instant deadline);
  base::Status send(const std::string& query, base::Instant deadline);
  base::Result<PostgresAnswer> receive(base::Instant deadline);
  base::Result<PostgresAnswer> ask(const std::string& query, base::Instant deadline);
  void take(PGresult* result, PostgresAnswer& answer, std::optional<base::Error>& error) const;
  base::Error lost() const {
    return base::Error{
        .code = base::ErrorCode::kUnavailable,
        .message = fmt::format("PostgreSQL: {}",
                               base::printable(base::trim(pq.error_message(connection)))),
        .hint = "check that the server runs and that the connection string is right"};
  }
};

PostgresClient::PostgresClient(std::unique_ptr<State> state) : state_(std::move(state)) {}
PostgresClient::~PostgresClient() {
  close();
}
bool PostgresClient::failed_connecting() const {
  return state_->failed_connecting;
}

base::Result<std::unique_ptr<PostgresClient>> PostgresClient::create(std::string dsn) {
  if (!library().ok()) return library().error();
  auto state = std::make_unique<State>();
  state->pq = *library();
  char* message = nullptr;
  PQconninfoOption* options = state->pq.parse(dsn.c_str(), &message);
  if (message != nullptr) state->pq.free_memory(message);  // may quote the string: not shown
  if (options == nullptr) {
    return base::Error{.code = base::ErrorCode::kBadFile,
                       .message = "the connection string is not one of PostgreSQL",
                       .hint =
                           "write host=127.0.0.1 port=5432 dbname=app user=probe, or a "
                           "postgresql:// address"};
  }
  state->pq.free_parsed(options);
  state->dsn = std::move(dsn);
  return std::unique_ptr<PostgresClient>(new PostgresClient(std::move(state)));
}

void PostgresClient::close() {
  if (state_->connection != nullptr) state_->pq.finish(state_->connection);
  state_->connection = nullptr;
}

base::Status PostgresClient::State::connect(base::Instant deadline) {
  const std::array<const char*, 3> keywords = {"dbname", "fallback_application_name", nullptr};
  const std::array<const char*, 3> values = {dsn.c_str(), "squall", nullptr};
  connection = pq.connect_start(keywords.data(), values.data(), /*expand_dbname=*/1);
  if (connection == nullptr) {
    return base::Error{.code = base::ErrorCode::kExhausted, .message = "out of memory", .hint = {}};
  }
  if (pq.status(connection) == CONNECTION_BAD) return lost();
  PostgresPollingStatusType state = PGRES_POLLING_WRITING;
  while (state != PGRES_POLLING_OK) {
    if (state == PGRES_POLLING_FAILED) return lost();
    const short events = state == PGRES_POLLING_READING ? POLLIN : POLLOUT;
    if (!wait_ready(pq.socket(connection), events, deadline)) return timeout_error();
    state = pq.connect_poll(connection);
  }
  pq.set_nonblocking(connection, 1);
  return {};
}

base::Status PostgresClient::State::send(const std::string& query, base::Instant deadline) {
  const auto left =
      std::chrono::duration_cast<std::chrono::milliseconds>(deadline - base::BootClock::now());
  // The server gives up a little before us, so that no query outlives its question.
  const std::string whole =
      fmt::format("BEGIN READ ONLY;SET LOCAL statement_timeout={};{}\n;COMMIT",
                  std::max<std::int64_t>(1, left.count()), query);
  if (pq.send_query(connection, whole.c_str()) == 0) return lost();
  while (true) {
    const int state = pq.flush(connection);
    if (state == 0) return {};
    if (state < 0) return lost();
    if (!wait_ready(pq.socket(connection), POLLIN | POLLOUT, deadline)) return timeout_error();
    if (pq.consume_input(connection) == 0) return lost();
  }
}

void PostgresClient::State::take(PGresult* result, PostgresAnswer& answer,
                                 std::optional<base::Error>& error) const {
  switch (pq.result_status(result)) {
    case PGRES_TUPLES_OK:
      answer = {};
      answer.has_row = pq.rows(result) > 0 && pq.columns(result) > 0;
      answer.is_null = !answer.has_row || pq.is_null(result, 0, 0) != 0;
      if (!answer.is_null) answer.value = pq.value(result, 0, 0);
      return;
    case PGRES_COMMAND_OK:
    case PGRES_EMPTY_QUERY:
      return;
    default: {
      if (error) return;
      const char* state = pq.error_field(result, PG_DIAG_SQLSTATE);
      const char* text = pq.error_field(result, PG_DIAG_MESSAGE_PRIMARY);
      if (state == nullptr) {
        error = lost();
        return;
      }
      const std::string_view code = state;
      if (code == "57014") {  // query_canceled: our statement timeout
        error = timeout_error();
      } else if (code.starts_with("57P") || code.starts_with("08") || code.starts_with("53")) {
        // Shutting down, connection trouble, or out of resources: the server, not the query.
        error = base::Error{.code = base::ErrorCode::kUnavailable,
                            .message = fmt::format("PostgreSQL: {}", base::printable(text)),
                            .hint = "look at the server's log"};
      } else {
        error = base::Error{.code = base::ErrorCode::kBadFile,
                            .message = fmt::format("PostgreSQL refuses the query: {} ({})",
                                                   base::printable(text), code),
                            .hint = "try the query with psql; it runs in a read-only transaction"};
      }
    }
  }
}

base::Result<PostgresAnswer> PostgresClient::State::receive(base::Instant deadline) {
  PostgresAnswer answer;
  std::optional<base::Error> error;
  while (true) {
    while (pq.is_busy(connection) != 0) {
      if (!wait_ready(pq.socket(connection), POLLIN, deadline)) return timeout_error();
      if (pq.consume_input(connection) == 0) return lost();
    }
    PGresult* result = pq.get_result(connection);
    if (result == nullptr) break;
    take(result, answer, error);
    pq.clear(result);
  }
  if (error) return *error;
  return answer;
}

base::Result<PostgresAnswer> PostgresClient::State::ask(const std::string& query,
                                                        base::Instant deadline) {
  failed_connecting = false;
  if (connection == nullptr) {
    if (base::Status connected = connect(deadline); !connected.ok()) {
      failed_connecting = true;
      return connected.error();
    }
  }
  SQUALL_TRY(send(query, deadline));
  return receive(deadline);
}

base::Result<PostgresAnswer> PostgresClient::ask(const std::string& query, base::Instant deadline) {
  const bool kept = state_->connection != nullptr;
  auto answer = state_->ask(query, deadline);
  if (answer.ok()) return answer;
  // After an error the transaction may still be open: a new connection is the clean way out.
  close();
  // A kept connection that is gone says that the server went away some time ago, not that it is
  // away now; the question changes nothing, so that it may be asked again.
  if (!kept || answer.error().code != base::ErrorCode::kUnavailable) return answer;
  answer = state_->ask(query, deadline);
  if (!answer.ok()) close();
  return answer;
}

}  // namespace squall::observe
