// What the observer has to record for a prediction, and what the judge decides it by.

#include <gtest/gtest.h>

#include "unit/model/prediction_support.h"

namespace squall::model {
namespace {

using testing::messages;
using testing::parse;
using testing::table;
using Names = std::vector<std::string>;

Prediction parsed(const char* text, ClauseRule rule = ClauseRule::kHypothesis) {
  const auto result = parse(text, rule);
  EXPECT_TRUE(result.prediction) << text << "\n" << messages(result.errors);
  return result.prediction.value_or(Prediction{});
}

Names slices(const char* text) {
  Names ids;
  for (const Slice& slice : slices_of(parsed(text))) {
    ids.push_back(slice.id);
    EXPECT_EQ(slice.id, slice_id(slice.probe, slice.where));
  }
  return ids;
}

Names gauges(const char* text) {
  Names names;
  for (const Signal& signal : gauges_of(parsed(text), table())) {
    names.push_back(signal.source + "." + signal.field);
  }
  return names;
}

TEST(PredictionNeeds, Slices) {
  EXPECT_EQ(slices("reads.success >= 99% during fault"), Names({"reads"}));
  EXPECT_EQ(slices("p99(reads.latency where reads.status==200) < 2 * "
                   "baseline(p99(reads.latency)) during fault"),
            Names({"reads where reads.status == 200", "reads"}));
  EXPECT_EQ(slices("share(reads.faulted or (reads.status == 2xx)) > 1% at end"),
            Names({"reads", "reads where reads.faulted or reads.status == 2xx"}));
  EXPECT_EQ(slices("max(rate(writes) each 1s) / rate(no-visible) > 1 at end"),
            Names({"writes", "no-visible"}));
  EXPECT_EQ(slices("-min(reads.success each 1s) > -3 at end"), Names({"reads"}));
  EXPECT_EQ(slices("reads.success between baseline(reads.success) - 1% and "
                   "share(writes.faulted) + 1 at end"),
            Names({"reads", "writes", "writes where writes.faulted"}));
  EXPECT_EQ(slices("time(stuck.value > 3) < 5s at end"), Names({}));
  EXPECT_EQ(slices("share(stuck.value > 3) < 5% at end"), Names({}));
  EXPECT_EQ(slices("lost(writes) == 0 at end"), Names({}));
  EXPECT_EQ(slices("count(api-log) == 0 at end"), Names({}));
  EXPECT_EQ(slices("mean(stuck.value) < 1 at end"), Names({}));
}

TEST(PredictionNeeds, EqualConditionsAreOneSlice) {
  EXPECT_EQ(slices("count(reads where reads.success==true) / "
                   "count(reads where not (not reads.success)) > 1 at end"),
            Names({"reads where reads.success"}));
}

TEST(PredictionNeeds, GaugesAndCounters) {
  EXPECT_EQ(gauges("stuck.value == 0 at end"), Names({"stuck.value"}));
  EXPECT_EQ(gauges("queue.depth < 2 * baseline(max(queue.depth)) + stuck.value during fault"),
            Names({"queue.depth", "stuck.value"}));
  EXPECT_EQ(gauges("time(replica.lag > 1s) < 5s during fault"), Names({"replica.lag"}));
  EXPECT_EQ(gauges("share(pool.used > 90%) < max(mean(pool.used) each 1s) during fault"),
            Names({"pool.used"}));
  EXPECT_EQ(gauges("count(api-log) + baseline(count(audit.matches)) < 3 at end"),
            Names({"api-log.matches", "audit.matches"}));
  EXPECT_EQ(gauges("reads.success > 1% at end"), Names({}));
  EXPECT_EQ(gauges("p99(reads.latency) < 1s at end"), Names({}));
}

TEST(PredictionNeeds, Sources) {
  EXPECT_EQ(sources_of(parsed("lost(writes) + duplicated(writes) + stuck.value < "
                              "baseline(count(reads)) at end")),
            Names({"writes", "stuck", "reads"}));
  EXPECT_EQ(sources_of(parsed("stuck.value between 1 and baseline(max(queue.depth)) at end")),
            Names({"stuck", "queue"}));
  EXPECT_EQ(sources_of(parsed("share(no-visible.faulted) + share(pool.used > 3%) < 1% at end")),
            Names({"no-visible", "pool"}));
}

TEST(PredictionNeeds, DecidedByValueOrInterval) {
  const auto decided = [](const char* text) { return decided_by(parsed(text)); };
  for (const char* text :
       {"reads.success >= 99% during fault", "share(reads.faulted) > 1% during fault",
        "p99(reads.latency) < 1s during fault", "mean(stuck.value) < 1 during fault",
        "p99(worker.memory) < 1GiB during fault", "1 - reads.success < 1% during fault",
        "max(reads.latency) < 2 * baseline(p99(reads.latency)) during fault",
        "p50(p99(reads.latency) each 1s) < 1s during fault",
        "reads.success between 0 and 50% during fault"}) {
    EXPECT_EQ(decided(text), DecidedBy::kInterval) << text;
  }
  for (const char* text :
       {"count(reads) > 5 during fault", "rate(reads) > 5/s during fault",
        "max(reads.latency) < 1s during fault", "max(p99(reads.latency) each 1s) < 1s during fault",
        "time(stuck.value > 1) < 5s during fault", "share(stuck.value > 1) < 5% during fault",
        "stuck.value < 3 during fault", "lost(writes) == 0 at end",
        "share(reads.status == 503) == 0 during fault", "reads.success >= 100% during fault",
        "1 == reads.success during fault", "p99(reads.latency) > 0s during fault",
        "stuck.value < 2 * baseline(mean(stuck.value)) during fault"}) {
    EXPECT_EQ(decided(text), DecidedBy::kValue) << text;
  }
}

TEST(PredictionNeeds, SubjectsOfConditions) {
  const Prediction requests =
      parsed("share(not (reads.faulted and reads.status == 2xx)) > 1% at end");
  const Condition& condition = *std::get<Share>(requests.left->node).condition;
  EXPECT_TRUE(is_request_condition(condition));
  EXPECT_EQ(subject_of(condition), (Signal{"reads", ""}));
  const Prediction gauge = parsed("time(stuck.value > 1 or stuck.value < -1) > 1s at end");
  const Condition& other = *std::get<TimeTrue>(gauge.left->node).condition;
  EXPECT_FALSE(is_request_condition(other));
  EXPECT_EQ(subject_of(other), (Signal{"stuck", "value"}));
}

}  // namespace
}  // namespace squall::model
