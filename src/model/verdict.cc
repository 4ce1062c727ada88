#include "model/verdict.h"

#include "base/check.h"

namespace squall::model {

std::string_view to_string(Verdict verdict) {
  switch (verdict) {
    case Verdict::kHeld:
      return "held";
    case Verdict::kViolated:
      return "violated";
    case Verdict::kInconclusive:
      return "inconclusive";
    case Verdict::kNoData:
      return "no_data";
  }
  SQUALL_CHECK(false);
}

std::string_view to_string(RunVerdict verdict) {
  switch (verdict) {
    case RunVerdict::kHeld:
      return "held";
    case RunVerdict::kMixed:
      return "mixed";
    case RunVerdict::kRefuted:
      return "refuted";
    case RunVerdict::kInconclusive:
      return "inconclusive";
    case RunVerdict::kNone:
      return "none";
  }
  SQUALL_CHECK(false);
}

std::string_view to_string(Outcome outcome) {
  switch (outcome) {
    case Outcome::kCompleted:
      return "completed";
    case Outcome::kBlocked:
      return "blocked";
    case Outcome::kAborted:
      return "aborted";
    case Outcome::kStopped:
      return "stopped";
    case Outcome::kErrored:
      return "errored";
  }
  SQUALL_CHECK(false);
}

}  // namespace squall::model
