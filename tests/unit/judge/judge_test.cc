#include "judge/judge.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "run_builder.h"

namespace squall::judge {
namespace {

using evidence::Outcome;
using evidence::WriteFate;
using model::RunVerdict;
using model::Verdict;
using testing::at;
using testing::good;
using testing::Request;
using testing::RunBuilder;

Request failing() {
  return {.outcome = Outcome::kTimeout, .latency = 2};
}

// Bad between two moments, good otherwise.
auto bad_between(double begin, double end) {
  return [=](double when) { return when >= begin && when < end ? failing() : Request{}; };
}

RunBuilder healthy() {
  RunBuilder run;
  run.requests("reads", 200, 0, 50, good).gauge("stuck.value", 0.5, 0, 50, [](double) {
    return 0;
  });
  return run;
}

// ---- Shares, quantiles, means ------------------------------------------------------------------

TEST(JudgeShare, HoldsWhenTheWholeIntervalIsAbove) {
  const auto result = healthy().hypothesis("reads.success >= 99.5% during fault").judge_one();
  EXPECT_EQ(result.verdict, Verdict::kHeld);
  EXPECT_EQ(result.samples, 4000u);
  EXPECT_DOUBLE_EQ(*result.observed, 1);
  EXPECT_GT(*result.interval_low, 0.998);
  EXPECT_EQ(result.phase, "fault");
  EXPECT_FALSE(result.first_violation);
  EXPECT_NE(result.reason.find("reads.success was 100%"), std::string::npos) << result.reason;
}

TEST(JudgeShare, IsInconclusiveWhenSamplesAreTooFew) {
  const auto result = healthy().hypothesis("reads.success >= 99.95% during fault").judge_one();
  EXPECT_EQ(result.verdict, Verdict::kInconclusive);
  EXPECT_NE(result.reason.find("too few"), std::string::npos) << result.reason;
}

TEST(JudgeShare, ConfidenceNoneTakesTheObservedValue) {
  RunBuilder run = healthy();
  run.hypothesis("reads.success >= 99.95% during fault");
  run.experiment().hypothesis[0].confidence = model::Confidence::kNone;
  const auto result = run.judge_one();
  EXPECT_EQ(result.verdict, Verdict::kHeld);
  EXPECT_EQ(result.method, "the observed value alone");
}

TEST(JudgeShare, ABurstAtTheStartViolatesAndItsMomentsAreKnown) {
  RunBuilder run;
  run.requests("reads", 200, 0, 50, bad_between(12, 13.5));
  const auto result = run.hypothesis("reads.success >= 99% during fault").judge_one();
  EXPECT_EQ(result.verdict, Verdict::kViolated) << result.reason;
  ASSERT_TRUE(result.first_violation);
  ASSERT_TRUE(result.returned);
  EXPECT_NEAR(base::to_seconds(*result.first_violation - at(12)), 0.1, 0.11);
  EXPECT_NEAR(base::to_seconds(*result.returned - at(13.5)), 0, 0.11);
}

TEST(JudgeShare, OfAConditionCountsItsSlice) {
  RunBuilder run;
  const std::string slice = "reads where reads.status == 503";
  run.slice(slice, "reads").requests("reads", 200, 0, 50, [&](double when) {
    Request request;
    if (std::fmod(when, 1) < 0.05) request = {.outcome = Outcome::kStatus, .slices = {slice}};
    return request;
  });
  run.hypothesis("share(reads.status == 503) <= 1% during fault");
  run.hypothesis("share(reads.status == 503) <= 10% during fault");
  run.hypothesis("count(reads where reads.status == 503) == 0 during fault");
  run.hypothesis("share(reads.status == 503) == 0 during fault");
  const auto results = run.judge().predictions;
  EXPECT_EQ(results[0].verdict, Verdict::kViolated) << results[0].reason;
  EXPECT_NEAR(*results[0].observed, 0.05, 0.001);
  EXPECT_EQ(results[1].verdict, Verdict::kHeld) << results[1].reason;
  EXPECT_EQ(results[2].verdict, Verdict::kViolated);
  EXPECT_DOUBLE_EQ(*results[2].observed, 200);
  EXPECT_EQ(results[3].verdict, Verdict::kViolated) << results[3].reason;
  EXPECT_EQ(results[3].method, "the observed value alone");
}

TEST(JudgeShare, AnEmptySliceIsACountOfNothing) {
  RunBuilder run = healthy();
  run.slice("reads where reads.status == 503", "reads");
  const auto result =
      run.hypothesis("count(reads where reads.status == 503) == 0 during fault").judge_one();
  EXPECT_EQ(result.verdict, Verdict::kHeld) << result.reason;
  EXPECT_EQ(result.method, "exact");
}

TEST(JudgeQuantile, ComparesWithANumber) {
  RunBuilder run;
  run.requests("reads", 200, 0, 50, [](double when) {
    return Request{.latency = std::fmod(when * 200, 100) < 3 ? 0.3 : 0.02};
  });
  run.hypothesis("p99(reads.latency) < 250ms during fault");
  run.hypothesis("p95(reads.latency) < 250ms during fault");
  const auto results = run.judge().predictions;
  EXPECT_EQ(results[0].verdict, Verdict::kViolated) << results[0].reason;
  EXPECT_NEAR(*results[0].observed, 0.3, 0.003);
  EXPECT_EQ(results[1].verdict, Verdict::kHeld) << results[1].reason;
}

TEST(JudgeQuantile, ComparesWithTheBaselineBothUncertain) {
  const auto latency = [](double fault) {
    return [=](double when) {
      const double wave = 1 + 0.2 * std::sin(when * 997);
      return Request{.latency = 0.05 * wave * (when >= 10 && when < 30 ? fault : 1)};
    };
  };
  const char* text = "p99(reads.latency) < 2 * baseline(p99(reads.latency)) during fault";
  RunBuilder slower;
  slower.requests("reads", 200, 0, 50, latency(3)).hypothesis(text);
  const auto violated = slower.judge_one();
  EXPECT_EQ(violated.verdict, Verdict::kViolated) << violated.reason;
  EXPECT_NEAR(*violated.threshold, 0.12, 0.002);
  EXPECT_EQ(violated.explanation.parts.size(), 2u);
  EXPECT_TRUE(violated.first_violation);
  RunBuilder same;
  same.requests("reads", 200, 0, 50, latency(1)).hypothesis(text);
  const auto held = same.judge_one();
  EXPECT_EQ(held.verdict, Verdict::kHeld) << held.reason;
  EXPECT_NE(held.method.find("MOVER"), std::string::npos);
}

TEST(JudgeMean, HasATInterval) {
  RunBuilder run = healthy();
  run.hypothesis("mean(reads.latency) between 10ms and 30ms during fault");
  run.hypothesis("mean(reads.latency) between 30ms and 40ms during fault");
  const auto results = run.judge().predictions;
  EXPECT_EQ(results[0].verdict, Verdict::kHeld) << results[0].reason;
  EXPECT_EQ(results[1].verdict, Verdict::kViolated) << results[1].reason;
  EXPECT_DOUBLE_EQ(*results[1].threshold_high, 0.04);
}

TEST(JudgeWindows, TakesTheWorstSecond) {
  RunBuilder run;
  run.requests("reads", 200, 0, 50, [](double when) {
    return Request{.latency = when >= 15 && when < 15.5 ? 0.8 : 0.02};
  });
  run.hypothesis("max(p99(reads.latency) each 1s) < 500ms during fault");
  const auto result = run.judge_one();
  EXPECT_EQ(result.verdict, Verdict::kViolated) << result.reason;
  EXPECT_NEAR(*result.observed, 0.8, 0.01);
  EXPECT_EQ(result.method, "exact");
  ASSERT_TRUE(result.first_violation);
  EXPECT_NEAR(base::to_seconds(*result.first_violation - at(16)), 0, 0.11);
}

// ---- Exact ones --------------------------------------------------------------------------------

TEST(JudgeGauge, EverySampleMustSatisfy) {
  RunBuilder run;
  run.gauge("stuck.value", 0.5, 0, 50, [](double when) { return when >= 14 && when < 16 ? 3 : 0; });
  run.hypothesis("stuck.value == 0 during fault");
  run.hypothesis("stuck.value == 0 during fault from 10s");
  run.hypothesis("max(stuck.value) <= 2 during fault");
  run.hypothesis("time(stuck.value > 0) < 3s during fault");
  run.hypothesis("time(stuck.value > 0) < 1s during fault");
  const auto results = run.judge().predictions;
  EXPECT_EQ(results[0].verdict, Verdict::kViolated);
  EXPECT_DOUBLE_EQ(*results[0].observed, 3);
  EXPECT_EQ(*results[0].first_violation, at(14));
  EXPECT_EQ(*results[0].returned, at(16));
  EXPECT_FALSE(results[0].interval_low);
  EXPECT_EQ(results[1].verdict, Verdict::kHeld);
  EXPECT_EQ(results[2].verdict, Verdict::kViolated);
  EXPECT_EQ(results[3].verdict, Verdict::kHeld);
  EXPECT_NEAR(*results[3].observed, 2, 1e-9);
  EXPECT_EQ(results[4].verdict, Verdict::kViolated);
  EXPECT_NEAR(base::to_seconds(*results[4].first_violation - at(15)), 0, 0.11);
}

TEST(JudgeCounter, AddsUp) {
  RunBuilder run;
  run.gauge(
      "log.matches", 0.5, 0, 50, [](double when) { return when == 20 ? 2 : 0; },
      evidence::SeriesKind::kCounter);
  run.hypothesis("count(log) <= 1 during fault");
  run.hypothesis("count(log.matches) == 0 during recovery");
  const auto results = run.judge().predictions;
  EXPECT_EQ(results[0].verdict, Verdict::kViolated) << results[0].reason;
  EXPECT_DOUBLE_EQ(*results[0].observed, 2);
  EXPECT_EQ(results[1].verdict, Verdict::kHeld) << results[1].reason;
}

TEST(JudgeWrites, LostMeansAcknowledgedAndNotFound) {
  RunBuilder run;
  run.requests("writes", 20, 0, 50, good).hypothesis("lost(writes) == 0 at end");
  run.write(1, 12, WriteFate::kAcknowledged).read_back(1, 1);
  run.write(2, 13, WriteFate::kUnknown).read_back(2, 0);
  run.write(3, 14, WriteFate::kRefused);
  EXPECT_EQ(run.judge_one().verdict, Verdict::kHeld) << run.judge_one().reason;
  run.write(4, 15, WriteFate::kAcknowledged);
  const auto unread = run.judge_one();
  EXPECT_EQ(unread.verdict, Verdict::kInconclusive) << unread.reason;
  EXPECT_DOUBLE_EQ(*unread.interval_high, 1);
  run.write(5, 16, WriteFate::kAcknowledged).read_back(5, 0);
  EXPECT_EQ(run.judge_one().verdict, Verdict::kViolated) << run.judge_one().reason;
}

TEST(JudgeWrites, DuplicatedMeansFoundTwice) {
  RunBuilder run;
  run.requests("writes", 20, 0, 50, good).hypothesis("duplicated(writes) == 0 at end");
  run.write(1, 12, WriteFate::kUnknown).read_back(1, 2);
  EXPECT_EQ(run.judge_one().verdict, Verdict::kViolated);
}

TEST(JudgeWrites, WithoutReadBackThereIsNoData) {
  RunBuilder run;
  run.requests("writes", 20, 0, 50, good).hypothesis("lost(writes) == 0 at end");
  run.write(1, 12, WriteFate::kAcknowledged);
  const auto result = run.judge_one();
  EXPECT_EQ(result.verdict, Verdict::kNoData);
  EXPECT_NE(result.reason.find("not read back"), std::string::npos) << result.reason;
}

// ---- Clauses -----------------------------------------------------------------------------------

TEST(JudgeWithin, AGaugeHoldsForItsTime) {
  RunBuilder run;
  run.gauge("stuck.value", 0.5, 0, 50, [](double when) { return when >= 12 && when < 37 ? 2 : 0; });
  run.hypothesis("stuck.value == 0 for 5s within 15s of revert");
  run.hypothesis("stuck.value == 0 for 5s within 11s of revert");
  run.hypothesis("stuck.value == 0 within 7s of revert outage");
  const auto results = run.judge().predictions;
  EXPECT_EQ(results[0].verdict, Verdict::kHeld) << results[0].reason;
  EXPECT_NE(results[0].reason.find("7s after the revert"), std::string::npos) << results[0].reason;
  EXPECT_EQ(*results[0].first_violation, at(12));
  EXPECT_EQ(*results[0].returned, at(37));
  EXPECT_EQ(results[1].verdict, Verdict::kViolated) << results[1].reason;
  EXPECT_EQ(results[2].verdict, Verdict::kHeld) << results[2].reason;
}

TEST(JudgeWithin, ARecordThatEndsBeforeTheLimitCannotTell) {
  RunBuilder run;
  run.gauge("stuck.value", 0.5, 0, 50, [](double when) { return when >= 12 ? 2 : 0; });
  const auto result = run.hypothesis("stuck.value == 0 for 5s within 60s of revert").judge_one();
  EXPECT_EQ(result.verdict, Verdict::kInconclusive) << result.reason;
}

TEST(JudgeWithin, SharesAreJudgedOverWindows) {
  RunBuilder run;
  run.requests("reads", 200, 0, 50, bad_between(10, 34));
  run.hypothesis("reads.success >= 99% for 5s within 15s of revert");
  run.hypothesis("reads.success >= 99% for 5s within 6s of revert");
  run.hypothesis("reads.success < 50% within 2s of inject");
  const auto results = run.judge().predictions;
  EXPECT_EQ(results[0].verdict, Verdict::kHeld) << results[0].reason;
  EXPECT_EQ(results[1].verdict, Verdict::kViolated) << results[1].reason;
  EXPECT_EQ(results[2].verdict, Verdict::kHeld) << results[2].reason;
  EXPECT_EQ(results[2].phase, "fault");
}

TEST(JudgeAtEnd, TakesTheLastSampleOfAGauge) {
  RunBuilder run;
  run.gauge("stuck.value", 0.5, 0, 50, [](double when) { return when > 45 ? 0 : 7; });
  EXPECT_EQ(run.hypothesis("stuck.value == 0 at end").judge_one().verdict, Verdict::kHeld);
}

TEST(JudgeSteadyState, IsAskedBeforeAndAfter) {
  RunBuilder run;
  run.requests("reads", 200, 0, 50, bad_between(12, 33)).steady_state("reads.success >= 98%", "up");
  run.hypothesis("reads.success < 99% during fault");
  const auto judgement = run.judge();
  ASSERT_EQ(judgement.predictions.size(), 3u);
  EXPECT_EQ(judgement.predictions[1].name, "up (baseline)");
  EXPECT_EQ(judgement.predictions[1].verdict, Verdict::kHeld);
  EXPECT_EQ(judgement.predictions[2].name, "up (recovery)");
  EXPECT_EQ(judgement.predictions[2].verdict, Verdict::kHeld) << judgement.predictions[2].reason;
  ASSERT_TRUE(judgement.time_to_recover);
  EXPECT_NEAR(base::to_seconds(*judgement.time_to_recover), 3, 0.11);
  ASSERT_TRUE(judgement.time_to_impact);
  EXPECT_NEAR(base::to_seconds(*judgement.time_to_impact), 2.05, 0.15);
  EXPECT_EQ(judgement.verdict, RunVerdict::kHeld);
}

TEST(JudgeSteadyState, ThatNeverComesBackIsViolated) {
  RunBuilder run;
  run.requests("reads", 200, 0, 50, bad_between(12, 99)).steady_state("reads.success >= 98%", "up");
  run.hypothesis("reads.success >= 98% during fault");
  const auto judgement = run.judge();
  EXPECT_EQ(judgement.predictions[2].verdict, Verdict::kViolated);
  EXPECT_FALSE(judgement.time_to_recover);
  EXPECT_EQ(judgement.verdict, RunVerdict::kRefuted);
  EXPECT_EQ(exit_status_of(judgement), 4);
}

TEST(JudgeSteadyState, ThatWasNeverLeftIsBackAtOnce) {
  RunBuilder run = healthy();
  run.steady_state("reads.success >= 98%", "up").steady_state("stuck.value == 0", "none");
  const auto judgement = run.judge();
  EXPECT_EQ(judgement.time_to_recover, base::Duration{});
  EXPECT_FALSE(judgement.time_to_impact);
}

// ---- What keeps a verdict from standing --------------------------------------------------------

TEST(JudgeDoubt, AFaultWithoutEffectIsNeverHeld) {
  RunBuilder run = healthy();
  run.without_effect();
  run.hypothesis("reads.success >= 99% during fault");
  run.hypothesis("stuck.value == 0 during outage");
  run.hypothesis("stuck.value == 0 for 5s within 15s of revert");
  run.hypothesis("stuck.value == 0 at end");
  run.hypothesis("stuck.value == 0 during recovery");
  run.hypothesis("stuck.value == 0 during baseline");
  const auto judgement = run.judge();
  EXPECT_FALSE(judgement.effect_proven);
  for (std::size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(judgement.predictions[i].verdict, Verdict::kInconclusive) << i;
    EXPECT_NE(judgement.predictions[i].reason.find("the fault touched nothing"), std::string::npos)
        << judgement.predictions[i].reason;
  }
  EXPECT_EQ(judgement.predictions[5].verdict, Verdict::kHeld);
  EXPECT_EQ(exit_status_of(judgement), 5);
}

TEST(JudgeDoubt, ALaggingGeneratorDecidesNothing) {
  RunBuilder run;
  run.requests("reads", 200, 0, 50,
               [](double when) { return Request{.lag = std::fmod(when, 1) < 0.05 ? 0.5 : 0.0}; });
  const auto result = run.hypothesis("reads.success >= 99% during fault").judge_one();
  EXPECT_EQ(result.verdict, Verdict::kInconclusive);
  EXPECT_NE(result.reason.find("lagged"), std::string::npos) << result.reason;
}

TEST(JudgeDoubt, DropsDecideNothingUnlessTheyCouldNotHaveHelped) {
  RunBuilder run;
  run.requests("reads", 200, 0, 50,
               [](double when) { return Request{.dropped = std::fmod(when, 1) < 0.05}; });
  const auto held = run.hypothesis("reads.success >= 99% during fault").judge_one();
  EXPECT_EQ(held.verdict, Verdict::kInconclusive);
  EXPECT_NE(held.reason.find("dropped 200 of 4,000"), std::string::npos) << held.reason;
  RunBuilder down;
  down.requests("reads", 200, 0, 50, [](double when) {
    if (when < 10 || when >= 30) return Request{};
    Request request = failing();
    request.dropped = std::fmod(when, 1) < 0.5;
    return request;
  });
  const auto violated = down.hypothesis("reads.success >= 99% during fault").judge_one();
  EXPECT_EQ(violated.verdict, Verdict::kViolated) << violated.reason;
}

TEST(JudgeDoubt, DropsWhileItIsStillBrokenDoNotSpoilTheRecovery) {
  RunBuilder run;
  run.requests("reads", 200, 0, 50, [](double when) {
    if (when < 12 || when >= 33) return Request{};
    Request request = failing();
    request.dropped = std::fmod(when, 1) < 0.3;
    return request;
  });
  run.hypothesis("reads.success >= 99% for 5s within 15s of revert");
  run.steady_state("reads.success >= 98%", "up");
  const auto results = run.judge().predictions;
  EXPECT_EQ(results[0].verdict, Verdict::kHeld) << results[0].reason;
  EXPECT_EQ(results[2].verdict, Verdict::kHeld) << results[2].reason;
}

TEST(JudgeDoubt, AnUnrelatedRestartIsNamed) {
  RunBuilder run = healthy();
  run.event(20, "member.restarted", "api", R"({"expected":false})");
  run.hypothesis("reads.success >= 99% during fault").hypothesis("stuck.value == 0 during fault");
  const auto judgement = run.judge();
  EXPECT_EQ(judgement.predictions[0].verdict, Verdict::kInconclusive);
  EXPECT_NE(judgement.predictions[0].reason.find("`api` restarted at 20.0s"), std::string::npos)
      << judgement.predictions[0].reason;
  EXPECT_EQ(judgement.predictions[1].verdict, Verdict::kHeld);
  EXPECT_EQ(judgement.notes.size(), 1u);
}

TEST(JudgeDoubt, OurOwnRestartIsNot) {
  RunBuilder run = healthy();
  run.event(20, "member.restarted", "api", R"({"expected":true})");
  EXPECT_EQ(run.hypothesis("reads.success >= 99% during fault").judge_one().verdict,
            Verdict::kHeld);
}

TEST(JudgeDoubt, ASilentProbeSawNothing) {
  RunBuilder run;
  run.gauge("stuck.value", 0.5, 0, 15, [](double) { return 0; });
  run.gauge("stuck.value", 0.5, 24, 50, [](double) { return 0; });
  const auto result = run.hypothesis("stuck.value == 0 during fault").judge_one();
  EXPECT_EQ(result.verdict, Verdict::kInconclusive);
  EXPECT_NE(result.reason.find("no sample for 9.5s"), std::string::npos) << result.reason;
}

TEST(JudgeDoubt, DamageCountsWhereItIs) {
  RunBuilder run = healthy();
  run.damaged(33, 34).hypothesis("reads.success >= 99% during fault from 3s");
  run.hypothesis("stuck.value == 0 during recovery").hypothesis("stuck.value > 0 during recovery");
  run.hypothesis("stuck.value == 0 during baseline");
  auto results = run.judge().predictions;
  EXPECT_EQ(results[0].verdict, Verdict::kInconclusive) << "a slow answer may be missing";
  EXPECT_EQ(results[1].verdict, Verdict::kInconclusive);
  EXPECT_NE(results[1].reason.find("damaged between 33.0s and 34.0s"), std::string::npos);
  EXPECT_EQ(results[2].verdict, Verdict::kViolated) << "what is on record stays violated";
  EXPECT_EQ(results[3].verdict, Verdict::kHeld);
  RunBuilder early = healthy();
  early.damaged(2, 3).hypothesis("reads.success >= 99% during fault");
  early.hypothesis("p99(reads.latency) < 2 * baseline(p99(reads.latency)) during fault");
  results = early.judge().predictions;
  EXPECT_EQ(results[0].verdict, Verdict::kHeld) << results[0].reason;
  EXPECT_EQ(results[1].verdict, Verdict::kInconclusive) << results[1].reason;
}

TEST(JudgeDoubt, AMissingSignalIsNoData) {
  RunBuilder run;
  run.requests("reads", 200, 0, 50, good).hypothesis("stuck.value == 0 during fault");
  const auto result = run.judge_one();
  EXPECT_EQ(result.verdict, Verdict::kNoData);
  EXPECT_NE(result.reason.find("stuck.value"), std::string::npos);
}

TEST(JudgeDoubt, AnAbortedFaultPhaseIsNotHeldButMayBeViolated) {
  RunBuilder run;
  run.requests("reads", 200, 0, 20, bad_between(12, 14));
  run.gauge("stuck.value", 0.5, 0, 20, [](double) { return 0; });
  run.fault_ends(14).run_ends(20, "aborted");
  run.hypothesis("reads.success >= 99% during fault").hypothesis("stuck.value == 0 during fault");
  const auto judgement = run.judge();
  EXPECT_EQ(judgement.predictions[0].verdict, Verdict::kViolated)
      << judgement.predictions[0].reason;
  EXPECT_EQ(judgement.predictions[1].verdict, Verdict::kInconclusive);
  EXPECT_EQ(judgement.outcome, model::Outcome::kAborted);
  EXPECT_EQ(exit_status_of(judgement), 6);
}

// ---- The run -----------------------------------------------------------------------------------

TEST(JudgeRun, ADeadEngineLeavesAnErroredRunThatIsJudged) {
  RunBuilder run;
  run.requests("reads", 200, 0, 20, good).fault_ends(30).run_ends(20).dies();
  run.event(20, "note");
  run.hypothesis("reads.success >= 99% during baseline");
  const auto judgement = run.judge();
  EXPECT_EQ(judgement.outcome, model::Outcome::kErrored);
  EXPECT_NE(judgement.outcome_reason.find("died in the fault phase"), std::string::npos)
      << judgement.outcome_reason;
  EXPECT_EQ(judgement.predictions[0].verdict, Verdict::kHeld) << judgement.predictions[0].reason;
  EXPECT_FALSE(judgement.reverts_verified);
  EXPECT_EQ(exit_status_of(judgement), 8);
}

TEST(JudgeRun, ARevertThatWasNotVerifiedOutranksAll) {
  RunBuilder run = healthy();
  run.without_verification().hypothesis("reads.success >= 99% during fault");
  const auto judgement = run.judge();
  EXPECT_FALSE(judgement.reverts_verified);
  EXPECT_EQ(exit_status_of(judgement), 8);
}

TEST(JudgeRun, VerdictsAddUp) {
  const auto verdict = [](std::vector<const char*> predictions) {
    RunBuilder run = healthy();
    run.steady_state("reads.success >= 98%", "up");
    for (const char* text : predictions) run.hypothesis(text);
    return run.judge().verdict;
  };
  const char* held = "reads.success >= 99% during fault";
  const char* violated = "reads.success < 99% during fault";
  const char* open = "reads.success >= 99.95% during fault";
  EXPECT_EQ(verdict({held}), RunVerdict::kHeld);
  EXPECT_EQ(verdict({violated}), RunVerdict::kRefuted);
  EXPECT_EQ(verdict({held, violated, open}), RunVerdict::kMixed);
  EXPECT_EQ(verdict({open, violated}), RunVerdict::kRefuted);
  EXPECT_EQ(verdict({held, open}), RunVerdict::kInconclusive);
}

TEST(JudgeRun, ExitStatusHasItsPrecedence) {
  Judgement judgement;
  judgement.outcome = model::Outcome::kCompleted;
  EXPECT_EQ(exit_status_of(judgement), 5);  // nothing was judged
  judgement.predictions.emplace_back().verdict = Verdict::kHeld;
  EXPECT_EQ(exit_status_of(judgement), 0);
  judgement.predictions.emplace_back().verdict = Verdict::kNoData;
  EXPECT_EQ(exit_status_of(judgement), 5);
  judgement.predictions.emplace_back().verdict = Verdict::kViolated;
  EXPECT_EQ(exit_status_of(judgement), 4);
  judgement.outcome = model::Outcome::kBlocked;
  EXPECT_EQ(exit_status_of(judgement), 3);
  judgement.outcome = model::Outcome::kAborted;
  EXPECT_EQ(exit_status_of(judgement), 6);
  judgement.outcome = model::Outcome::kStopped;
  EXPECT_EQ(exit_status_of(judgement), 7);
  judgement.outcome = model::Outcome::kErrored;
  EXPECT_EQ(exit_status_of(judgement), 1);
  judgement.reverts_verified = false;
  EXPECT_EQ(exit_status_of(judgement), 8);
}

TEST(JudgeRun, AJudgementSurvivesJson) {
  RunBuilder run;
  run.requests("reads", 200, 0, 50, bad_between(12, 14)).steady_state("reads.success >= 98%", "up");
  run.hypothesis("p99(reads.latency) < 2 * baseline(p99(reads.latency)) during fault");
  const Judgement before = run.judge();
  const auto after = judgement_from_json(to_json(before));
  ASSERT_TRUE(after.ok()) << after.error().to_string();
  EXPECT_EQ(to_json(*after), to_json(before));
  EXPECT_FALSE(judgement_from_json(base::Json{{"predictions", 3}}).ok());
}

TEST(JudgeRun, NeedsOnlyWhatItReads) {
  RunBuilder run;
  run.hypothesis("p99(reads.latency where reads.status == 200) < 1s during fault");
  run.steady_state("stuck.value == 0");
  const auto needs = [&](const char* name, evidence::SeriesKind kind) {
    return needs_series(run.map(), run.experiment(), {name, kind, "", ""});
  };
  EXPECT_TRUE(needs("reads", evidence::SeriesKind::kRequests));
  EXPECT_TRUE(needs("reads where reads.status == 200", evidence::SeriesKind::kRequests));
  EXPECT_TRUE(needs("stuck.value", evidence::SeriesKind::kGauge));
  EXPECT_FALSE(needs("stuck.other", evidence::SeriesKind::kGauge));
  EXPECT_FALSE(needs("api.memory", evidence::SeriesKind::kGauge));
  EXPECT_FALSE(needs("writes", evidence::SeriesKind::kRequests));
}

}  // namespace
}  // namespace squall::judge
