#include "base/exit_status.h"

#include <algorithm>
#include <array>

namespace squall::base {

ExitStatus exit_status_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::kUsage:
    case ErrorCode::kBadFile:
    case ErrorCode::kNotFound:
      return ExitStatus::kUsage;
    case ErrorCode::kConflict:
    case ErrorCode::kBlocked:
      return ExitStatus::kBlocked;
    case ErrorCode::kAborted:
      return ExitStatus::kAborted;
    case ErrorCode::kStopped:
      return ExitStatus::kStopped;
    case ErrorCode::kRevertNotVerified:
      return ExitStatus::kRevertNotVerified;
    case ErrorCode::kInternal:
    case ErrorCode::kPermission:
    case ErrorCode::kUnavailable:
    case ErrorCode::kTimeout:
    case ErrorCode::kExhausted:
    case ErrorCode::kCorrupt:
    case ErrorCode::kUnsupported:
      return ExitStatus::kToolError;
  }
  return ExitStatus::kToolError;
}

ExitStatus most_important(const std::vector<ExitStatus>& all) {
  SQUALL_CHECK(!all.empty());
  // A usage error ends the program before a run exists, so it never competes with a verdict; it
  // stands beside the tool error, which it is a kind of.
  static constexpr std::array kOrder{
      ExitStatus::kRevertNotVerified, ExitStatus::kToolError,    ExitStatus::kUsage,
      ExitStatus::kStopped,           ExitStatus::kAborted,      ExitStatus::kBlocked,
      ExitStatus::kViolated,          ExitStatus::kInconclusive, ExitStatus::kHeld};
  for (const ExitStatus status : kOrder) {
    if (std::find(all.begin(), all.end(), status) != all.end()) return status;
  }
  return ExitStatus::kToolError;
}

}  // namespace squall::base
