#pragma once
#include <vector>

#include "base/result.h"

namespace squall::base {

// The exit statuses of the program. Documented in docs/exit-codes.md; scripts depend on them.
enum class ExitStatus : int {
  kHeld = 0,
  kToolError = 1,
  kUsage = 2,  // wrong command line or bad file
  kBlocked = 3,
  kViolated = 4,
  kInconclusive = 5,  // also: no data
  kAborted = 6,
  kStopped = 7,
  kRevertNotVerified = 8,
};

// The one table from error code to exit status.
ExitStatus exit_status_of(ErrorCode code);

// Where several apply, the first of 8, 1, 7, 6, 3, 4, 5, 0 wins. `all` must not be empty.
ExitStatus most_important(const std::vector<ExitStatus>& all);

}  // namespace squall::base
