// Nothing outlives its experiment: the engine killed in every phase, the terminal closed, a person
// stopping, two runs on one target.

#include <gtest/gtest.h>

#include <csignal>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "support/small_system/small_system.h"

namespace squall::end_to_end {
namespace {

testing::AssertionResult is_clean(const SmallSystem& system) {
  std::string output;
  const bool clean = wait_until([&] {
    output = system.squall({"status", "--json"}).output;
    auto json = base::parse_json(output);
    if (!json.ok()) return false;
    for (const base::Json& lease : json->at("leases")) {
      if (lease.at("experiment") == "worker-gone") return false;
    }
    return true;
  });
  return clean ? testing::AssertionSuccess() : testing::AssertionFailure() << output;
}

class Killed : public testing::TestWithParam<const char*> {};

TEST_P(Killed, LeavesNothingBehindAndARecordThatCanBeJudged) {
  const SmallSystem system;
  system.write_pause_experiment("  no-errors: reads.success >= 95% during fault");
  base::ChildProcess engine =
      system.start_squall({"run", "experiment.yaml", "--env", "dev", "--plain"});
  ASSERT_TRUE(system.log_says(GetParam())) << system.contents("squall.log");
  ASSERT_TRUE(engine.pidfd().signal(SIGKILL).ok());
  ASSERT_TRUE(engine.wait(std::chrono::seconds(5)).ok());

  EXPECT_TRUE(wait_until([&] { return system.worker_is_running(); }))
      << "the worker is in state " << system.worker_state();
  EXPECT_TRUE(is_clean(system));
  // The run is judged on what is there, and is never shown as running.
  EXPECT_EQ(system.squall({"reindex"}).exit_status, 0);
  const Finished list = system.squall({"list", "--json"});
  auto json = base::parse_json(list.output);
  ASSERT_TRUE(json.ok()) << list.output << list.error;
  ASSERT_EQ(json->size(), 1u);
  EXPECT_EQ((*json)[0].at("outcome"), "errored");
  EXPECT_EQ(system.squall({"show", "last"}).exit_status, 0);
}

INSTANTIATE_TEST_SUITE_P(InEveryPhase, Killed,
                         testing::Values("run ", "phase baseline", "phase fault", "outage: armed",
                                         "outage: reverting", "phase recovery"));

TEST(Interrupted, TheFirstSignalRevertsAndJudges) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    const SmallSystem system;
    system.write_pause_experiment("  no-errors: reads.success >= 95% during fault");
    base::ChildProcess engine =
        system.start_squall({"run", "experiment.yaml", "--env", "dev", "--plain"});
    ASSERT_TRUE(system.log_says("outage: armed")) << system.contents("squall.log");
    ASSERT_TRUE(engine.pidfd().signal(signal).ok());
    auto status = engine.wait(std::chrono::seconds(30));
    ASSERT_TRUE(status.ok()) << system.contents("squall.log");
    EXPECT_EQ(WEXITSTATUS(*status), 7) << system.contents("squall.log");
    EXPECT_TRUE(system.worker_is_running());
    EXPECT_TRUE(is_clean(system));
  }
}

TEST(Stopped, FromAnotherTerminal) {
  const SmallSystem system;
  system.write_pause_experiment("  no-errors: reads.success >= 95% during fault");
  base::ChildProcess engine =
      system.start_squall({"run", "experiment.yaml", "--env", "dev", "--plain"});
  ASSERT_TRUE(system.log_says("outage: armed")) << system.contents("squall.log");
  const std::string log = system.contents("squall.log");
  const std::size_t at = log.find("run ");
  const std::string run = log.substr(at + 4, 36);
  const Finished stop = system.squall({"stop", run, "--reason", "a test"});
  EXPECT_EQ(stop.exit_status, 0) << stop.error;
  EXPECT_TRUE(system.worker_is_running());
  auto status = engine.wait(std::chrono::seconds(30));
  ASSERT_TRUE(status.ok());
  EXPECT_EQ(WEXITSTATUS(*status), 7) << system.contents("squall.log");
}

TEST(TwoRuns, OnTheSameTargetTheSecondIsRefused) {
  const SmallSystem system;
  system.write_pause_experiment("  no-errors: reads.success >= 95% during fault");
  base::ChildProcess first =
      system.start_squall({"run", "experiment.yaml", "--env", "dev", "--plain"});
  ASSERT_TRUE(system.log_says("outage: armed")) << system.contents("squall.log");
  const Finished second = system.squall({"run", "experiment.yaml", "--env", "dev", "--plain"});
  EXPECT_EQ(second.exit_status, 3) << second.output << second.error;
  EXPECT_NE(second.error.find("is held by"), std::string::npos) << second.error;
  auto status = first.wait(std::chrono::seconds(60));
  ASSERT_TRUE(status.ok());
  EXPECT_EQ(WEXITSTATUS(*status), 0) << system.contents("squall.log");
}

TEST(TargetGone, BetweenBindAndArmIsAnErrorNotAHeldHypothesis) {
  const SmallSystem system;
  system.write_pause_experiment("  no-errors: reads.success >= 95% during fault");
  base::ChildProcess engine =
      system.start_squall({"run", "experiment.yaml", "--env", "dev", "--plain"});
  ASSERT_TRUE(system.log_says("phase baseline")) << system.contents("squall.log");
  auto worker = base::PidFd::open(system.worker_pid());
  ASSERT_TRUE(worker.ok());
  ASSERT_TRUE(worker->signal(SIGKILL).ok());
  auto status = engine.wait(std::chrono::seconds(60));
  ASSERT_TRUE(status.ok());
  EXPECT_EQ(WEXITSTATUS(*status), 1) << system.contents("squall.log");
}

}  // namespace
}  // namespace squall::end_to_end
