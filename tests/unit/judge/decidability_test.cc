#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "judge/judge.h"
#include "run_builder.h"

namespace squall::judge {
namespace {

using testing::predict;

class Decidability : public ::testing::Test {
 protected:
  Decidability() {
    auto& reads = map_.probes.emplace_back();
    reads.name = "reads";
    reads.parameters =
        model::Parameters(base::Json{{"rate", base::Json{{"shape", "constant"}, {"rate", 200.0}}}});
    auto& stuck = map_.probes.emplace_back();
    stuck.name = "stuck";
    stuck.parameters = model::Parameters(base::Json{{"every", 500'000'000}});
    experiment_.phases = {std::chrono::seconds(15), std::chrono::seconds(40)};
    auto& fault = experiment_.faults.emplace_back();
    fault.name = "outage";
    fault.at = std::chrono::seconds(5);
    fault.duration = std::chrono::seconds(20);
  }
  model::Decidability ask(std::string_view text) {
    return decidability(predict(text), map_, experiment_);
  }
  void set_load(base::Json load) {
    map_.probes[0].parameters = model::Parameters(base::Json{{"rate", std::move(load)}});
  }
  model::SystemMap map_;
  model::Experiment experiment_;
};

TEST_F(Decidability, OfAShareFollowsWilson) {
  const auto thin = ask("reads.success >= 99.95% during fault");
  EXPECT_FALSE(thin.decidable);
  EXPECT_EQ(thin.samples_planned, 4000u);
  EXPECT_EQ(thin.samples_needed, 7680u);
  EXPECT_EQ(thin.message,
            "200/s for 20s gives 4,000 samples; 99.95% needs 7,700 clean ones: lengthen the fault "
            "to 40s or accept inconclusive");
  const auto enough = ask("reads.success >= 99.5% during fault");
  EXPECT_TRUE(enough.decidable);
  EXPECT_EQ(enough.method, "Wilson interval, 95 %");
  EXPECT_EQ(ask("share(reads.status == 503) <= 0.05% during fault").samples_needed, 7680u);
}

TEST_F(Decidability, TheBorderIsWhereTheJudgeHasIt) {
  // One sample less than needed is inconclusive, as many as needed held.
  for (const std::size_t more : {0u, 1u}) {
    testing::RunBuilder run;
    const auto needed =
        static_cast<double>(ask("reads.success >= 99% during fault").samples_needed);
    run.requests("reads", (needed - 1 + static_cast<double>(more)) / 20, 10, 30, testing::good);
    run.hypothesis("reads.success >= 99% during fault");
    EXPECT_EQ(run.judge_one().verdict,
              more == 1 ? model::Verdict::kHeld : model::Verdict::kInconclusive)
        << run.judge_one().reason;
  }
}

TEST_F(Decidability, OfAQuantileNeedsAnUpperOrderStatistic) {
  const auto p99 = ask("p99(reads.latency) < 250ms during fault");
  EXPECT_TRUE(p99.decidable);
  EXPECT_GE(p99.samples_needed, 367u);
  const auto p999 = ask("p99.9(reads.latency) < 250ms during fault from 10s");
  EXPECT_FALSE(p999.decidable);
  EXPECT_NE(p999.message.find("upper bound"), std::string::npos) << p999.message;
}

TEST_F(Decidability, OfABaselineComparisonIsThatOfThePoorerSide) {
  experiment_.phases.baseline = std::chrono::seconds(1);
  const auto result = ask("p99(reads.latency) < 2 * baseline(p99(reads.latency)) during fault");
  EXPECT_FALSE(result.decidable);
  EXPECT_EQ(result.samples_planned, 200u);
  EXPECT_NE(result.message.find("lengthen the baseline"), std::string::npos) << result.message;
}

TEST_F(Decidability, OfExactOnesNeedsOneSample) {
  const auto result = ask("stuck.value == 0 for 5s within 30s of revert");
  EXPECT_TRUE(result.decidable);
  EXPECT_EQ(result.method, "exact");
  EXPECT_EQ(result.samples_planned, 10u);
  EXPECT_TRUE(ask("lost(writes) == 0 at end").decidable);
  EXPECT_TRUE(ask("reads.success >= 100% during fault").decidable);
}

TEST_F(Decidability, KnowsLoadProfiles) {
  set_load({{"shape", "ramp"}, {"from", 0.0}, {"to", 200.0}, {"over", 30'000'000'000}});
  // 15 s to 35 s after the start: climbing to 200/s at 30 s.
  EXPECT_EQ(ask("reads.success >= 99% during fault").samples_planned, 3250u);
  set_load({{"shape", "step"},
            {"steps", {{{"rate", 10.0}, {"for", 20'000'000'000}}, {{"rate", 100.0}, {"for", 0}}}}});
  EXPECT_EQ(ask("reads.success >= 99% during fault").samples_planned, 1550u);
}

TEST_F(Decidability, SurvivesPredictionsAboutUnknownProbes) {
  EXPECT_TRUE(ask("count(log.matches) == 0 during fault").decidable);
}

}  // namespace
}  // namespace squall::judge
