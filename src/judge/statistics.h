#pragma once
// Intervals from bucketed data that account for autocorrelation. Pure arithmetic; the formulas,
// their sources and the measured coverage stand in docs/judging.md.

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace squall::judge {

inline constexpr double kConfidence = 0.95;
inline constexpr double kUnbounded = std::numeric_limits<double>::infinity();

struct Interval {
  double low = 0;
  double high = 0;
};

// One bucket of requests, or one sample: how many values it holds and what they sum up to. For a
// share the sum counts the values that meet the condition.
struct Unit {
  double count = 0;
  double sum = 0;
};

// What a number of autocorrelated values is worth.
struct Worth {
  double samples = 0;
  // The number of independent values that would give an interval as wide. Never more than
  // `samples`. Includes the price of estimating the variance from few batches.
  double effective = 0;
};

// `mean` and `variance` are those of the single values; `units` are in time order and cover the
// stretch evenly. Variance of the total by successive differences of up to 28 batches (von Neumann
// 1941; Wolter 1984), made an effective number as by Korn and Graubard (1998).
Worth worth_of(std::span<const Unit> units, double mean, double variance);

// How many times more values are needed when the variance has to be estimated from so many units.
double price_of_estimation(std::size_t units);

// Wilson (1927). `effective` may be fractional; 0 gives [0, 1].
Interval share_interval(double share, double effective);

// mean -+ z * sqrt(variance / effective).
Interval mean_interval(double mean, double variance, double effective);

// How many values above the estimate of a quantile are compatible with it: the quantile's upper
// bound has at least `fewest` of the `samples` values above it, its lower bound at most `most`.
// By the binomial distribution of the exceedances (order statistics), with the beta function
// between whole numbers. `fewest` is negative when no upper bound exists at this number of values,
// `most` is above `samples` when no lower one does.
struct Exceedances {
  double fewest = 0;
  double most = 0;
};
Exceedances quantile_exceedances(double quantile, double samples, double effective);

// The fewest independent values for which the quantile has both bounds.
std::uint64_t quantile_samples_needed(double quantile);
// The fewest values of which none may miss, so that Wilson's interval lies above `share`
// (share < 1), which is z^2 * share / (1 - share).
std::uint64_t share_samples_needed(double share);

// Difference and ratio of two independent estimates from their own intervals: MOVER (Zou and Donner
// 2008; Donner and Zou 2012), the ratio on the log scale, for positive estimates.
struct Bounded {
  double value = 0;
  Interval interval;
};
Bounded add(const Bounded& left, const Bounded& right);
Bounded subtract(const Bounded& left, const Bounded& right);
Bounded multiply(const Bounded& left, const Bounded& right);
Bounded divide(const Bounded& left, const Bounded& right);  // value is not a number for x / 0

// Two-sided critical values.
double normal_critical();
double student_critical(double degrees);

}  // namespace squall::judge
