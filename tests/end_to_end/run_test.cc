// A whole run on a small real system, and what can be done with it afterwards.

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/json.h"
#include "support/small_system/small_system.h"

namespace squall::end_to_end {
namespace {

base::Json json_of(const Finished& finished) {
  auto json = base::parse_json(finished.output);
  if (!json.ok()) {
    ADD_FAILURE() << json.error().to_string() << "\n" << finished.output << finished.error;
    return base::Json::object();
  }
  return std::move(json).value();
}

std::string verdict_of(const base::Json& report, std::string_view prediction) {
  for (const base::Json& each : report.at("predictions")) {
    if (each.at("name") == prediction) return each.at("verdict").get<std::string>();
  }
  return "absent";
}

// One line a prediction, for the messages of failures.
std::string predictions_of(const base::Json& report) {
  std::string lines;
  for (const base::Json& each : report.at("predictions")) {
    lines += each.at("name").get<std::string>() + ": " + each.at("verdict").get<std::string>() +
             ": " + each.at("reason").get<std::string>() + "\n";
  }
  return lines;
}

TEST(Run, EveryPredictionHoldsWhenTheSystemDoesNotCare) {
  const SmallSystem system;
  system.write_kill_experiment(
      "  no-errors: reads.success >= 95% during fault\n"
      "  fast: p90(reads.latency) < 250ms during fault");
  const Finished run =
      system.squall({"run", "experiment.yaml", "--env", "dev", "--json", "--quiet"});
  const base::Json report = json_of(run);
  EXPECT_EQ(run.exit_status, 0) << predictions_of(report) << run.error;
  EXPECT_EQ(verdict_of(report, "no-errors"), "held");
  EXPECT_EQ(verdict_of(report, "fast"), "held");
  EXPECT_EQ(report.at("verdict"), "held");
  EXPECT_EQ(report.at("outcome"), "completed");
  EXPECT_TRUE(system.worker_is_running()) << "the killed worker was not started again";
}

TEST(Run, PredictionsAreJudgedEachOnItsOwn) {
  SmallSystem::Behaviour behaviour;
  behaviour.down_failures = 0.4;
  const SmallSystem system(behaviour);
  system.write_kill_experiment(
      "  no-errors: reads.success >= 95% during fault\n"
      "  fast: p90(reads.latency) < 250ms during fault\n"
      "  recovers: reads.success >= 90% for 1s within 3s of revert");
  const Finished run =
      system.squall({"run", "experiment.yaml", "--env", "dev", "--json", "--quiet"});
  const base::Json report = json_of(run);
  EXPECT_EQ(run.exit_status, 4) << predictions_of(report) << run.error;
  EXPECT_EQ(verdict_of(report, "no-errors"), "violated");
  EXPECT_EQ(verdict_of(report, "fast"), "held");
  EXPECT_EQ(verdict_of(report, "recovers"), "held");
  EXPECT_EQ(report.at("verdict"), "mixed");
}

TEST(Run, AnAbortRuleRevertsAtOnce) {
  SmallSystem::Behaviour behaviour;
  behaviour.down_failures = 1;
  const SmallSystem system(behaviour);
  system.write_pause_experiment("  no-errors: reads.success >= 95% during fault");
  const Finished run = system.squall({"run", "experiment.yaml", "--env", "dev", "--plain"});
  EXPECT_EQ(run.exit_status, 6) << run.output << run.error;
  EXPECT_NE(run.error.find("abort"), std::string::npos) << run.error;
  EXPECT_TRUE(system.worker_is_running());
}

TEST(Run, ASickSystemIsNotDisturbed) {
  const SmallSystem system;
  system.write_kill_experiment("  no-errors: reads.success >= 95% during fault");
  std::string map;
  {
    std::ifstream file(system.path("squall.yaml"));
    std::stringstream text;
    text << file.rdbuf();
    map = text.str();
  }
  const std::string healthy = "up: reads.success >= 95%";
  map.replace(map.find(healthy), healthy.size(), "slow: p50(reads.latency) > 900ms");
  system.write("squall.yaml", map);
  const pid_t worker = system.worker_pid();
  const Finished run = system.squall({"run", "experiment.yaml", "--env", "dev"});
  EXPECT_EQ(run.exit_status, 3) << run.output << run.error;
  EXPECT_EQ(system.worker_pid(), worker);
}

TEST(Run, ProductionIsRefused) {
  const SmallSystem system;
  system.write_kill_experiment("  no-errors: reads.success >= 95% during fault");
  const pid_t worker = system.worker_pid();
  const Finished run = system.squall({"run", "experiment.yaml"});
  EXPECT_EQ(run.exit_status, 3) << run.output << run.error;
  EXPECT_NE((run.output + run.error).find("production"), std::string::npos);
  EXPECT_EQ(system.worker_pid(), worker);
}

TEST(Run, ARunCanBeListedShownExplainedReportedExportedAndImported) {
  SmallSystem::Behaviour behaviour;
  behaviour.down_failures = 0.4;
  const SmallSystem system(behaviour);
  system.write_kill_experiment("  no-errors: reads.success >= 95% during fault");
  ASSERT_EQ(system.squall({"run", "experiment.yaml", "--env", "dev"}).exit_status, 4);

  const base::Json list = json_of(system.squall({"list", "--json"}));
  ASSERT_EQ(list.size(), 1u);
  EXPECT_EQ(list[0].at("experiment"), "worker-gone");
  EXPECT_EQ(system.squall({"show", "last"}).exit_status, 0);
  const Finished explained = system.squall({"explain", "last", "no-errors"});
  EXPECT_EQ(explained.exit_status, 0);
  EXPECT_NE(explained.output.find("95%"), std::string::npos) << explained.output;

  ASSERT_EQ(system.squall({"report", "last", "--output", "report.html"}).exit_status, 0);
  std::ifstream html(system.path("report.html"));
  std::stringstream page;
  page << html.rdbuf();
  EXPECT_NE(page.str().find("<svg"), std::string::npos);
  EXPECT_EQ(page.str().find("src=\"http"), std::string::npos) << "the report must open offline";
  const Finished junit = system.squall({"report", "last", "--format", "junit"});
  EXPECT_NE(junit.output.find("<failure"), std::string::npos) << junit.output;

  ASSERT_EQ(system.squall({"export", "last", "--output", "moved.record"}).exit_status, 0);
  std::filesystem::remove_all(system.path(".squall"));
  ASSERT_EQ(system.squall({"import", "moved.record"}).exit_status, 0);
  EXPECT_EQ(json_of(system.squall({"list", "--json"})).size(), 1u);
  std::filesystem::remove(system.path(".squall/index.db"));
  EXPECT_EQ(system.squall({"reindex"}).exit_status, 0);
  EXPECT_EQ(json_of(system.squall({"list", "--json"})).size(), 1u);
}

TEST(Run, ADifferenceNamesWhatWasFixed) {
  SmallSystem::Behaviour behaviour;
  behaviour.down_failures = 0.4;
  const SmallSystem naive(behaviour);
  naive.write_kill_experiment("  no-errors: reads.success >= 95% during fault");
  ASSERT_EQ(naive.squall({"run", "experiment.yaml", "--env", "dev"}).exit_status, 4);
  ASSERT_EQ(naive.squall({"export", "last", "--output", "naive.record"}).exit_status, 0);
  const SmallSystem hardened;
  hardened.write_kill_experiment("  no-errors: reads.success >= 95% during fault");
  ASSERT_EQ(hardened.squall({"run", "experiment.yaml", "--env", "dev"}).exit_status, 0);
  const Finished difference = hardened.squall({"diff", naive.path("naive.record"), "last"});
  EXPECT_EQ(difference.exit_status, 0) << difference.error;
  EXPECT_NE(difference.output.find("fixed"), std::string::npos) << difference.output;
}

}  // namespace
}  // namespace squall::end_to_end
