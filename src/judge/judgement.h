#pragma once
// What the judge says. Values only.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/json.h"
#include "base/units.h"
#include "model/verdict.h"

namespace squall::judge {

// A node of the explained prediction: what it is, what it was, and where that stands in the record.
struct Explanation {
  std::string text;      // "p99(reads.latency) during fault"
  std::string value;     // "182ms [171ms, 195ms]"
  std::string evidence;  // "4,000 requests of series `reads`, 12.3s to 32.3s"
  std::vector<Explanation> parts;
};

struct PredictionResult {
  std::string name;
  std::string text;
  bool steady_state = false;
  std::string phase;  // "fault", "recovery", ...: what was judged
  model::Verdict verdict = model::Verdict::kNoData;
  std::string reason;  // one sentence: why this verdict
  std::string method;  // "Wilson interval, 95 %", "exact", ...
  base::Dimension dimension = base::Dimension::kNumber;
  std::optional<double> observed;      // base units
  std::optional<double> interval_low;  // 95 %; absent when judged exactly
  std::optional<double> interval_high;
  std::optional<double> threshold;       // the right side's value
  std::optional<double> threshold_high;  // for between
  std::uint64_t samples = 0;
  double effective_samples = 0;  // after autocorrelation; 0 when judged exactly
  std::optional<base::Instant> first_violation;
  std::optional<base::Instant> returned;  // back within the threshold for good
  Explanation explanation;
};

struct Judgement {
  std::vector<PredictionResult> predictions;  // hypothesis first, then steady state
  model::RunVerdict verdict = model::RunVerdict::kNone;
  model::Outcome outcome = model::Outcome::kErrored;
  std::string outcome_reason;
  bool reverts_verified = true;                   // false: a fault may still be active
  bool effect_proven = true;                      // false: a fault touched nothing
  std::optional<base::Duration> time_to_impact;   // effective to first violated signal
  std::optional<base::Duration> time_to_recover;  // revert to steady state back
  std::vector<std::string> notes;  // restarts, load lag, damage: whatever limits the verdict
};

base::Json to_json(const Judgement& judgement);
base::Result<Judgement> judgement_from_json(const base::Json& json);

// Exit status by the precedence of DESIGN section 3.
int exit_status_of(const Judgement& judgement);

}  // namespace squall::judge
