// What the language accepts, and how it is written canonically.

#include <gtest/gtest.h>

#include "unit/model/prediction_support.h"

namespace squall::model {
namespace {

using testing::messages;
using testing::parse;

struct Accepted {
  const char* written;
  const char* canonical;  // null: as written
};

void expect_accepted(const std::vector<Accepted>& cases, ClauseRule rule) {
  for (const Accepted& accepted : cases) {
    const auto parsed = parse(accepted.written, rule);
    ASSERT_TRUE(parsed.prediction) << accepted.written << "\n" << messages(parsed.errors);
    EXPECT_TRUE(parsed.errors.empty());
    const std::string expected = accepted.canonical ? accepted.canonical : accepted.written;
    EXPECT_EQ(parsed.prediction->text, expected);
    EXPECT_EQ(print(*parsed.prediction), expected);
    const auto again = parse(expected, rule);
    ASSERT_TRUE(again.prediction) << expected << "\n" << messages(again.errors);
    EXPECT_TRUE(equal(*again.prediction, *parsed.prediction)) << expected;
  }
}

TEST(PredictionParse, HypothesisPredictions) {
  expect_accepted(
      {
          {"reads.success >= 99.5% during fault", nullptr},
          {"reads.success>=0.995 during fault", "reads.success >= 0.995 during fault"},
          {"p99(reads.latency) < 2 * baseline(p99(reads.latency)) during fault", nullptr},
          {"stuck.value == 0 for 5s within 30s of revert", nullptr},
          {"lost(writes) == 0 at end", nullptr},
          {"duplicated( writes )==0 during outage", "duplicated(writes) == 0 during outage"},
          {"p99.9(reads.latency where reads.status == 200) <= 1.5 s during fault",
           "p99.9(reads.latency where reads.status == 200) <= 1.5s during fault"},
          {"max(p99(reads.latency) each 1s) < 500ms during fault from 3s", nullptr},
          {"min(reads.success each 500 ms) > 50% during recovery",
           "min(reads.success each 500ms) > 50% during recovery"},
          {"share(reads.status == 503 and reads.header[\"Retry-After\"] exists) <= 20% during "
           "outage",
           nullptr},
          {"time(stuck.value > 3) < 10s during fault", nullptr},
          {"time(replica.lag > 200ms) <= 2s at end", nullptr},
          {"share(pool.used > 90%) < 10% during fault", nullptr},
          {"count(reads where not reads.success) <= 3 during fault", nullptr},
          {"rate(reads) > 190 /s during fault", "rate(reads) > 190/s during fault"},
          {"count(api-log) < 5 during fault", "count(api-log.matches) < 5 during fault"},
          {"rate(api-log.matches) <= 10/min during fault", nullptr},
          {"worker.memory < 512 MiB during fault", "worker.memory < 512MiB during fault"},
          {"reads.success between 99% and 100% during baseline", nullptr},
          {"stuck.value between 0 and queue.depth + 1 at end", nullptr},
          {"queue.depth == stuck.value at end", nullptr},
          {"reads.success >= 99% within 10s of inject", nullptr},
          {"reads.success >= 99% within 10s of inject slow-db", nullptr},
          {"reads.success >= 99% for 1min within 2min of revert process.kill-2", nullptr},
          {"reads.success >= 99% during process.kill-2", nullptr},
          {"p50(no-visible.latency) < 1s during fault", nullptr},
          {"mean(stuck.value) < -(-3) during fault", "mean(stuck.value) < --3 during fault"},
          {"(reads.success) >= ((99%)) during fault", "reads.success >= 99% during fault"},
          {"1 - reads.success <= 0.5% during fault", nullptr},
          {"count(reads where reads.faulted) / count(reads) > 1% during fault", nullptr},
          {"rate(reads) * 10s > 1900 during fault", nullptr},
          {"reads.success == 100% during fault", nullptr},
          {"share(reads.status == 5xx) == 0 during fault", nullptr},
          {"p99(reads.latency) > 0 during fault", nullptr},
          {"disk.written < 10/s during fault", nullptr},
          {"reads.success\n  >= 99%\n  during fault", "reads.success >= 99% during fault"},
      },
      ClauseRule::kHypothesis);
}

// A query is a request with an outcome and a latency, and its answer is a gauge.
TEST(PredictionParse, AProbeMayHaveRequestsAndAGauge) {
  expect_accepted(
      {
          {"db.value == 0 at end", nullptr},
          {"mean(db.value) < 3 at end", nullptr},
          {"time(db.value > 3) < 3s at end", nullptr},
          {"p99(db.latency) < 1s at end", nullptr},
          {"db.success >= 99% at end", nullptr},
          {"count(db where db.outcome == \"timeout\") < 3 at end", nullptr},
      },
      ClauseRule::kHypothesis);
}

TEST(PredictionParse, ArithmeticGroupsToTheLeftAndKeepsNeededParentheses) {
  expect_accepted(
      {
          {"stuck.value - 1 - 2 < 3 at end", nullptr},
          {"stuck.value - (1 - 2) < 3 at end", nullptr},
          {"(stuck.value + 1) * 2 < 3 at end", nullptr},
          {"(stuck.value * 1) + 2 < 3 at end", "stuck.value * 1 + 2 < 3 at end"},
          {"stuck.value * (2 / 3) < 3 at end", nullptr},
          {"stuck.value / 2 / 3 < 3 at end", nullptr},
          {"-stuck.value < 3 at end", nullptr},
          {"-(stuck.value + 1) < 3 at end", nullptr},
          {"3 - -stuck.value < 3 at end", nullptr},
          {"stuck.value -1 < 3 at end", "stuck.value - 1 < 3 at end"},
          {"3-stuck.value < 3 at end", "3 - stuck.value < 3 at end"},
          {"10/stuck.value < 3 at end", "10 / stuck.value < 3 at end"},
          {"10/min(stuck.value) < 3 at end", "10 / min(stuck.value) < 3 at end"},
          {"30s-replica.lag > 5s at end", "30s - replica.lag > 5s at end"},
      },
      ClauseRule::kHypothesis);
}

TEST(PredictionParse, SteadyStateHasNoClause) {
  expect_accepted({{"reads.success >= 99%", nullptr}, {"stuck.value == 0", nullptr}},
                  ClauseRule::kSteadyState);
  EXPECT_TRUE(std::holds_alternative<NoClause>(
      parse("stuck.value == 0", ClauseRule::kSteadyState).prediction->when));
}

TEST(PredictionParse, AbortRulesGetAWindowWhereTheyNeedOne) {
  expect_accepted(
      {
          {"reads.success < 90% over 2s", nullptr},
          {"reads.success < 90%", "reads.success < 90% over 1s"},
          {"p99(reads.latency) > 1s", "p99(reads.latency) > 1s over 1s"},
          {"stuck.value > 100", nullptr},
          {"stuck.value > 100 over 5s", nullptr},
          {"queue.depth > 2 * baseline(max(queue.depth))", nullptr},
          {"time(stuck.value > 5) > 10s over 20s", nullptr},
      },
      ClauseRule::kAbortRule);
}

TEST(PredictionParse, ConditionsHaveOneForm) {
  expect_accepted(
      {
          {"share(reads.success == true) > 1% at end", "share(reads.success) > 1% at end"},
          {"share(reads.success != true) > 1% at end", "share(not reads.success) > 1% at end"},
          {"share(reads.faulted == false) > 1% at end", "share(not reads.faulted) > 1% at end"},
          {"share(not not reads.faulted) > 1% at end", "share(reads.faulted) > 1% at end"},
          {"share(not reads.faulted == false) > 1% at end", "share(reads.faulted) > 1% at end"},
          {"share((reads.status == 200 or reads.status == 404) or reads.faulted) > 1% at end",
           "share(reads.status == 200 or reads.status == 404 or reads.faulted) > 1% at end"},
          {"share((reads.status == 200 or reads.status == 404) and reads.faulted) > 1% at end",
           nullptr},
          {"share(reads.status == 200 or (reads.status == 404 and reads.faulted)) > 1% at end",
           "share(reads.status == 200 or reads.status == 404 and reads.faulted) > 1% at end"},
          {"share(not (reads.status == 200 and reads.faulted)) > 1% at end", nullptr},
          {"share(reads.status != 2xx) > 1% at end", nullptr},
          {"share(reads.json[\"$.state\"] == \"done\") > 1% at end", nullptr},
          {"share(reads.json[\"$.n\"] >= 3 and reads.json[\"$.ok\"] == true) > 1% at end", nullptr},
          {"share(reads.json[\"$.ok\"]) > 1% at end", nullptr},
          {"share(reads.json[\"$['a\\\"b\\\\c']\"] exists) > 1% at end", nullptr},
          {"share(reads.header[\"Retry-After\"] <= 5) > 1% at end", nullptr},
          {"share(reads.outcome == \"timeout\") < 1% at end", nullptr},
          {"share(reads.latency > 250ms) < 1% at end", nullptr},
          {"share(reads.status exists) > 99% at end", nullptr},
          {"time(stuck.value > -5) > 1s at end", nullptr},
      },
      ClauseRule::kHypothesis);
}

// Functions and words are known by their place: they are free as names.
TEST(PredictionParse, WordsOfTheLanguageMayBeNames) {
  SignalTable table;
  for (const char* name : {"count", "p99", "not", "during", "time", "between", "s", "min", "end"}) {
    table.entries.push_back({name, "value", SignalType::kGauge, base::Dimension::kNumber});
  }
  table.entries.push_back({"and", "latency", SignalType::kRequests, base::Dimension::kDuration});
  for (const char* text :
       {"count.value < p99.value during fault", "not.value + during.value < 3 during fault",
        "time(not.value > 3) < 3s at end", "between.value between 1 and 3 at end",
        "10 / s.value < 3 at end", "10 / min.value < 3 at end", "max(min.value) < 3 at end",
        "share(and.status == 200 and and.faulted) > 3% at end", "count(and) > 3 at end"}) {
    const auto parsed = parse_prediction("words", text, table, ClauseRule::kHypothesis);
    ASSERT_TRUE(parsed.prediction) << text << "\n" << messages(parsed.errors);
    EXPECT_EQ(parsed.prediction->text, text);
  }
}

TEST(PredictionParse, DimensionsAreSet) {
  const auto dimension = [](const char* text) {
    const auto parsed = parse(std::string(text) + " > 0 during fault");
    EXPECT_TRUE(parsed.prediction) << text << "\n" << messages(parsed.errors);
    return parsed.prediction ? parsed.prediction->left->dimension : base::Dimension::kSize;
  };
  using base::Dimension;
  EXPECT_EQ(dimension("2 * baseline(p99(reads.latency))"), Dimension::kDuration);
  EXPECT_EQ(dimension("p99(reads.latency) / p50(reads.latency)"), Dimension::kNumber);
  EXPECT_EQ(dimension("10% * p99(reads.latency)"), Dimension::kDuration);
  EXPECT_EQ(dimension("1 - reads.success"), Dimension::kShare);
  EXPECT_EQ(dimension("50% * count(reads)"), Dimension::kNumber);
  EXPECT_EQ(dimension("2 * reads.success"), Dimension::kShare);
  EXPECT_EQ(dimension("rate(reads) * 1s"), Dimension::kNumber);
  EXPECT_EQ(dimension("count(reads) / 1s"), Dimension::kRate);
  EXPECT_EQ(dimension("count(reads) / rate(reads)"), Dimension::kDuration);
  EXPECT_EQ(dimension("time(stuck.value > 1)"), Dimension::kDuration);
  EXPECT_EQ(dimension("max(worker.memory)"), Dimension::kSize);
  EXPECT_EQ(dimension("max(share(reads.faulted) each 1s)"), Dimension::kShare);
}

TEST(PredictionParse, SpansCountInTheCanonicalText) {
  const auto parsed = parse("  p99( reads.latency )<250 ms during fault");
  ASSERT_TRUE(parsed.prediction);
  const Prediction& prediction = *parsed.prediction;
  const auto at = [&](const Span& span) {
    return prediction.text.substr(span.begin, span.end - span.begin);
  };
  EXPECT_EQ(at(prediction.left->span), "p99(reads.latency)");
  EXPECT_EQ(at(prediction.right->span), "250ms");
}

TEST(PredictionParse, ValuesAreInBaseUnits) {
  const auto parsed = parse("p99.9(reads.latency) < 250ms for 1.5s within 2min of revert outage");
  ASSERT_TRUE(parsed.prediction);
  EXPECT_EQ(std::get<Aggregate>(parsed.prediction->left->node).quantile, 0.999);
  EXPECT_EQ(std::get<Literal>(parsed.prediction->right->node).quantity.value, 0.25);
  const auto& within = std::get<WithinClause>(parsed.prediction->when);
  EXPECT_EQ(within.hold_for, std::chrono::milliseconds(1500));
  EXPECT_EQ(within.within, std::chrono::minutes(2));
  EXPECT_EQ(within.anchor, WithinClause::Anchor::kRevert);
  EXPECT_EQ(within.fault_name, "outage");
}

TEST(PredictionParse, ExpectHasBareFields) {
  for (const char* text :
       {"status == 2xx", "status == 200 or status == 404", "header[\"Content-Type\"] == \"a/b\"",
        "json[\"$.state\"] == \"done\" and latency < 1s", "not (status == 5xx)",
        "outcome == \"ok\"", "json[\"$.ok\"]"}) {
    const auto parsed = parse_condition(text);
    ASSERT_TRUE(parsed.condition) << text << "\n" << messages(parsed.errors);
    const auto again = parse_condition(print(*parsed.condition));
    ASSERT_TRUE(again.condition);
    EXPECT_TRUE(equal(*again.condition, *parsed.condition)) << text;
  }
}

}  // namespace
}  // namespace squall::model
