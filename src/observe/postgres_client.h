#pragma once
// Questions to PostgreSQL. libpq is loaded when first needed and not linked: most runs ask no
// database, and it would bring Kerberos and LDAP into every start. Passwords stay inside libpq; its
// messages do not contain them.

#include <memory>
#include <optional>
#include <string>

#include "base/clock.h"
#include "base/result.h"

namespace squall::observe {

// What came of one question. Connecting and asking share one deadline.
struct PostgresAnswer {
  bool has_row = false;
  bool is_null = true;
  std::string value;  // first column of the first row, as text
};

class PostgresClient {
 public:
  // `dsn` is a connection string or URI of libpq. Does not connect. kUnsupported when libpq is not
  // installed; kBadFile when the string does not parse (the message does not quote it).
  static base::Result<std::unique_ptr<PostgresClient>> create(std::string dsn);
  ~PostgresClient();
  PostgresClient(const PostgresClient&) = delete;
  PostgresClient& operator=(const PostgresClient&) = delete;

  // Asks within a read-only transaction with a statement timeout, all in one message, so that
  // nothing is left behind in a pooled session. The connection is kept for the next question and
  // closed after any error. kTimeout, kUnavailable (no connection, or lost), kBadFile (the server
  // refuses the query: its message).
  base::Result<PostgresAnswer> ask(const std::string& query, base::Instant deadline);
  void close();
  // Whether the last failure came before a connection stood.
  bool failed_connecting() const;

 private:
  struct State;
  explicit PostgresClient(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace squall::observe
