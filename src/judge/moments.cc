#include "judge/moments.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "model/prediction_language.h"

namespace squall::judge {
namespace {

using evidence::RequestBucket;
using evidence::Series;
using evidence::Window;
using model::Expression;
using model::Verdict;

constexpr base::Duration kStep = evidence::kBucketWidth;
constexpr std::int64_t kMostWindows = 1'000'000;  // more than a day of steps; then they grow

// Whether a side is the same number for every window: limits, and what baseline() settled.
bool is_fixed(const Expression& expression) {
  if (std::holds_alternative<model::Literal>(expression.node)) return true;
  if (std::holds_alternative<model::Baseline>(expression.node)) return true;
  if (const auto* binary = std::get_if<model::Binary>(&expression.node)) {
    return is_fixed(*binary->left) && is_fixed(*binary->right);
  }
  const auto* negate = std::get_if<model::Negate>(&expression.node);
  return negate != nullptr && is_fixed(*negate->inner);
}

bool has_fixed_limits(const model::Prediction& prediction) {
  return is_fixed(*prediction.right) &&
         (!prediction.right_high || is_fixed(*prediction.right_high));
}

// Counts, times and extremes from the start of a stretch only ever grow or only ever shrink.
bool accumulates(const Expression& expression) {
  const auto extreme = [](model::Statistic statistic) {
    return statistic == model::Statistic::kMaximum || statistic == model::Statistic::kMinimum;
  };
  if (const auto* aggregate = std::get_if<model::Aggregate>(&expression.node)) {
    return extreme(aggregate->statistic) || aggregate->statistic == model::Statistic::kCount;
  }
  if (const auto* windowed = std::get_if<model::WindowedAggregate>(&expression.node)) {
    return extreme(windowed->statistic);
  }
  return std::holds_alternative<model::TimeTrue>(expression.node) ||
         std::holds_alternative<model::Lost>(expression.node) ||
         std::holds_alternative<model::Duplicated>(expression.node);
}

// ---- Every sample ------------------------------------------------------------------------------

Moments of_samples(const Evaluator& evaluator, const model::Prediction& prediction,
                   const Window& asked, base::Instant until) {
  Moments moments;
  const EverySample samples =
      every_sample(evaluator, prediction, {asked.begin, std::max(asked.end, until)});
  bool good = true;
  for (const MomentSides& moment : samples.moments) {
    const bool bad = decide(prediction, moment.sides, DecideBy::kPoint) == Verdict::kViolated;
    if (bad && !moments.first_violation) {
      if (moment.at >= asked.end) break;
      moments.first_violation = moment.at;
    }
    if (!bad && !good) moments.returned = moment.at;
    if (bad) moments.returned.reset();
    good = !bad;
  }
  return moments;
}

// ---- Windows -----------------------------------------------------------------------------------

enum class State { kGood, kBad, kUnknown };
using StateOf = std::function<State(const Window&)>;

Moments of_windows(const Window& asked, base::Instant until, base::Duration step,
                   const StateOf& state_of) {
  Moments moments;
  const base::Duration length = std::min(kMomentWindow, asked.length());
  step = std::max(step, (until - asked.begin) / kMostWindows);
  bool good = true;
  for (base::Instant begin = asked.begin; begin + length <= until; begin += step) {
    if (!moments.first_violation && begin + length > asked.end) break;
    const State state = state_of({begin, begin + length});
    if (state == State::kUnknown) continue;
    const bool bad = state == State::kBad;
    if (bad && !moments.first_violation) moments.first_violation = begin + length;
    if (!bad && !good) moments.returned = std::max(begin, *moments.first_violation);
    if (bad) moments.returned.reset();
    good = !bad;
  }
  return moments;
}

// A share, mean or quantile of request series whose windows come from running sums.
class RunningSums {
 public:
  struct Sums {
    double count = 0;
    double sum = 0;
    double squares = 0;
  };

  RunningSums(const Series& series, const std::function<Sums(const RequestBucket&)>& sums_of)
      : series_(series) {
    sums_.reserve(series.buckets.size() + 1);
    sums_.emplace_back();
    for (const RequestBucket& bucket : series.buckets) {
      const Sums here = sums_of(bucket);
      Sums& total = sums_.emplace_back(sums_.back());
      total.count += here.count;
      total.sum += here.sum;
      total.squares += here.squares;
    }
  }

  Sums within(const Window& window) const {
    const auto buckets = buckets_within(series_, window);
    if (buckets.empty()) return {};
    const auto first = static_cast<std::size_t>(buckets.data() - series_.buckets.data());
    const Sums& begin = sums_[first];
    const Sums& end = sums_[first + buckets.size()];
    return {end.count - begin.count, end.sum - begin.sum, end.squares - begin.squares};
  }

 private:
  const Series& series_;
  std::vector<Sums> sums_;
};

Estimate estimate_of(Interval interval, double value) {
  Estimate estimate;
  estimate.bounded = {value, interval};
  estimate.exact = false;
  return estimate;
}

State state_of(Verdict verdict) {
  return verdict == Verdict::kViolated ? State::kBad : State::kGood;
}

struct Limits {
  Estimate right;
  std::optional<Estimate> high;
};

// Beyond chance, whichever way the prediction is decided as a whole: one second is a small sample.
State judged(const model::Prediction& prediction, const Limits& limits, Estimate left) {
  return state_of(
      decide(prediction, {std::move(left), limits.right, limits.high}, DecideBy::kInterval));
}

StateOf share_states(const model::Prediction& prediction, const Limits& limits,
                     std::shared_ptr<RunningSums> sums) {
  return [&prediction, &limits, sums = std::move(sums)](const Window& window) {
    const auto [count, sum, squares] = sums->within(window);
    if (count <= 0) return State::kUnknown;
    const double share = std::clamp(sum / count, 0.0, 1.0);
    return judged(prediction, limits, estimate_of(share_interval(share, count), share));
  };
}

StateOf mean_states(const model::Prediction& prediction, const Limits& limits,
                    std::shared_ptr<RunningSums> sums) {
  return [&prediction, &limits, sums = std::move(sums)](const Window& window) {
    const auto [count, sum, squares] = sums->within(window);
    if (count <= 0) return State::kUnknown;
    const double mean = sum / count;
    const double variance = std::max(0.0, squares / count - mean * mean);
    return judged(prediction, limits, estimate_of(mean_interval(mean, variance, count), mean));
  };
}

// A quantile is below a limit when enough values are: the share at or below the limit is compared
// with the quantile's order, which needs no merging of histograms.
StateOf quantile_states(const model::Prediction& prediction, const Limits& limits,
                        const Series& series, double order) {
  const auto below = [&series](const Estimate& limit) {
    const double seconds = std::clamp(limit.bounded.value, 0.0, 1e9);
    const base::Duration value{static_cast<std::int64_t>(seconds * 1e9)};
    return std::make_shared<RunningSums>(series, [value](const RequestBucket& bucket) {
      const auto count = static_cast<double>(bucket.response_time.count());
      return RunningSums::Sums{
          count, count - static_cast<double>(bucket.response_time.count_above(value)), 0};
    });
  };
  const auto side = [order](const RunningSums& sums, const Window& window) {
    const auto [count, sum, squares] = sums.within(window);
    if (count <= 0) return 2;
    const Interval share = share_interval(std::clamp(sum / count, 0.0, 1.0), count);
    if (share.high < order) return 1;  // the quantile lies above the limit
    return share.low > order ? -1 : 0;
  };
  auto low = below(limits.right);
  auto high = limits.high ? below(*limits.high) : nullptr;
  return [&prediction, side, low = std::move(low), high = std::move(high)](const Window& window) {
    const int at = side(*low, window);
    if (at == 2) return State::kUnknown;
    if (high) return at < 0 || side(*high, window) == 1 ? State::kBad : State::kGood;
    const bool wants_less = prediction.comparator == model::Comparator::kLess ||
                            prediction.comparator == model::Comparator::kLessEqual;
    return at == (wants_less ? 1 : -1) ? State::kBad : State::kGood;
  };
}

RunningSums::Sums outcome_sums(const RequestBucket& bucket) {
  return {static_cast<double>(bucket.count()), static_cast<double>(bucket.ok()), 0};
}

RunningSums::Sums time_sums(const RequestBucket& bucket) {
  const evidence::Histogram& times = bucket.response_time;
  return {static_cast<double>(times.count()), times.sum_seconds(), times.sum_of_squares()};
}

// Counts of a slice beside those of the whole probe.
std::shared_ptr<RunningSums> slice_sums(const Series& all, const Series& chosen) {
  auto slice = chosen.buckets.begin();
  return std::make_shared<RunningSums>(all, [&chosen, slice](const RequestBucket& bucket) mutable {
    while (slice != chosen.buckets.end() && slice->start < bucket.start) ++slice;
    const bool same = slice != chosen.buckets.end() && slice->start == bucket.start;
    return RunningSums::Sums{static_cast<double>(bucket.count()),
                             same ? static_cast<double>(slice->count()) : 0, 0};
  });
}

// Null when the left side is not one statistic of requests.
StateOf running_states(const Evaluator& evaluator, const model::Prediction& prediction,
                       const Limits& limits) {
  const auto& node = prediction.left->node;
  if (const auto* signal = std::get_if<model::Signal>(&node)) {
    const Series* series = evaluator.requests(signal->source, nullptr);
    if (series == nullptr || !model::is_success_share(*signal)) return nullptr;
    return share_states(prediction, limits, std::make_shared<RunningSums>(*series, outcome_sums));
  }
  if (const auto* share = std::get_if<model::Share>(&node)) {
    if (!model::is_request_condition(*share->condition)) return nullptr;
    const std::string probe = model::subject_of(*share->condition).source;
    const Series* all = evaluator.requests(probe, nullptr);
    const Series* chosen = evaluator.requests(probe, share->condition);
    if (all == nullptr || chosen == nullptr) return nullptr;
    return share_states(prediction, limits, slice_sums(*all, *chosen));
  }
  const auto* aggregate = std::get_if<model::Aggregate>(&node);
  if (aggregate == nullptr || aggregate->signal.field != "latency") return nullptr;
  const Series* series = evaluator.requests(aggregate->signal.source, aggregate->where);
  if (series == nullptr) return nullptr;
  if (aggregate->statistic == model::Statistic::kMean) {
    return mean_states(prediction, limits, std::make_shared<RunningSums>(*series, time_sums));
  }
  if (aggregate->statistic == model::Statistic::kQuantile) {
    return quantile_states(prediction, limits, *series, aggregate->quantile);
  }
  return nullptr;
}

std::optional<Sides> sides_within(const Evaluator& evaluator, const model::Prediction& prediction,
                                  const Window& window) {
  const Reading left = evaluator.evaluate(*prediction.left, window);
  const Reading right = evaluator.evaluate(*prediction.right, window);
  if (!left.estimate || !right.estimate) return std::nullopt;
  Sides sides{*left.estimate, *right.estimate, std::nullopt};
  if (prediction.right_high) {
    sides.high = evaluator.evaluate(*prediction.right_high, window).estimate;
    if (!sides.high) return std::nullopt;
  }
  return sides;
}

// ---- What accumulates --------------------------------------------------------------------------

bool violated_over(const Evaluator& evaluator, const model::Prediction& prediction,
                   const Window& window) {
  const auto sides = sides_within(evaluator, prediction, window);
  return sides && decide(prediction, *sides, decide_by(prediction)) == Verdict::kViolated;
}

// The first of `steps` + 1 moments at which `is_true` is, if it stays so once it is.
std::int64_t first_true(std::int64_t steps, const std::function<bool(std::int64_t)>& is_true) {
  std::int64_t low = 0;
  std::int64_t high = steps;
  while (low < high) {
    const std::int64_t middle = low + (high - low) / 2;
    if (is_true(middle))
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

Moments of_accumulation(const Evaluator& evaluator, const model::Prediction& prediction,
                        const Window& asked) {
  Moments moments;
  if (!violated_over(evaluator, prediction, asked)) return moments;
  const bool too_few = prediction.comparator == model::Comparator::kGreater ||
                       prediction.comparator == model::Comparator::kGreaterEqual;
  const auto* aggregate = std::get_if<model::Aggregate>(&prediction.left->node);
  const bool smallest = aggregate != nullptr && aggregate->statistic == model::Statistic::kMinimum;
  if (too_few && !smallest) {
    moments.first_violation = asked.end;  // until then there could have been enough
    return moments;
  }
  const std::int64_t steps = asked.length() / kStep;
  const std::int64_t step = first_true(steps, [&](std::int64_t count) {
    return violated_over(evaluator, prediction, {asked.begin, asked.begin + count * kStep});
  });
  moments.first_violation = std::min(asked.begin + step * kStep, asked.end);
  return moments;
}

}  // namespace

Moments find_moments(const Evaluator& evaluator, const model::Prediction& prediction,
                     const Window& asked, base::Instant until) {
  if (asked.end <= asked.begin) return {};
  until = std::max(until, asked.end);
  if (asks_every_sample(prediction)) return of_samples(evaluator, prediction, asked, until);
  if (accumulates(*prediction.left)) return of_accumulation(evaluator, prediction, asked);
  if (has_fixed_limits(prediction)) {
    const Reading right = evaluator.evaluate(*prediction.right, asked);
    const Reading high =
        prediction.right_high ? evaluator.evaluate(*prediction.right_high, asked) : Reading{};
    if (!right.estimate || (prediction.right_high && !high.estimate)) return {};
    // The limit is taken as it is: its own uncertainty is the whole verdict's business.
    Limits limits{exact_estimate(right.estimate->bounded.value, 0), std::nullopt};
    if (high.estimate) limits.high = exact_estimate(high.estimate->bounded.value, 0);
    if (const StateOf states = running_states(evaluator, prediction, limits)) {
      return of_windows(asked, until, kStep, states);
    }
  }
  const DecideBy by = decide_by(prediction);
  return of_windows(asked, until, kMomentWindow, [&](const Window& window) {
    const auto sides = sides_within(evaluator, prediction, window);
    return sides ? state_of(decide(prediction, *sides, by)) : State::kUnknown;
  });
}

}  // namespace squall::judge
