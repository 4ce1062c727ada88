#include "judge/statistics.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <cmath>

#include "base/random.h"
#include "judge/decision.h"
#include "judge/estimate.h"
#include "run_builder.h"

namespace squall::judge {
namespace {

TEST(Statistics, WilsonAgreesWithPublishedValues) {
  // Newcombe (1998), table I: 81 of 263 and 15 of 148.
  const Interval first = share_interval(81.0 / 263, 263);
  EXPECT_NEAR(first.low, 0.2553, 0.0001);
  EXPECT_NEAR(first.high, 0.3662, 0.0001);
  const Interval second = share_interval(15.0 / 148, 148);
  EXPECT_NEAR(second.low, 0.0624, 0.0001);
  EXPECT_NEAR(second.high, 0.1605, 0.0001);
  // Without a failure the upper bound of their share is z^2 / (n + z^2).
  EXPECT_NEAR(1 - share_interval(1, 1000).low, 3.8415 / 1003.8415, 1e-6);
  EXPECT_EQ(share_interval(1, 1000).high, 1);
}

TEST(Statistics, SamplesNeededAreTheFewestThatSuffice) {
  for (const double share : {0.9, 0.99, 0.995, 0.999, 0.9995}) {
    const auto needed = static_cast<double>(share_samples_needed(share));
    EXPECT_GE(share_interval(1, needed).low, share);
    EXPECT_LT(share_interval(1, needed - 1).low, share);
  }
  for (const double quantile : {0.5, 0.9, 0.99, 0.999}) {
    const auto needed = static_cast<double>(quantile_samples_needed(quantile));
    EXPECT_GE(quantile_exceedances(quantile, needed, needed).fewest, 0);
    EXPECT_LT(quantile_exceedances(quantile, needed - 1, needed - 1).fewest, 0);
  }
}

TEST(Statistics, StudentAndNormalAgreeWithTables) {
  EXPECT_NEAR(student_critical(5), 2.5706, 1e-4);
  EXPECT_NEAR(student_critical(30), 2.0423, 1e-4);
  EXPECT_NEAR(student_critical(1e7), normal_critical(), 1e-5);
}

std::vector<Unit> series(double rho, std::uint64_t seed) {
  base::Random random(seed);
  std::vector<Unit> units;
  double state = random.normal();
  for (int i = 0; i < 4000; ++i) {
    units.push_back({1, state});
    state = rho * state + std::sqrt(1 - rho * rho) * random.normal();
  }
  return units;
}

TEST(Statistics, CorrelatedSamplesAreWorthLess) {
  double independent = 0;
  double correlated = 0;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    independent += worth_of(series(0, seed), 0, 1).effective / 40;
    correlated += worth_of(series(0.8, seed), 0, 1).effective / 40;
  }
  EXPECT_GT(independent, 3000);
  EXPECT_LE(independent, 4000);
  // A ninth of them, (1 - rho) / (1 + rho), less the price of estimating it.
  EXPECT_GT(correlated, 300);
  EXPECT_LT(correlated, 560);
}

TEST(Statistics, ABurstIsOneEventNotAPropertyOfTheWholeStretch) {
  // One and a half seconds of 20 in which everything fails: the rest of the stretch stays known.
  std::vector<Unit> units;
  for (int bucket = 0; bucket < 200; ++bucket) {
    units.push_back({20, bucket >= 20 && bucket < 35 ? 0.0 : 20.0});
  }
  const double share = 185.0 / 200;
  const Worth worth = worth_of(units, share, share * (1 - share));
  EXPECT_LT(share_interval(share, worth.effective).high, 0.99);
}

RC_GTEST_PROP(StatisticsProperty, AShareLiesInItsInterval, ()) {
  const double share = *rc::gen::inRange(0, 1001) / 1000.0;
  const double effective = *rc::gen::inRange(1, 100000) / 10.0;
  const Interval interval = share_interval(share, effective);
  RC_ASSERT(interval.low >= 0 && interval.high <= 1);
  RC_ASSERT(interval.low <= share && share <= interval.high);
  const Interval narrower = share_interval(share, effective * 2);
  RC_ASSERT(narrower.high - narrower.low <= interval.high - interval.low + 1e-12);
}

RC_GTEST_PROP(StatisticsProperty, ExceedancesSurroundTheirMean, ()) {
  const double quantile = *rc::gen::inRange(1, 1000) / 1000.0;
  const double samples = *rc::gen::inRange(1, 20000);
  const double effective = samples / *rc::gen::inRange(1, 20);
  const Exceedances bounds = quantile_exceedances(quantile, samples, effective);
  const double mean = samples * (1 - quantile);
  RC_ASSERT(bounds.fewest <= mean);
  RC_ASSERT(bounds.most >= mean);
}

RC_GTEST_PROP(StatisticsProperty, WorthIsNeverMoreThanTheSamples, ()) {
  const auto values = *rc::gen::container<std::vector<int>>(rc::gen::inRange(0, 5));
  std::vector<Unit> units;
  double sum = 0;
  for (const int value : values) {
    units.push_back({4, static_cast<double>(value)});
    sum += value;
  }
  const double share = values.empty() ? 0 : sum / (4 * static_cast<double>(values.size()));
  const Worth worth = worth_of(units, share, share * (1 - share));
  RC_ASSERT(worth.effective <= worth.samples);
  RC_ASSERT(worth.effective >= 0);
}

Bounded bounded(double low, double middle, double high) {
  return {middle, {low, high}};
}

TEST(Mover, DifferenceAndRatioOfKnownIntervals) {
  const Bounded difference = subtract(bounded(4, 5, 7), bounded(2, 3, 4));
  EXPECT_DOUBLE_EQ(difference.value, 2);
  EXPECT_DOUBLE_EQ(difference.interval.low, 2 - std::sqrt(2.0));
  EXPECT_DOUBLE_EQ(difference.interval.high, 2 + std::sqrt(5.0));
  const Bounded ratio = divide(bounded(8, 10, 12.5), bounded(4, 5, 6.25));
  EXPECT_DOUBLE_EQ(ratio.value, 2);
  EXPECT_NEAR(std::log(ratio.interval.high / 2), std::sqrt(2.0) * std::log(1.25), 1e-12);
  EXPECT_TRUE(std::isnan(divide(bounded(1, 2, 3), bounded(0, 0, 0)).value));
  EXPECT_TRUE(std::isinf(subtract(bounded(1, 2, kUnbounded), bounded(1, 1, 1)).interval.high));
}

RC_GTEST_PROP(MoverProperty, ExactNumbersStayExact, ()) {
  const double a = *rc::gen::inRange(-1000, 1000);
  const double b = *rc::gen::inRange(1, 1000);
  const Bounded left = bounded(a, a, a);
  const Bounded right = bounded(b, b, b);
  for (const Bounded& result :
       {add(left, right), subtract(left, right), multiply(left, right), divide(left, right)}) {
    RC_ASSERT(result.interval.low == result.value && result.interval.high == result.value);
  }
}

// Making the left side smaller never turns a held `<` into anything else.
RC_GTEST_PROP(DecisionProperty, IsMonotone, ()) {
  const auto estimate = [](double low, double middle, double high) {
    Estimate made;
    made.bounded = bounded(low, middle, high);
    made.exact = false;
    return made;
  };
  const double middle = *rc::gen::inRange(0, 100);
  const double down = *rc::gen::inRange(0, 50);
  const double up = *rc::gen::inRange(0, 50);
  const double by = *rc::gen::inRange(0, 50);
  const model::Prediction prediction = testing::predict("p99(reads.latency) < 50s during fault");
  const Sides sides{estimate(middle - down, middle, middle + up), exact_estimate(50, 0), {}};
  const Sides smaller{
      estimate(middle - down - by, middle - by, middle + up - by), exact_estimate(50, 0), {}};
  const auto before = decide(prediction, sides, DecideBy::kInterval);
  const auto after = decide(prediction, smaller, DecideBy::kInterval);
  if (before == model::Verdict::kHeld) RC_ASSERT(after == model::Verdict::kHeld);
  if (after == model::Verdict::kViolated) RC_ASSERT(before == model::Verdict::kViolated);
}

}  // namespace
}  // namespace squall::judge
