#include "judge/decision.h"

#include "model/prediction_language.h"

namespace squall::judge {
namespace {

using model::Comparator;
using model::Verdict;

Verdict verdict_of(bool held, bool violated) {
  if (held) return Verdict::kHeld;
  return violated ? Verdict::kViolated : Verdict::kInconclusive;
}

// Where `difference comparator 0` stands, for every value that the interval admits.
Verdict compare(const Interval& difference, Comparator comparator) {
  const auto& [low, high] = difference;
  switch (comparator) {
    case Comparator::kLess:
      return verdict_of(high < 0, low >= 0);
    case Comparator::kLessEqual:
      return verdict_of(high <= 0, low > 0);
    case Comparator::kGreater:
      return verdict_of(low > 0, high <= 0);
    case Comparator::kGreaterEqual:
      return verdict_of(low >= 0, high < 0);
    case Comparator::kEqual:
      return verdict_of(low == 0 && high == 0, low > 0 || high < 0);
    case Comparator::kNotEqual:
      return verdict_of(low > 0 || high < 0, low == 0 && high == 0);
  }
  return Verdict::kInconclusive;
}

Verdict compare(const Estimate& left, Comparator comparator, const Estimate& right, DecideBy by) {
  if (by == DecideBy::kPoint && !left.incomplete && !right.incomplete) {
    const double difference = left.bounded.value - right.bounded.value;
    return compare(Interval{difference, difference}, comparator);
  }
  return compare(subtract(left.bounded, right.bounded).interval, comparator);
}

// Both must hold.
Verdict both(Verdict one, Verdict other) {
  if (one == Verdict::kViolated || other == Verdict::kViolated) return Verdict::kViolated;
  return one == Verdict::kHeld ? other : one;
}

}  // namespace

bool satisfies(double left, Comparator comparator, double right) {
  switch (comparator) {
    case Comparator::kLess:
      return left < right;
    case Comparator::kLessEqual:
      return left <= right;
    case Comparator::kGreater:
      return left > right;
    case Comparator::kGreaterEqual:
      return left >= right;
    case Comparator::kEqual:
      return left == right;
    case Comparator::kNotEqual:
      return left != right;
  }
  return false;
}

DecideBy decide_by(const model::Prediction& prediction) {
  const bool point = prediction.confidence == model::Confidence::kNone ||
                     model::decided_by(prediction) == model::DecidedBy::kValue;
  return point ? DecideBy::kPoint : DecideBy::kInterval;
}

Verdict decide(const model::Prediction& prediction, const Sides& sides, DecideBy by) {
  if (!sides.high) return compare(sides.left, prediction.comparator, sides.right, by);
  return both(compare(sides.left, Comparator::kGreaterEqual, sides.right, by),
              compare(sides.left, Comparator::kLessEqual, *sides.high, by));
}

}  // namespace squall::judge
