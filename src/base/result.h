#pragma once
// Errors as values. `Error` says what went wrong, in which context, and what to do next;
// `Result<T>` carries either a value or an Error and may not be ignored.

#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/check.h"

namespace squall::base {

// What kind of thing went wrong. exit_status.h maps each to the exit status of the program.
enum class ErrorCode {
  kInternal,           // a defect of ours, or a system call that should not fail
  kUsage,              // wrong command line
  kBadFile,            // a file of the user that does not parse or validate
  kNotFound,           // a named run, service, file or process does not exist
  kConflict,           // somebody else holds what we need
  kPermission,         // a privilege is missing; the message names it
  kUnavailable,        // a peer (server, process) does not answer
  kTimeout,            // a peer answers too late
  kExhausted,          // no space, no memory, no descriptors
  kCorrupt,            // a record, journal or frame that fails its checksum or is cut
  kUnsupported,        // this host or this form cannot do it
  kBlocked,            // preflight refused
  kAborted,            // an abort rule ended the run
  kStopped,            // a person ended the run
  kRevertNotVerified,  // a fault may still be active: the worst answer we have
};

// The stable lower-case name of a code, as it stands in JSON: "bad_file".
std::string_view to_string(ErrorCode code);

struct Error {
  ErrorCode code = ErrorCode::kInternal;
  std::string message{};               // one sentence without a final full stop
  std::string hint{};                  // the next step for the reader; may be empty
  std::vector<std::string> context{};  // what we were doing, innermost first

  // Adds what the caller was doing ("arming worker-outage").
  Error within(std::string what) && {
    context.push_back(std::move(what));
    return std::move(*this);
  }
  // "message (while arming worker-outage)": without the hint.
  std::string to_string() const;
};

// An Error from errno: "open /x: Permission denied", with a code chosen from the errno.
Error system_error(std::string what, int error_number);

// An Error with a formatted message is `Error{.code = ..., .message = fmt::format(...)}`.

template <typename T>
class [[nodiscard]] Result {
 public:
  using value_type = T;

  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}      // NOLINT: implicit
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT: implicit

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  // Calling value() on an error, or error() on a value, is a defect and ends the process.
  T& value() & {
    SQUALL_CHECK(ok());
    return std::get<0>(state_);
  }
  const T& value() const& {
    SQUALL_CHECK(ok());
    return std::get<0>(state_);
  }
  // By value, so that `for (x : f().value())` and `auto&& x = f().value()` are safe.
  T value() && {
    SQUALL_CHECK(ok());
    return std::get<0>(std::move(state_));
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  const Error& error() const& {
    SQUALL_CHECK(!ok());
    return std::get<1>(state_);
  }
  Error error() && {
    SQUALL_CHECK(!ok());
    return std::get<1>(std::move(state_));
  }
  T value_or(T fallback) && { return ok() ? std::get<0>(std::move(state_)) : std::move(fallback); }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)), ok_(false) {}  // NOLINT: implicit

  bool ok() const { return ok_; }
  explicit operator bool() const { return ok_; }
  const Error& error() const& {
    SQUALL_CHECK(!ok_);
    return error_;
  }
  Error error() && {
    SQUALL_CHECK(!ok_);
    return std::move(error_);
  }

 private:
  Error error_;
  bool ok_ = true;
};

using Status = Result<void>;

}  // namespace squall::base

// `SQUALL_TRY(f());` returns f's error from the enclosing function, if it has one.
#define SQUALL_TRY(expression)                                                                     \
  do {                                                                                             \
    if (auto squall_try_ = (expression); !squall_try_.ok()) return std::move(squall_try_).error(); \
  } while (false)

#define SQUALL_CONCATENATE_INNER(a, b) a##b
#define SQUALL_CONCATENATE(a, b) SQUALL_CONCATENATE_INNER(a, b)

// `SQUALL_ASSIGN(auto value, f());` declares value from f's result or returns f's error.
#define SQUALL_ASSIGN(declaration, expression) \
  SQUALL_ASSIGN_INNER(SQUALL_CONCATENATE(squall_result_, __LINE__), declaration, expression)
#define SQUALL_ASSIGN_INNER(name, declaration, expression)                                 \
  auto name = (expression);                       /* NOLINT(bugprone-macro-parentheses) */ \
  if (!name.ok()) return std::move(name).error(); /* NOLINT(bugprone-macro-parentheses) */ \
  declaration = std::move(name).value()           /* NOLINT(bugprone-macro-parentheses) */
