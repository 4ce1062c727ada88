#include "judge/abort_monitor.h"

#include <gtest/gtest.h>

#include <chrono>
#include <map>

#include "judge/live_view.h"
#include "run_builder.h"

namespace squall::judge {
namespace {

using evidence::LiveSample;
using evidence::Outcome;
using evidence::SeriesId;
using evidence::SeriesKind;
using testing::at;
using testing::predict;

const std::map<std::string, SeriesId, std::less<>> kSeries = {
    {"reads", 1}, {"reads where reads.status == 503", 2}, {"stuck.value", 3}, {"log.matches", 4}};

std::optional<SeriesId> series_of(std::string_view name) {
  const auto found = kSeries.find(name);
  return found == kSeries.end() ? std::nullopt : std::optional(found->second);
}

model::Prediction rule(std::string_view text) {
  return predict(text, model::ClauseRule::kAbortRule);
}

AbortMonitor monitor_of(std::string_view text) {
  std::vector<model::Prediction> rules;
  rules.push_back(rule(text));
  return AbortMonitor(std::move(rules), series_of);
}

LiveSample request(double done, bool ok, double latency = 0.02, SeriesId series = 1) {
  LiveSample sample;
  sample.series = series;
  sample.kind = SeriesKind::kRequests;
  sample.request.done = at(done);
  sample.request.intended = sample.request.sent = at(done - latency);
  sample.request.outcome = ok ? Outcome::kOk : Outcome::kTimeout;
  return sample;
}

LiveSample gauge(double when, double value, SeriesId series = 3) {
  LiveSample sample;
  sample.series = series;
  sample.gauge = {at(when), value};
  return sample;
}

// Feeds 200 requests a second; gives the second at which the rule breached.
template <typename Make>
std::optional<double> breach_at(AbortMonitor& monitor, double seconds, const Make& make) {
  for (int i = 0; i < seconds * 200; ++i) {
    const double when = i / 200.0;
    if (monitor.add(make(when))) return when;
  }
  return std::nullopt;
}

TEST(AbortMonitor, BreachesAFullWindowOfTooFewSuccesses) {
  AbortMonitor monitor = monitor_of("reads.success < 90% over 2s");
  int number = 0;
  const auto breached = breach_at(monitor, 10, [&](double when) {
    return request(when, when < 5 || ++number % 4 != 0);  // a quarter fails
  });
  ASSERT_TRUE(breached);
  EXPECT_NEAR(*breached, 5.8, 0.2);  // 10 % of the window are failures
  const auto again = monitor.tick(at(60));
  ASSERT_TRUE(again);
  EXPECT_EQ(again->rule, "reads.success < 90% over 2s");
  EXPECT_NE(again->reason.find("over the last 2s ("), std::string::npos) << again->reason;
  EXPECT_NE(again->reason.find("which is < 90%"), std::string::npos) << again->reason;
}

TEST(AbortMonitor, NeedsAFullWindow) {
  AbortMonitor monitor = monitor_of("reads.success < 90% over 2s");
  int number = 0;
  const auto breached =
      breach_at(monitor, 10, [&](double when) { return request(when, ++number % 2 == 0); });
  ASSERT_TRUE(breached);
  EXPECT_NEAR(*breached, 2, 0.01);
}

TEST(AbortMonitor, NoSuccessAmongTenBreachesAtOnce) {
  AbortMonitor monitor = monitor_of("reads.success < 90% over 2s");
  const auto breached = breach_at(monitor, 10, [&](double when) { return request(when, false); });
  ASSERT_TRUE(breached);
  EXPECT_NEAR(*breached, 9 / 200.0, 1e-9);
}

TEST(AbortMonitor, IgnoresSeriesThatNoRuleReads) {
  AbortMonitor monitor = monitor_of("reads.success < 90% over 2s");
  EXPECT_EQ(monitor.series(), std::vector<SeriesId>{1});
  EXPECT_FALSE(breach_at(monitor, 5, [&](double when) { return request(when, false, 0.02, 9); }));
}

TEST(AbortMonitor, QuantilesAndMeansSlide) {
  AbortMonitor p99 = monitor_of("p99(reads.latency) > 500ms over 2s");
  int number = 0;
  const auto slow = [&](double when) {
    return request(when, true, when > 5 && ++number % 20 == 0 ? 0.8 : 0.02);
  };
  const auto breached = breach_at(p99, 10, slow);
  ASSERT_TRUE(breached);
  // 1 % of 400 requests and one more, each the twentieth.
  EXPECT_NEAR(*breached, 5.5, 0.1);
  number = 0;
  AbortMonitor p90 = monitor_of("p90(reads.latency) > 500ms over 2s");
  EXPECT_FALSE(breach_at(p90, 10, slow));
  number = 0;
  AbortMonitor mean = monitor_of("mean(reads.latency) > 40ms over 2s");
  EXPECT_TRUE(breach_at(mean, 10, slow));
}

TEST(AbortMonitor, SharesOfASliceAndCountsOfACounter) {
  AbortMonitor share = monitor_of("share(reads.status == 503) > 20% over 1s");
  EXPECT_EQ(share.series(), (std::vector<SeriesId>{1, 2}));
  std::optional<Breach> breach;
  for (int i = 0; i < 600 && !breach; ++i) {
    share.add(request(i / 200.0, true));
    if (i > 300 && i % 2 == 0) breach = share.add(request(i / 200.0, false, 0.02, 2));
  }
  EXPECT_TRUE(breach);
  AbortMonitor count = monitor_of("count(log.matches) > 3 over 10s");
  EXPECT_FALSE(count.add(gauge(0, 3, 4)));
  EXPECT_TRUE(count.add(gauge(0.5, 1, 4)))
      << "a count that is too high already needs no full window";
  AbortMonitor old = monitor_of("count(log.matches) > 3 over 10s");
  old.add(gauge(0, 3, 4));
  EXPECT_FALSE(old.add(gauge(11, 1, 4)));
}

TEST(AbortMonitor, GaugesBreachAtTheFirstSampleUnlessTheyMustLast) {
  AbortMonitor first = monitor_of("stuck.value > 10");
  EXPECT_FALSE(first.add(gauge(0, 10)));
  const auto breach = first.add(gauge(0.5, 11));
  ASSERT_TRUE(breach);
  EXPECT_EQ(breach->at, at(0.5));
  EXPECT_EQ(breach->reason, "stuck.value was 11, which is > 10");
  AbortMonitor lasting = monitor_of("stuck.value > 10 over 2s");
  for (int i = 0; i < 4; ++i) EXPECT_FALSE(lasting.add(gauge(i * 0.5, 11)));
  EXPECT_FALSE(lasting.add(gauge(2, 3)));
  for (int i = 5; i < 9; ++i) EXPECT_FALSE(lasting.add(gauge(i * 0.5, 11)));
  EXPECT_TRUE(lasting.tick(at(4.5)));
}

TEST(AbortMonitor, TicksAloneCanBreach) {
  AbortMonitor monitor = monitor_of("rate(reads) < 10/s over 1s");
  breach_at(monitor, 3, [&](double when) { return request(when, true); });
  EXPECT_FALSE(monitor.tick(at(3.5)));
  EXPECT_TRUE(monitor.tick(at(4.5)));
}

TEST(AbortMonitor, WindowsOfWindowsAndArithmetic) {
  AbortMonitor monitor = monitor_of("max(p99(reads.latency) each 500ms) * 2 > 1s over 2s");
  const auto breached = breach_at(
      monitor, 10, [&](double when) { return request(when, true, when > 5 ? 0.6 : 0.02); });
  ASSERT_TRUE(breached);
  EXPECT_NEAR(*breached, 5.5, 0.7);
}

TEST(AbortMonitor, ComparesWithABaselineThatItWasGiven) {
  std::vector<model::Prediction> rules;
  rules.push_back(rule("p99(reads.latency) > 3 * baseline(p99(reads.latency)) over 1s"));
  AbortMonitor blind(rules, series_of);
  EXPECT_EQ(blind.blind_rules().size(), 1u);
  AbortMonitor monitor(rules, series_of, [](const model::Expression&) { return 0.05; });
  EXPECT_TRUE(monitor.blind_rules().empty());
  EXPECT_FALSE(breach_at(monitor, 5, [](double when) { return request(when, true, 0.14); }));
  EXPECT_TRUE(breach_at(monitor, 5, [](double when) { return request(5 + when, true, 0.16); }));
}

TEST(AbortMonitor, SaysWhichRulesAreBlind) {
  EXPECT_EQ(monitor_of("api.memory > 1GiB").blind_rules(),
            std::vector<std::string>{"api.memory > 1GiB"});
  EXPECT_TRUE(monitor_of("stuck.value > 1").blind_rules().empty());
}

TEST(LiveView, ComparesWithTheBaselineOnceItIsKnown) {
  std::vector<model::Prediction> predictions;
  predictions.push_back(
      predict("p99(reads.latency) < 2 * baseline(p99(reads.latency)) during fault"));
  LiveView view(std::move(predictions), series_of);
  const auto feed = [&](double begin) {
    for (int i = 0; i < 400; ++i) view.add(request(begin + i / 200.0, true, 0.15));
    return view.rows(at(begin + 2))[0];
  };
  EXPECT_EQ(feed(0).state, LiveRow::State::kNoData);
  EXPECT_NE(feed(2).value, "-");
  view.set_baseline([](const model::Expression&) { return 0.05; });
  EXPECT_EQ(feed(4).state, LiveRow::State::kBeyond);
}

TEST(LiveView, ShowsValueStateAndHistory) {
  std::vector<model::Prediction> predictions;
  predictions.push_back(predict("reads.success >= 99% during fault"));
  predictions.push_back(predict("stuck.value == 0 during fault"));
  predictions.push_back(predict("lost(writes) == 0 at end"));
  LiveView view(std::move(predictions), series_of);
  EXPECT_EQ(view.rows(at(0))[0].state, LiveRow::State::kNoData);
  for (int i = 0; i < 1000; ++i) {
    const double when = i / 200.0;
    view.add(request(when, when < 3));
    if (i % 100 == 0) view.add(gauge(when, 0));
    if (i % 20 == 0) view.rows(at(when));
  }
  const auto rows = view.rows(at(5));
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[0].state, LiveRow::State::kBeyond);
  EXPECT_EQ(rows[0].value, "0%");
  EXPECT_EQ(rows[0].recent.size(), 6u);
  EXPECT_DOUBLE_EQ(rows[0].recent[1], 1);
  EXPECT_EQ(rows[1].state, LiveRow::State::kWithin);
  EXPECT_EQ(rows[1].value, "0");
  EXPECT_EQ(rows[2].state, LiveRow::State::kNoData);
  EXPECT_EQ(rows[2].value, "-");
}

}  // namespace
}  // namespace squall::judge
