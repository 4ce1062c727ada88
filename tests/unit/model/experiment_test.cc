#include "model/experiment.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "unit/model/vocabulary_for_test.h"

namespace squall::model {
namespace {

using namespace std::chrono_literals;
using testing::experiment_mistakes;
using testing::orchestrator_map;
using testing::parse_good_experiment;
using testing::parse_good_map;

constexpr std::string_view kGood = R"(experiment: worker-dies-mid-task
scenario: One of three workers is killed while it holds a task.
hypothesis:
  no-visible-errors: reads.success >= 99.5% during fault
  reads-stay-fast:   p99(reads.latency) < 2 * baseline(p99(reads.latency)) during fault
  tasks-recover:     stuck.value == 0 for 5s within 30s of revert
  nothing-is-lost:   lost(writes) == 0 at end
  point-estimate:    { predict: mean(reads.latency) < 50ms during outage, confidence: none }
faults:
  - process.kill: { service: worker, count: 1, signal: SIGKILL, restore: await }
    name: outage
    at: 5s
    for: 20s
blast_radius: { services: [worker], processes: 1, duration: 30s }
abort_when: [ reads.success < 90% over 2s ]
phases: { baseline: 15s, recovery: 40s }
)";

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}
#define EXPECT_CONTAINS(text, part) EXPECT_TRUE(contains(text, part)) << (text)

// kGood with the first occurrence of `from` replaced.
std::string changed(std::string_view from, std::string_view to) {
  std::string text(kGood);
  std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(Experiment, ReadsTheExampleOfTheDesign) {
  Experiment experiment = parse_good_experiment(kGood);
  EXPECT_EQ(experiment.name, "worker-dies-mid-task");
  EXPECT_EQ(experiment.scenario, "One of three workers is killed while it holds a task.");
  ASSERT_EQ(experiment.hypothesis.size(), 5u);
  EXPECT_EQ(experiment.hypothesis[3].name, "nothing-is-lost");
  EXPECT_EQ(experiment.hypothesis[3].location.line, 7);
  EXPECT_EQ(experiment.hypothesis[3].location.column, 22);
  EXPECT_EQ(experiment.hypothesis[3].confidence, Confidence::kInterval);
  EXPECT_EQ(experiment.hypothesis[4].confidence, Confidence::kNone);
  ASSERT_EQ(experiment.faults.size(), 1u);
  const FaultSpecification& fault = experiment.faults[0];
  EXPECT_EQ(fault.name, "outage");
  EXPECT_EQ(fault.kind->name, "process.kill");
  EXPECT_EQ(fault.at, 5s);
  EXPECT_EQ(fault.duration, 20s);
  EXPECT_EQ(fault.parameters.text("service"), "worker");
  EXPECT_EQ(fault.parameters.integer("count"), 1);
  EXPECT_EQ(experiment.blast_radius.services, std::vector<std::string>{"worker"});
  EXPECT_EQ(experiment.blast_radius.processes, 1);
  EXPECT_EQ(experiment.blast_radius.duration, 30s);
  ASSERT_EQ(experiment.abort_when.size(), 1u);
  EXPECT_EQ(experiment.abort_when[0].name, "abort-1");
  EXPECT_EQ(experiment.phases.baseline, 15s);
  EXPECT_EQ(experiment.phases.recovery, 40s);
}

TEST(Experiment, DefaultsAreThoseOfTheDesign) {
  Experiment experiment =
      parse_good_experiment(changed("phases: { baseline: 15s, recovery: 40s }\n", ""));
  EXPECT_EQ(experiment.phases.baseline, 60s);
  EXPECT_EQ(experiment.phases.recovery, 120s);
  EXPECT_EQ(experiment.seed, 0u);
  EXPECT_EQ(experiment.lag_limit, 100ms);
  EXPECT_DOUBLE_EQ(experiment.drop_limit, 0.001);
}

TEST(Experiment, AFaultWithoutNameIsCalledByItsKind) {
  std::string text = changed("    name: outage\n    at: 5s\n", "");
  text.replace(text.find("during outage"), 13, "during process-kill-1");
  Experiment experiment = parse_good_experiment(text);
  EXPECT_EQ(experiment.faults[0].name, "process-kill-1");
  EXPECT_EQ(experiment.faults[0].at, 0s);
}

TEST(Experiment, ReadsTheOptionalKeys) {
  Experiment experiment = parse_good_experiment(
      std::string(kGood) +
      "seed: 7\nowner: no\ntags: [a, 1.10]\nload_limits: { lag: 1s, drops: 1% }\n");
  EXPECT_EQ(experiment.seed, 7u);
  EXPECT_EQ(experiment.owner, "no");
  EXPECT_EQ(experiment.tags, (std::vector<std::string>{"a", "1.10"}));
  EXPECT_EQ(experiment.lag_limit, 1s);
  EXPECT_DOUBLE_EQ(experiment.drop_limit, 0.01);
}

TEST(Experiment, WhatIsRequiredIsEnforced) {
  std::string text = experiment_mistakes("experiment: x\n");
  for (const char* key : {"scenario", "hypothesis", "faults", "blast_radius", "abort_when"}) {
    EXPECT_CONTAINS(text, "the experiment has no `" + std::string(key) + "`");
  }
  text = experiment_mistakes(
      "experiment: x\nscenario: ' '\nhypothesis: {}\nfaults: []\nblast_radius: {}\nabort_when: "
      "[]\n");
  for (const char* expected : {"`scenario` is an empty text", "`hypothesis` has no prediction",
                               "`faults` is an empty list", "`blast_radius` has no `services`",
                               "`blast_radius` has no `duration`", "`abort_when` has no rule"}) {
    EXPECT_CONTAINS(text, expected);
  }
}

TEST(Experiment, AMisspeltKeyIsShownWithItsLine) {
  EXPECT_EQ(experiment_mistakes(changed("abort_when:", "abort_wen:")),
            "/srv/shop/worker-dies.yaml:1:1: error: the experiment has no `abort_when`\n"
            "  1 | experiment: worker-dies-mid-task\n"
            "    | ^\n"
            "  hint: say when to stop at once: `[ reads.success < 90% over 2s ]`\n"
            "/srv/shop/worker-dies.yaml:15:1: error: unknown key `abort_wen` in the experiment\n"
            "  15 | abort_wen: [ reads.success < 90% over 2s ]\n"
            "     | ^~~~~~~~~\n"
            "  hint: did you mean `abort_when`?\n");
}

TEST(Experiment, MistakesOfThePredictionLanguagePointIntoTheFile) {
  std::string text = experiment_mistakes(changed("stuck.value == 0 for", "stuk.value == 0 for"));
  EXPECT_CONTAINS(text, "worker-dies.yaml:6:22: error:");
  EXPECT_CONTAINS(text, "stuck");
  text = experiment_mistakes(
      changed("reads.success >= 99.5% during fault", "'reads.success >= 99.5ms during fault'"));
  EXPECT_CONTAINS(text, "worker-dies.yaml:4:");
}

TEST(Experiment, AThresholdAndAPhaseAreRequiredOfAPrediction) {
  EXPECT_CONTAINS(experiment_mistakes(changed(" during fault", "")), ":4:");
  EXPECT_CONTAINS(experiment_mistakes(changed(" >= 99.5% during", " during")), ":4:");
}

TEST(Experiment, AnUnquotedQuoteOrBraceIsExplained) {
  std::string text = experiment_mistakes(changed(
      "[ reads.success < 90% over 2s ]", "[ share(reads.header[\"X\"] exists) < 90% over 2s ]"));
  EXPECT_CONTAINS(text, "quoted whole, with single quotes outside");
  text = experiment_mistakes(
      changed("stuck.value == 0 for 5s within 30s of revert", "{stuck.value == 0}"));
  EXPECT_CONTAINS(text, "prediction `tasks-recover` is a map");
  EXPECT_CONTAINS(text, "quote the whole prediction in single quotes");
  EXPECT_EQ(experiment_mistakes(changed("[ reads.success < 90% over 2s ]",
                                        "[ 'share(reads.header[\"X\"] exists) < 90% over 2s' ]")),
            "");
}

TEST(Experiment, APredictionCutByACommentIsExplained) {
  EXPECT_CONTAINS(experiment_mistakes(changed("reads.success >= 99.5% during fault",
                                              "share(reads.json[\"$.a\"] == \"x #1\") > 1% during "
                                              "fault")),
                  "` #` starts a comment");
}

TEST(Experiment, KindsAndParametersAreChecked) {
  std::string text = experiment_mistakes(changed("process.kill", "proces.kill"));
  EXPECT_CONTAINS(text, ":10:5: error: unknown key or fault kind `proces.kill`");
  EXPECT_CONTAINS(text, "did you mean `process.kill`?");
  text = experiment_mistakes(
      changed("{ service: worker, count: 1, signal: SIGKILL, restore: await }",
              "{ service: workr, count: 0, signal: SIGKIL, restore: never, member: x, cont: 2 }"));
  for (const char* expected :
       {"`service` of fault `outage` names `workr`", "did you mean `worker`?",
        "`count` of fault `outage` is `0`; at least 1 is allowed", "did you mean `SIGKILL`?",
        "write one of start, await and none", "unknown key `cont`", "did you mean `count`?"}) {
    EXPECT_CONTAINS(text, expected);
  }
}

TEST(Experiment, MembersAreThoseOfTheServiceBesideThem) {
  std::string radius = changed("services: [worker]", "services: [db]");
  auto with = [&](std::string_view parameters) {
    std::string text = radius;
    std::string_view old = "{ service: worker, count: 1, signal: SIGKILL, restore: await }";
    return text.replace(text.find(old), old.size(), parameters);
  };
  EXPECT_EQ(experiment_mistakes(with("{ service: db, member: primary }")), "");
  EXPECT_EQ(experiment_mistakes(with("{ service: db, member: replica }")), "");
  EXPECT_CONTAINS(experiment_mistakes(with("{ service: db, member: primry }")),
                  "did you mean `primary`?");
  EXPECT_EQ(experiment_mistakes(changed("count: 1,", "member: worker-12,")), "");
  EXPECT_CONTAINS(experiment_mistakes(changed("count: 1,", "member: worker-13,")),
                  "service `worker` has no member `worker-13`");
}

TEST(Experiment, FaultsStayWithinTheBlastRadius) {
  EXPECT_CONTAINS(experiment_mistakes(changed("services: [worker]", "services: [api]")),
                  ":10:30: error: fault `outage` touches `worker`, which is outside the blast");
  EXPECT_CONTAINS(experiment_mistakes(changed("count: 1", "count: 2")),
                  "touches 2 processes, and the blast radius allows 1");
  EXPECT_CONTAINS(experiment_mistakes(changed("duration: 30s", "duration: 10s")),
                  "the faults last 20s together, and the blast radius allows 10s");
  EXPECT_CONTAINS(experiment_mistakes(changed("for: 20s", "for: 6min")),
                  "fault `outage` lasts 6min, and the longest allowed is 5min");
  EXPECT_CONTAINS(experiment_mistakes(changed("processes: 1", "processes: 3")),
                  "`processes` is 3, and the system map allows 2");
}

TEST(Experiment, TargetsAreHereAndCanBeFound) {
  EXPECT_CONTAINS(
      experiment_mistakes(changed("{ service: worker, count: 1", "{ service: users, count: 1")),
      "fault `outage` is aimed at `users`, which is external");
  EXPECT_CONTAINS(
      experiment_mistakes(changed("{ service: worker, count: 1", "{ service: mailer, count: 1")),
      "the system map does not say how to find it");
}

TEST(Experiment, LoadFromOutsideMayBeDelayed) {
  std::string text =
      changed("process.kill: { service: worker, count: 1, signal: SIGKILL, restore: await }",
              "network.latency: { from: users, to: api, delay: 100ms, share: 5 % }");
  text.replace(text.find("services: [worker]"), 18, "services: [api]");
  Experiment experiment = parse_good_experiment(text);
  EXPECT_DOUBLE_EQ(experiment.faults[0].parameters.number("share"), 0.05);
  EXPECT_EQ(experiment.faults[0].parameters.size("limit"), 1u << 20);
  EXPECT_DOUBLE_EQ(experiment.faults[0].parameters.number("factor"), 1.0);
  EXPECT_FALSE(experiment.faults[0].parameters.has("pace"));
}

TEST(Experiment, CommandsAreListsAndNotShellText) {
  std::string_view kill =
      "process.kill: { service: worker, count: 1, signal: SIGKILL, restore: await }";
  EXPECT_CONTAINS(experiment_mistakes(changed(kill, "command: { argv: rm -rf x, revert: [true] }")),
                  "nothing is run by a shell");
  Experiment experiment =
      parse_good_experiment(changed(kill, "command: { argv: [stop, no, 010], revert: [start] }"));
  EXPECT_EQ(experiment.faults[0].parameters.texts("argv"),
            (std::vector<std::string>{"stop", "no", "010"}));
  EXPECT_EQ(experiment.faults[0].parameters.texts("proof"), std::vector<std::string>{"true"});
}

TEST(Experiment, ImpossiblePhasesAreMistakes) {
  EXPECT_CONTAINS(experiment_mistakes(changed("during outage", "during outrage")), "outage");
  EXPECT_CONTAINS(experiment_mistakes(changed("within 30s of revert", "within 41s of revert")),
                  "observation ends 40s after that moment");
  EXPECT_CONTAINS(experiment_mistakes(changed("99.5% during fault", "99.5% during fault from 25s")),
                  "the faults last 25s");
  EXPECT_CONTAINS(experiment_mistakes(changed("during outage", "during outage from 20s")),
                  "fault `outage` lasts 20s");
  EXPECT_EQ(experiment_mistakes(changed("during outage", "during outage from 19s")), "");
  EXPECT_EQ(experiment_mistakes(changed("within 30s of revert", "within 60s of inject")), "");
  EXPECT_CONTAINS(experiment_mistakes(changed("within 30s of revert", "within 61s of inject")),
                  "write `within 1min`");
}

TEST(Experiment, OverlappingFaultsAreALintAndNoError) {
  std::string text = changed("blast_radius:",
                             "  - process.kill: { service: worker }\n    at: 10s\n    for: 5s\n"
                             "blast_radius:");
  SystemMap map = parse_good_map(orchestrator_map());
  Diagnostics diagnostics;
  Experiment experiment =
      parse_experiment(text, "x.yaml", map, testing::test_vocabulary(), diagnostics);
  EXPECT_FALSE(diagnostics.has_errors()) << diagnostics.render();
  ASSERT_EQ(diagnostics.all().size(), 1u);
  EXPECT_EQ(diagnostics.all()[0].severity, Severity::kWarning);
  EXPECT_CONTAINS(diagnostics.all()[0].message, "faults `outage` and `process-kill-2` overlap");
}

TEST(Experiment, AFaultMayShareItsTargetsWhenItSaysSo) {
  SystemMap map = parse_good_map(orchestrator_map());
  Diagnostics diagnostics;
  Experiment experiment =
      parse_experiment(changed("name: outage", "name: outage\n    overlap: true"), "x.yaml", map,
                       testing::test_vocabulary(), diagnostics);
  EXPECT_FALSE(diagnostics.has_errors()) << diagnostics.render();
  ASSERT_FALSE(experiment.faults.empty());
  EXPECT_TRUE(experiment.faults[0].overlap);
  EXPECT_CONTAINS(experiment_mistakes(changed("name: outage", "name: outage\n    overlap: yes")),
                  "`overlap` of fault `outage`");
  EXPECT_CONTAINS(experiment_mistakes(changed("name: outage", "name: outage\n    overlaps: true")),
                  "did you mean `overlap`?");
}

TEST(Experiment, FaultNamesAreDistinctAndNotReserved) {
  EXPECT_CONTAINS(experiment_mistakes(changed("name: outage", "name: recovery")),
                  "a fault cannot be called `recovery`");
  EXPECT_CONTAINS(
      experiment_mistakes(changed("blast_radius:",
                                  "  - process.kill: { service: worker }\n    name: outage\n"
                                  "    at: 25s\n    for: 5s\nblast_radius:")),
      "two faults are called `outage`");
}

TEST(Experiment, AFaultSaysHowLongItLasts) {
  EXPECT_CONTAINS(experiment_mistakes(changed("    for: 20s\n", "")),
                  "fault `outage` has no `for`");
  EXPECT_CONTAINS(experiment_mistakes(changed("for: 20s", "for: 20")), "has no unit");
  EXPECT_CONTAINS(experiment_mistakes(changed("for: 20s", "for: 0s")), "is not above zero");
}

TEST(SignalTable, HasTheSignalsOfProbesAndOfServicesThatRunHere) {
  SystemMap map = parse_good_map(orchestrator_map());
  SignalTable table = signal_table(map, {"outage"});
  auto dimension = [&](const char* source, const char* field) {
    const SignalTable::Entry* entry = table.find(source, field);
    return entry == nullptr ? -1 : static_cast<int>(entry->dimension);
  };
  EXPECT_EQ(dimension("reads", "latency"), static_cast<int>(base::Dimension::kDuration));
  EXPECT_EQ(dimension("stuck", "value"), static_cast<int>(base::Dimension::kNumber));
  EXPECT_EQ(dimension("worker", "memory"), static_cast<int>(base::Dimension::kSize));
  EXPECT_EQ(dimension("worker", "cpu"), static_cast<int>(base::Dimension::kNumber));
  EXPECT_EQ(dimension("users", "cpu"), -1);
  EXPECT_EQ(table.sequenced_probes, std::vector<std::string>{"writes"});
  EXPECT_EQ(table.fault_names, std::vector<std::string>{"outage"});
}

}  // namespace
}  // namespace squall::model
