#include "safety/check.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace squall::safety {
namespace {

// A situation in which everything is well, for tests to spoil in one place.
class CheckTest : public ::testing::Test {
 protected:
  CheckTest() {
    plan_.environment = "dev";
    plan_.production = false;
    plan_.blast_radius.services = {"worker"};
    plan_.blast_radius.processes = 1;
    model::PlannedFault fault;
    fault.name = "outage";
    fault.kind = "process.kill";
    fault.services = {"worker"};
    fault.processes_max = 1;
    fault.mechanisms = {"pidfd"};
    plan_.faults = {fault};
    model::FaultBinding bound;
    bound.fault = "outage";
    bound.kind = "process.kill";
    bound.mechanism = "pidfd";
    bound.targets = {{"worker", "worker-1", {4242, 99}, "orchestrator-worker pid 4242"}};
    binding_.faults = {bound};
    situation_.plan = &plan_;
    situation_.binding = &binding_;
    situation_.other_leases = std::vector<OtherLease>{};
    situation_.kill_switch = std::optional<Engaged>{};
    situation_.probes = {{"reads", std::nullopt}};
    situation_.rehearsals = {{"outage", std::nullopt, "killed and restarted a child of ours"}};
    situation_.free_bytes = std::uint64_t{1} << 30;
    situation_.needed_bytes = 1 << 20;
  }

  CheckResult result(std::string_view name, Stage stage = Stage::kBeforeBaseline) const {
    for (const CheckResult& each : run_checks(situation_, stage)) {
      if (each.name == name) return each;
    }
    ADD_FAILURE() << "no check " << name;
    return {};
  }

  model::Plan plan_;
  model::Binding binding_;
  Situation situation_;
};

TEST_F(CheckTest, AWellSituationPasses) {
  for (const CheckResult& each : run_checks(situation_, Stage::kBeforeBaseline)) {
    EXPECT_EQ(each.answer, Answer::kPass) << each.name << ": " << each.reason;
  }
}

TEST_F(CheckTest, AnEmptySituationBlocksEveryCheckThatNeedsToKnow) {
  Situation unknown;
  unknown.plan = &plan_;
  const auto results = run_checks(unknown, Stage::kBeforeBaseline);
  EXPECT_FALSE(all_pass(results));
  for (const CheckResult& each : results) {
    if (each.answer == Answer::kPass) continue;
    EXPECT_FALSE(each.reason.empty()) << each.name;
    EXPECT_FALSE(each.remedy.empty()) << each.name;
  }
}

TEST_F(CheckTest, ProductionIsRefused) {
  plan_.production = true;
  EXPECT_EQ(result("environment").answer, Answer::kBlock);
  EXPECT_NE(result("environment").remedy.find("--env"), std::string::npos);
}

TEST_F(CheckTest, TooManyProcessesAreRefused) {
  binding_.faults[0].targets.push_back(binding_.faults[0].targets[0]);
  binding_.faults[0].targets[1].process.pid = 4243;
  EXPECT_EQ(result("binding").answer, Answer::kBlock);
}

TEST_F(CheckTest, AHeldTargetIsRefusedAndNamesTheRun) {
  situation_.other_leases =
      std::vector<OtherLease>{{"0190-run", "other", "pause", {"something else"}, {{4242, 99}}}};
  const CheckResult overlap = result("overlap");
  EXPECT_EQ(overlap.answer, Answer::kBlock);
  EXPECT_NE(overlap.reason.find("0190-run"), std::string::npos);
  EXPECT_NE(overlap.remedy.find("squall stop 0190-run"), std::string::npos);
}

TEST_F(CheckTest, AHeldTargetIsSharedWhenBothPlansSaySo) {
  OtherLease other{"0190-run", "other", "pause", {"x"}, {{4242, 99}}};
  other.overlap = true;
  situation_.other_leases = std::vector<OtherLease>{other};
  EXPECT_EQ(result("overlap").answer, Answer::kBlock);
  EXPECT_NE(result("overlap").reason.find("this plan does not say `overlap: true`"),
            std::string::npos)
      << result("overlap").reason;
  binding_.faults[0].overlap = true;
  EXPECT_EQ(result("overlap").answer, Answer::kPass);
  other.overlap = false;
  situation_.other_leases = std::vector<OtherLease>{other};
  EXPECT_NE(result("overlap").reason.find("the other plan does not say"), std::string::npos);
}

TEST_F(CheckTest, ThePidOfAnEarlierProcessIsNotAnOverlap) {
  situation_.other_leases =
      std::vector<OtherLease>{{"0190-run", "other", "pause", {"x"}, {{4242, 98}}}};
  EXPECT_EQ(result("overlap").answer, Answer::kPass);
}

TEST_F(CheckTest, TheKillSwitchBlocksAndSaysWho) {
  situation_.kill_switch = std::optional<Engaged>{Engaged{"ada", "incident 7", "09:00"}};
  EXPECT_EQ(result("kill-switch").answer, Answer::kBlock);
  EXPECT_NE(result("kill-switch").reason.find("ada"), std::string::npos);
}

TEST_F(CheckTest, AnUnreachableProbeBlocksWithItsOwnRemedy) {
  situation_.probes[0].error = base::Error{.code = base::ErrorCode::kUnavailable,
                                           .message = "connection refused",
                                           .hint = "start the API",
                                           .context = {}};
  EXPECT_EQ(result("probes").answer, Answer::kBlock);
  EXPECT_EQ(result("probes").remedy, "start the API");
}

TEST_F(CheckTest, AFullDiskBlocks) {
  situation_.free_bytes = std::uint64_t{1000};
  EXPECT_EQ(result("evidence-room").answer, Answer::kBlock);
}

TEST_F(CheckTest, SteadyStateMustHoldInTheBaseline) {
  judge::Judgement baseline;
  judge::PredictionResult up;
  up.name = "up";
  up.steady_state = true;
  up.phase = "baseline";
  up.verdict = model::Verdict::kHeld;
  baseline.predictions = {up};
  situation_.baseline = baseline;
  EXPECT_EQ(result("steady-state", Stage::kAfterBaseline).answer, Answer::kPass);
  situation_.baseline->predictions[0].verdict = model::Verdict::kInconclusive;
  EXPECT_EQ(result("steady-state", Stage::kAfterBaseline).answer, Answer::kCannotTell);
  situation_.baseline->predictions[0].verdict = model::Verdict::kViolated;
  EXPECT_EQ(result("steady-state", Stage::kAfterBaseline).answer, Answer::kBlock);
  situation_.signals_without_data = {"stuck.value"};
  EXPECT_EQ(result("signals", Stage::kAfterBaseline).answer, Answer::kBlock);
}

}  // namespace
}  // namespace squall::safety
