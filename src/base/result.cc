#include "base/result.h"

#include <cerrno>
#include <cstring>

namespace squall::base {

std::string_view to_string(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInternal:
      return "internal";
    case ErrorCode::kUsage:
      return "usage";
    case ErrorCode::kBadFile:
      return "bad_file";
    case ErrorCode::kNotFound:
      return "not_found";
    case ErrorCode::kConflict:
      return "conflict";
    case ErrorCode::kPermission:
      return "permission";
    case ErrorCode::kUnavailable:
      return "unavailable";
    case ErrorCode::kTimeout:
      return "timeout";
    case ErrorCode::kExhausted:
      return "exhausted";
    case ErrorCode::kCorrupt:
      return "corrupt";
    case ErrorCode::kUnsupported:
      return "unsupported";
    case ErrorCode::kBlocked:
      return "blocked";
    case ErrorCode::kAborted:
      return "aborted";
    case ErrorCode::kStopped:
      return "stopped";
    case ErrorCode::kRevertNotVerified:
      return "revert_not_verified";
  }
  return "internal";
}

std::string Error::to_string() const {
  std::string text = message;
  for (std::size_t i = 0; i < context.size(); ++i) {
    text += i == 0 ? " (while " : ", while ";
    text += context[i];
  }
  if (!context.empty()) text += ')';
  return text;
}

namespace {

ErrorCode code_of_errno(int error_number) {
  switch (error_number) {
    case EACCES:
    case EPERM:
      return ErrorCode::kPermission;
    case ENOENT:
    case ENOTDIR:
    case ESRCH:
    case ENODEV:
    case ENXIO:
      return ErrorCode::kNotFound;
    case EEXIST:
    case EBUSY:
    case EADDRINUSE:
    case ETXTBSY:
      return ErrorCode::kConflict;
    case ECONNREFUSED:
    case ECONNRESET:
    case ECONNABORTED:
    case EHOSTUNREACH:
    case EHOSTDOWN:
    case ENETUNREACH:
    case ENETDOWN:
    case ENOTCONN:
    case EPIPE:
      return ErrorCode::kUnavailable;
    case ETIMEDOUT:
      return ErrorCode::kTimeout;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
      return ErrorCode::kExhausted;
    case ENOSYS:
    case EOPNOTSUPP:
    case EPROTONOSUPPORT:
    case EAFNOSUPPORT:
      return ErrorCode::kUnsupported;
    default:
      return ErrorCode::kInternal;
  }
}

}  // namespace

Error system_error(std::string what, int error_number) {
  const char* description = strerrordesc_np(error_number);
  Error error{.code = code_of_errno(error_number), .message = std::move(what)};
  error.message += ": ";
  error.message +=
      description != nullptr ? description : "error number " + std::to_string(error_number);
  if (error_number == ENOSPC || error_number == EDQUOT) error.hint = "free some space there";
  if (error_number == EMFILE) error.hint = "raise the limit of open files (ulimit -n)";
  return error;
}

}  // namespace squall::base
