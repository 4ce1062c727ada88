#include "observe/schedule.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <nlohmann/json.hpp>

#include "observe/ticking_probe.h"

namespace squall::observe {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// Arrivals before `end`.
std::vector<base::Duration> arrivals(ArrivalSchedule schedule, base::Duration end) {
  std::vector<base::Duration> all;
  while (const auto next = schedule.next()) {
    if (*next >= end) break;
    all.push_back(*next);
  }
  return all;
}

TEST(ArrivalSchedule, ConstantRatesAreExactForHours) {
  ArrivalSchedule schedule = ArrivalSchedule::constant(200);
  for (int i = 0; i < 2'000'000; ++i) {
    ASSERT_EQ(schedule.next(), base::Duration(milliseconds(5)) * i);
  }
}

TEST(ArrivalSchedule, SlowRatesAreTimesOfMoreThanASecond) {
  const auto all = arrivals(ArrivalSchedule::constant(0.1), seconds(31));
  const std::vector<base::Duration> expected = {seconds(0), seconds(10), seconds(20), seconds(30)};
  EXPECT_EQ(all, expected);
}

TEST(ArrivalSchedule, ARampSendsTheAreaUnderIt) {
  // From 10/s to 50/s over 10 s is 300 requests; then 50/s.
  const ArrivalSchedule ramp = ArrivalSchedule::ramp(10, 50, seconds(10));
  EXPECT_EQ(arrivals(ramp, seconds(10)).size(), 300u);
  EXPECT_EQ(arrivals(ramp, seconds(12)).size(), 400u);
  const auto all = arrivals(ramp, seconds(10));
  EXPECT_NEAR(base::to_seconds(all[1] - all[0]), 0.1, 0.002);
  EXPECT_NEAR(base::to_seconds(all[299] - all[298]), 0.02, 0.001);
}

TEST(ArrivalSchedule, RampsMayFallAndBeginAtZero) {
  EXPECT_EQ(arrivals(ArrivalSchedule::ramp(0, 100, seconds(4)), seconds(4)).size(), 200u);
  const auto falling = arrivals(ArrivalSchedule::ramp(100, 0, seconds(4)), seconds(100));
  EXPECT_EQ(falling.size(), 200u);
}

TEST(ArrivalSchedule, StepsFollowOneAnotherAndTheLastStays) {
  const ArrivalSchedule steps = ArrivalSchedule::steps({{.rate = 10, .length = seconds(5)},
                                                        {.rate = 0, .length = seconds(3)},
                                                        {.rate = 100, .length = seconds(1)}});
  EXPECT_EQ(arrivals(steps, seconds(5)).size(), 50u);
  EXPECT_EQ(arrivals(steps, seconds(8)).size(), 50u);
  EXPECT_EQ(arrivals(steps, seconds(10)).size(), 250u);
  EXPECT_EQ(arrivals(steps, seconds(9))[50], base::Duration(seconds(8)));
  EXPECT_EQ(steps.peak_rate(), 100);
}

TEST(ArrivalSchedule, ALastStepOfZeroEndsTheLoad) {
  ArrivalSchedule steps = ArrivalSchedule::steps(
      {{.rate = 3, .length = seconds(1)}, {.rate = 0, .length = seconds(1)}});
  EXPECT_EQ(arrivals(steps, seconds(100)).size(), 3u);
}

TEST(ArrivalSchedule, PoissonIsReproducibleAndHasItsRate) {
  const auto first = arrivals(ArrivalSchedule::poisson(1000, 42), seconds(100));
  EXPECT_EQ(first, arrivals(ArrivalSchedule::poisson(1000, 42), seconds(100)));
  EXPECT_NE(first, arrivals(ArrivalSchedule::poisson(1000, 43), seconds(100)));
  // 100,000 expected; the deviation is the root of that.
  EXPECT_NEAR(static_cast<double>(first.size()), 100'000, 5 * 316);
  // Independent gaps: the variance of the count in windows equals their mean.
  std::vector<double> counts(1000);
  for (const base::Duration at : first) {
    ++counts[static_cast<std::size_t>(base::to_seconds(at) * 10)];
  }
  double variance = 0;
  for (const double count : counts) variance += (count - 100) * (count - 100) / 1000;
  EXPECT_NEAR(variance, 100, 25);
}

TEST(ArrivalSchedule, IsMadeFromParameters) {
  const auto make_from = [](base::Json json) {
    return ArrivalSchedule::make(model::Parameters(std::move(json)), 1);
  };
  const auto make = [&](base::Json json) { return make_from(std::move(json)).value(); };
  EXPECT_EQ(make({{"shape", "constant"}, {"rate", 5.0}}).peak_rate(), 5);
  EXPECT_EQ(make({{"shape", "poisson"}, {"rate", 7.0}}).peak_rate(), 7);
  EXPECT_EQ(
      make({{"shape", "ramp"}, {"from", 1.0}, {"to", 9.0}, {"over", 1'000'000'000}}).peak_rate(),
      9);
  const base::Json steps = {
      {"shape", "step"},
      {"steps",
       {{{"rate", 2.0}, {"for", 1'000'000'000}}, {{"rate", 4.0}, {"for", 1'000'000'000}}}}};
  EXPECT_EQ(arrivals(make(steps), seconds(3)).size(), 2u + 8u);
  EXPECT_FALSE(make_from({{"shape", "spiral"}}).ok());
}

RC_GTEST_PROP(ArrivalSchedule, NeverGoesBack, ()) {
  const auto rate = [] { return static_cast<double>(*rc::gen::inRange(0, 500)); };
  std::vector<ArrivalSchedule::Step> steps;
  const int count = *rc::gen::inRange(1, 6);
  for (int i = 0; i < count; ++i) {
    steps.push_back({.rate = rate(), .length = milliseconds(*rc::gen::inRange(0, 3000))});
  }
  const base::Duration over = milliseconds(*rc::gen::inRange(0, 5000));
  for (ArrivalSchedule schedule :
       {ArrivalSchedule::steps(steps), ArrivalSchedule::ramp(rate(), rate(), over),
        ArrivalSchedule::poisson(rate(), 3)}) {
    base::Duration last{};
    for (int i = 0; i < 2000; ++i) {
      const auto next = schedule.next();
      if (!next) break;
      RC_ASSERT(*next >= last);
      last = *next;
    }
  }
}

TEST(NextTick, SkipsWhatWasMissed) {
  const base::Instant first{seconds(100)};
  const base::Duration every = milliseconds(500);
  EXPECT_EQ(next_tick(first, every, first - seconds(3)), first);
  EXPECT_EQ(next_tick(first, every, first), first + every);
  EXPECT_EQ(next_tick(first, every, first + milliseconds(499)), first + every);
  EXPECT_EQ(next_tick(first, every, first + milliseconds(500)), first + 2 * every);
  EXPECT_EQ(next_tick(first, every, first + milliseconds(1750)), first + 4 * every);
}

}  // namespace
}  // namespace squall::observe
