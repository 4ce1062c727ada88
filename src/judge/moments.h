#pragma once
// When a prediction was first violated and when it was back within its threshold for good.
//
// A gauge that must satisfy with every sample: the first sample that does not; back at the first
// sample after the last such one. A share, mean or quantile of requests against a fixed threshold:
// windows of 1 s that slide by 100 ms; a window is bad when the threshold lies outside its own
// interval on the wrong side (beyond chance); the moment is the end of the first bad window, back
// at the start of the first window after the last bad one. Other statistics that vary freely:
// windows of 1 s one after another. Counts, times and extremes: the moment from which on the value,
// counted from the start of the stretch, is violated.

#include <optional>
#include <vector>

#include "judge/decision.h"
#include "judge/evaluator.h"
#include "model/prediction.h"

namespace squall::judge {

inline constexpr base::Duration kMomentWindow = std::chrono::seconds(1);

struct Moments {
  std::optional<base::Instant> first_violation;
  std::optional<base::Instant> returned;
};

// `asked` is the stretch in which to look for the first violation, `until` how far to follow it.
Moments find_moments(const Evaluator& evaluator, const model::Prediction& prediction,
                     const evidence::Window& asked, base::Instant until);

// Whether one side names a gauge bare, so that every sample must satisfy.
bool asks_every_sample(const model::Prediction& prediction);

// A prediction at one moment: bare gauges have their latest value, whatever else it names is taken
// over `stretch`, once.
struct MomentSides {
  base::Instant at;
  Sides sides;
};
struct EverySample {
  std::vector<MomentSides> moments;  // one for each sample of any of the gauges, in order
  std::string missing;               // when there are none: why
};
EverySample every_sample(const Evaluator& evaluator, const model::Prediction& prediction,
                         const evidence::Window& stretch);

}  // namespace squall::judge
