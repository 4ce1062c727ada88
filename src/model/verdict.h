#pragma once
#include <string_view>

namespace squall::model {

enum class Verdict { kHeld, kViolated, kInconclusive, kNoData };
enum class RunVerdict { kHeld, kMixed, kRefuted, kInconclusive, kNone };  // none: nothing to judge
enum class Outcome { kCompleted, kBlocked, kAborted, kStopped, kErrored };

std::string_view to_string(Verdict verdict);     // "held", "violated", "inconclusive", "no_data"
std::string_view to_string(RunVerdict verdict);  // "held", "mixed", "refuted", "inconclusive"
std::string_view to_string(Outcome outcome);

}  // namespace squall::model
