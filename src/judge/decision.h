#pragma once
// From two sides of a prediction to a verdict.

#include <optional>

#include "judge/estimate.h"
#include "model/prediction.h"
#include "model/verdict.h"

namespace squall::judge {

// What a prediction compares. `high` is set for `between`.
struct Sides {
  Estimate left;
  Estimate right;
  std::optional<Estimate> high;
};

// One number against another; false when one is not a number, but for `!=`.
bool satisfies(double left, model::Comparator comparator, double right);

enum class DecideBy { kPoint, kInterval };

// How this prediction is decided: by the point for whatever is exact (model::decided_by) and for
// `confidence: none`, by the interval otherwise.
DecideBy decide_by(const model::Prediction& prediction);

// Held when the whole interval of left - right lies on the right side, violated when all of it lies
// on the wrong side, else inconclusive. By point there is no between. Bounds of incomplete
// estimates count in both ways of deciding.
model::Verdict decide(const model::Prediction& prediction, const Sides& sides, DecideBy by);

}  // namespace squall::judge
