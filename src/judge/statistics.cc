#include "judge/statistics.h"

#include <algorithm>
#include <boost/math/distributions/students_t.hpp>
#include <boost/math/special_functions/beta.hpp>
#include <cmath>

namespace squall::judge {
namespace {

// Errors of the library come back as values (NaN or infinity), never as exceptions.
using Policy = boost::math::policies::policy<
    boost::math::policies::domain_error<boost::math::policies::ignore_error>,
    boost::math::policies::pole_error<boost::math::policies::ignore_error>,
    boost::math::policies::overflow_error<boost::math::policies::ignore_error>,
    boost::math::policies::evaluation_error<boost::math::policies::ignore_error>>;

constexpr double kTail = (1 - kConfidence) / 2;
constexpr double kNormalCritical = 1.959963984540054;

// Few enough that a batch outlasts the memory of the system, many enough that their variance is
// known and that an outage of a second does not fill one batch alone. Chosen by simulation
// (bench/coverage_bench.cc).
constexpr std::size_t kMostBatches = 28;
constexpr std::size_t kFewestBatches = 8;
constexpr std::size_t kUnitsInBatch = 5;

std::size_t batch_count(std::size_t units) {
  return std::min(units, std::clamp(units / kUnitsInBatch, kFewestBatches, kMostBatches));
}

// The k for which P(X <= k) = probability, X binomial, continued between whole numbers by the beta
// function: P(X <= k) = I_{1-p}(n - k, k + 1). Below 0 when even P(X = 0) is above the probability.
double binomial_point(double trials, double success, double probability) {
  const auto below = [&](double k) {
    return boost::math::ibetac(k + 1, trials - k, success, Policy());
  };
  double low = -1;
  double high = trials;
  if (std::pow(1 - success, trials) > probability) return -1;
  for (int step = 0; step < 60; ++step) {
    const double middle = (low + high) / 2;
    (below(middle) < probability ? low : high) = middle;
  }
  return low;
}

Interval ordered(double one, double other) {
  return {std::min(one, other), std::max(one, other)};
}

bool is_exact(const Bounded& bounded) {
  return bounded.interval.low == bounded.value && bounded.interval.high == bounded.value;
}

// Infinity times zero is zero here: an exact zero scales anything to zero.
double scaled(double factor, double value) {
  return factor == 0 ? 0 : factor * value;
}

Bounded scale(const Bounded& bounded, double factor) {
  return {scaled(factor, bounded.value),
          ordered(scaled(factor, bounded.interval.low), scaled(factor, bounded.interval.high))};
}

double square(double value) {
  return value * value;
}

Bounded logarithm(const Bounded& bounded) {
  return {std::log(bounded.value),
          {bounded.interval.low > 0 ? std::log(bounded.interval.low) : -kUnbounded,
           std::log(bounded.interval.high)}};
}

Bounded exponential(const Bounded& bounded, double value) {
  return {value, {std::exp(bounded.interval.low), std::exp(bounded.interval.high)}};
}

Bounded whole_line(double value) {
  return {value, {-kUnbounded, kUnbounded}};
}

}  // namespace

double normal_critical() {
  return kNormalCritical;
}

double student_critical(double degrees) {
  if (!(degrees > 0)) return kUnbounded;
  const boost::math::students_t_distribution<double, Policy> distribution(degrees);
  return boost::math::quantile(boost::math::complement(distribution, kTail));
}

double price_of_estimation(std::size_t units) {
  const auto count = static_cast<double>(batch_count(units));
  if (count < 3) return 1;
  const double degrees = 2 * square(count - 1) / (3 * count - 4);
  return square(student_critical(degrees) / kNormalCritical);
}

Worth worth_of(std::span<const Unit> units, double mean, double variance) {
  Worth worth;
  for (const Unit& unit : units) worth.samples += unit.count;
  worth.effective = worth.samples;
  const std::size_t batches = batch_count(units.size());
  // Without variation there is nothing to correlate; with fewer batches nothing to estimate from.
  if (!(variance > 0) || batches < 3 || worth.samples <= 0) return worth;
  double squares = 0;
  double previous = 0;
  for (std::size_t batch = 0; batch < batches; ++batch) {
    double residual = 0;
    const std::size_t end = (batch + 1) * units.size() / batches;
    for (std::size_t i = batch * units.size() / batches; i < end; ++i) {
      residual += units[i].sum - mean * units[i].count;
    }
    if (batch > 0) squares += square(residual - previous);
    previous = residual;
  }
  const double count = static_cast<double>(batches);
  const double variance_of_total = squares * count / (2 * (count - 1));
  const double design_effect = variance_of_total / (worth.samples * variance);
  worth.effective =
      std::min(worth.samples, worth.samples / (design_effect * price_of_estimation(units.size())));
  return worth;
}

Interval share_interval(double share, double effective) {
  if (!(effective > 0)) return {0, 1};
  const double z2 = square(kNormalCritical);
  const double scale_down = 1 / (1 + z2 / effective);
  const double centre = scale_down * (share + z2 / (2 * effective));
  const double half = kNormalCritical * scale_down *
                      std::sqrt(share * (1 - share) / effective + z2 / (4 * square(effective)));
  // At the ends the formula is exact; rounding must not leave a gap there.
  return {share <= 0 ? 0 : std::max(0.0, centre - half),
          share >= 1 ? 1 : std::min(1.0, centre + half)};
}

Interval mean_interval(double mean, double variance, double effective) {
  if (!(effective > 1)) return {-kUnbounded, kUnbounded};
  const double half = kNormalCritical * std::sqrt(std::max(0.0, variance) / effective);
  return {mean - half, mean + half};
}

Exceedances quantile_exceedances(double quantile, double samples, double effective) {
  if (!(effective > 0)) return {-1, samples + 1};
  const double trials = std::max(effective, 1.0);
  const double above = 1 - quantile;
  const double stretch = samples / trials;
  Exceedances result;
  const double fewest = binomial_point(trials, above, kTail);
  result.fewest = fewest < 0 ? -1 : (fewest + 0.5) * stretch;
  // The mirror image: how few values below the quantile are compatible with it.
  const double fewest_below = binomial_point(trials, quantile, kTail);
  result.most = fewest_below < 0 ? samples + 1 : samples - (fewest_below + 0.5) * stretch;
  return result;
}

std::uint64_t quantile_samples_needed(double quantile) {
  const double rarer = std::max(quantile, 1 - quantile);
  if (rarer >= 1) return std::numeric_limits<std::uint64_t>::max();
  return static_cast<std::uint64_t>(std::ceil(std::log(kTail) / std::log(rarer)));
}

std::uint64_t share_samples_needed(double share) {
  if (share <= 0) return 1;
  if (share >= 1) return std::numeric_limits<std::uint64_t>::max();
  const double needed = square(kNormalCritical) * share / (1 - share);
  return static_cast<std::uint64_t>(std::ceil(needed - 1e-6));
}

Bounded add(const Bounded& left, const Bounded& right) {
  return subtract(left, scale(right, -1));
}

Bounded subtract(const Bounded& left, const Bounded& right) {
  const double value = left.value - right.value;
  return {value,
          {value - std::hypot(left.value - left.interval.low, right.interval.high - right.value),
           value + std::hypot(left.interval.high - left.value, right.value - right.interval.low)}};
}

Bounded multiply(const Bounded& left, const Bounded& right) {
  if (is_exact(left)) return scale(right, left.value);
  if (is_exact(right)) return scale(left, right.value);
  const double value = left.value * right.value;
  if (left.value > 0 && right.value > 0) {
    return exponential(add(logarithm(left), logarithm(right)), value);
  }
  return whole_line(value);
}

Bounded divide(const Bounded& left, const Bounded& right) {
  if (right.value == 0) return whole_line(std::numeric_limits<double>::quiet_NaN());
  if (is_exact(right)) return scale(left, 1 / right.value);
  const double value = left.value / right.value;
  if (left.value > 0 && right.value > 0) {
    return exponential(subtract(logarithm(left), logarithm(right)), value);
  }
  if (left.value == 0 && is_exact(left)) return {0, {0, 0}};
  return whole_line(value);
}

}  // namespace squall::judge
