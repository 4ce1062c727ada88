#pragma once
// A run made in memory, for tests of whatever reads records: a worker dies under load, latency
// jumps, tasks are stuck until after the revert. Seeded: the same on every machine.

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "base/random.h"
#include "evidence/record.h"
#include "judge/judgement.h"
#include "model/experiment.h"
#include "model/plan.h"
#include "model/prediction_language.h"
#include "report/report.h"

namespace squall::test {

inline base::Instant moment(double seconds_from_start) {
  return base::Instant(std::chrono::seconds(1000)) +
         base::Duration(static_cast<std::int64_t>(seconds_from_start * 1e9));
}

inline constexpr double kFaultBegin = 15.02;
inline constexpr double kFaultEnd = 35.0;
inline constexpr double kRunEnd = 60;

struct SyntheticRun {
  evidence::Record record;
  judge::Judgement judgement;
  model::Plan plan;
  model::Binding binding;
  model::SystemMap map;
  model::Experiment experiment;

  report::RunView view() const {
    return {.record = record,
            .judgement = judgement,
            .plan = &plan,
            .binding = &binding,
            .experiment = &experiment,
            .map = &map};
  }
};

namespace synthetic {

inline evidence::Series requests(const std::string& name, int per_bucket, double error_share,
                                 std::uint64_t seed) {
  base::Random random(seed);
  evidence::Series series;
  series.declaration = {name, evidence::SeriesKind::kRequests, "", name};
  for (int bucket = 2; bucket < static_cast<int>(kRunEnd * 10); ++bucket) {
    evidence::RequestBucket each;
    const double at = bucket / 10.0;
    each.start = moment(at);
    const bool slow = at >= kFaultBegin && at < kFaultBegin + 6;
    for (int i = 0; i < per_bucket; ++i) {
      const double seconds = 0.002 + random.exponential(slow ? 0.06 : 0.004);
      const bool failed = slow && random.uniform() < error_share;
      ++each.outcomes[static_cast<std::size_t>(failed ? evidence::Outcome::kStatus
                                                      : evidence::Outcome::kOk)];
      const base::Duration took(static_cast<std::int64_t>(seconds * 1e9));
      const base::Duration lag(static_cast<std::int64_t>(random.exponential(40e3)));
      each.response_time.add(took);
      each.service_time.add(took - lag);
      each.lag.add(lag);
    }
    series.buckets.push_back(std::move(each));
  }
  return series;
}

inline evidence::Series stuck() {
  evidence::Series series;
  series.declaration = {"stuck.value", evidence::SeriesKind::kGauge, "", "stuck"};
  for (int i = 0; i < static_cast<int>(kRunEnd * 2); ++i) {
    const double at = i / 2.0 + 0.1;
    const double value = at < 16 ? 0 : at < 30 ? 2 : at < 48 ? 3 : 0;
    series.samples.push_back({moment(at), value});
  }
  return series;
}

inline evidence::Series writes() {
  evidence::Series series = requests("writes", 2, 0, 3);
  for (std::uint64_t i = 0; i < 1000; ++i) {
    series.writes.push_back(
        {i, moment(0.2 + 0.05 * static_cast<double>(i)), evidence::WriteFate::kAcknowledged});
    series.read_backs.push_back({i, true, 1});
  }
  return series;
}

inline std::vector<evidence::Event> events() {
  const auto event = [](double at, std::string type, std::string subject, std::string text) {
    return evidence::Event{moment(at), std::move(type), std::move(subject), std::move(text), {}};
  };
  return {event(0, "run.started", "", "The run starts."),
          event(0.1, "check.finished", "kill-switch", "The kill switch is off."),
          event(0.2, "phase.started", "baseline", "Observing until the steady state holds."),
          event(15, "phase.started", "fault", "The faults begin."),
          event(15, "fault.arming", "outage", "Killing one of three workers."),
          event(15.01, "fault.armed", "outage", "Worker 4242 was sent SIGKILL."),
          event(kFaultBegin, "fault.effective", "outage", "Worker 4242 is gone."),
          event(15.03, "member.gone", "worker", "orchestrator-worker pid 4242 ended (SIGKILL)."),
          event(17.4, "log.line", "api", "queue: consumer <worker-2> & its lease expired"),
          event(kFaultEnd, "fault.reverting", "outage", "Awaiting the supervisor's restart."),
          event(35.3, "member.restarted", "worker", "orchestrator-worker pid 4311 started."),
          event(35.4, "fault.reverted", "outage", "Three workers run again."),
          event(35.5, "fault.verified", "outage", "Three of three members were found."),
          event(35.5, "phase.started", "recovery", "Observing until the steady state is back."),
          event(kRunEnd, "run.finished", "", "The run is over.")};
}

inline model::SignalTable signals() {
  model::SignalTable table;
  using model::SignalType;
  table.entries = {{"reads", "latency", SignalType::kRequests, base::Dimension::kDuration},
                   {"reads", "success", SignalType::kRequests, base::Dimension::kShare},
                   {"reads", "status", SignalType::kRequests, base::Dimension::kNumber},
                   {"writes", "latency", SignalType::kRequests, base::Dimension::kDuration},
                   {"writes", "success", SignalType::kRequests, base::Dimension::kShare},
                   {"stuck", "value", SignalType::kGauge, base::Dimension::kNumber}};
  table.fault_names = {"outage"};
  table.sequenced_probes = {"writes"};
  return table;
}

inline model::Prediction prediction(const std::string& name, const std::string& text,
                                    model::ClauseRule rule) {
  auto parsed = model::parse_prediction(name, text, signals(), rule);
  for (const auto& error : parsed.errors) ADD_FAILURE() << text << ": " << error.message;
  return parsed.prediction ? *std::move(parsed.prediction) : model::Prediction{};
}

inline evidence::Record record() {
  evidence::Record::Content content;
  auto& header = content.header;
  header.run = *base::RunId::parse("01929b4e-7c00-7000-8000-0123456789ab");
  header.squall_version = "0.1.0";
  header.wall_start = base::WallTime(std::chrono::seconds(1'795'000'000));
  header.boot_start = moment(0);
  header.experiment_name = "worker-dies-mid-task";
  header.experiment_file = "worker-dies.yaml";
  header.experiment_text = "experiment: worker-dies-mid-task\n";
  header.system_map_file = "squall.yaml";
  header.system_map_text = "system: orchestrator\n";
  header.environment = "dev";
  header.plan_hash = "3f2a90c1d4e5b6a798877665544332211000ffeeddccbbaa9988776655443322";
  content.events = events();
  content.series = {requests("reads", 20, 0.003, 7), stuck(), writes()};
  content.documents["preflight"] =
      base::Json::array(
          {{{"name", "kill-switch"}, {"result", "pass"}, {"reason", "It is off."}, {"remedy", ""}},
           {{"name", "steady-state"},
            {"result", "pass"},
            {"reason", "It holds now."},
            {"remedy", ""}}})
          .dump();
  content.documents["environment"] =
      base::Json({{"processors", 2}, {"memory", "16GiB"}, {"load", {0.4, 0.3, 0.2}}}).dump();
  content.documents["proofs"] =
      base::Json({{"outage",
                   {{"effect", "pid 4242 ended with SIGKILL 12ms after the signal"},
                    {"revert", "3 of 3 members of worker were found at 35.5s"}}}})
          .dump();
  return evidence::Record::make(std::move(content));
}

inline model::Plan plan() {
  model::Plan plan;
  plan.experiment = "worker-dies-mid-task";
  plan.system = "orchestrator";
  plan.scenario = "One of three workers is killed while it holds a task.";
  plan.environment = "dev";
  plan.production = false;
  plan.seed = 42;
  model::PlannedFault fault;
  fault.name = "outage";
  fault.kind = "process.kill";
  fault.target = "one member of service worker, chosen by seed";
  fault.services = {"worker"};
  fault.processes_max = 1;
  fault.duration = std::chrono::seconds(20);
  fault.changes = {{"send SIGKILL to one process of worker",
                    "wait until the supervisor has started it again",
                    model::LifetimeClass::kOneWay}};
  fault.mechanisms = {"pidfd_send_signal"};
  plan.faults = {fault};
  plan.abort_when = {"reads.success < 90% over 2s"};
  plan.blast_radius = {{"services"}, 1, std::chrono::seconds(30)};
  plan.blast_radius.services = {"worker"};
  plan.phases = {std::chrono::seconds(15), std::chrono::seconds(40)};
  plan.decidability = {{"no-visible-errors", true, 4000, 768, "Wilson interval, 95 %",
                        "200/s for 20 s gives 4,000 samples; 99.5 % needs 768 clean ones"}};
  return plan;
}

inline model::Binding binding() {
  model::Binding binding;
  binding.hostname = "build-7";
  binding.kernel = "6.1.0-28-amd64";
  model::FaultBinding fault;
  fault.fault = "outage";
  fault.kind = "process.kill";
  fault.mechanism = "pidfd_send_signal";
  fault.targets = {{"worker", "worker-2", {4242, 99}, "orchestrator-worker pid 4242"}};
  binding.faults = {fault};
  return binding;
}

}  // namespace synthetic

// The verdicts are given by hand, so that tests of reports do not depend on the judge's wording.
inline judge::Judgement synthetic_judgement() {
  using model::Verdict;
  judge::PredictionResult errors;
  errors.name = "no-visible-errors";
  errors.text = "reads.success >= 99.5% during fault";
  errors.phase = "fault";
  errors.verdict = Verdict::kHeld;
  errors.reason = "reads.success was 99.95% [99.8%, 99.98%], and all of that is >= 99.5%.";
  errors.method = "Wilson interval, 95 %";
  errors.dimension = base::Dimension::kShare;
  errors.observed = 0.9995;
  errors.interval_low = 0.998;
  errors.interval_high = 0.9998;
  errors.threshold = 0.995;
  errors.samples = 4000;
  errors.effective_samples = 3100;
  errors.explanation = {"reads.success during fault",
                        "99.95% [99.8%, 99.98%]",
                        "4,000 requests of `reads`, 15s to 35s",
                        {}};

  judge::PredictionResult fast;
  fast.name = "reads-stay-fast";
  fast.text = "p99(reads.latency) < 2 * baseline(p99(reads.latency)) during fault";
  fast.phase = "fault";
  fast.verdict = Verdict::kViolated;
  fast.reason = "p99(reads.latency) was 212ms [185ms, 240ms], and none of that is < 41ms.";
  fast.method = "order statistics, 95 %";
  fast.dimension = base::Dimension::kDuration;
  fast.observed = 0.212;
  fast.interval_low = 0.185;
  fast.interval_high = 0.240;
  fast.threshold = 0.041;
  fast.samples = 4000;
  fast.effective_samples = 900;
  fast.first_violation = moment(15.9);
  fast.returned = moment(21.1);
  fast.explanation = {fast.text,
                      "false",
                      "",
                      {{"p99(reads.latency) during fault",
                        "212ms [185ms, 240ms]",
                        "4,000 requests of `reads`, 15s to 35s",
                        {}},
                       {"2 * baseline(p99(reads.latency))",
                        "41ms [38ms, 44ms]",
                        "",
                        {{"baseline(p99(reads.latency))",
                          "20.5ms",
                          "2,960 requests of `reads`, 0.2s to 15s",
                          {}}}}}};

  judge::PredictionResult recover;
  recover.name = "tasks-recover";
  recover.text = "stuck.value == 0 for 5s within 10s of revert";
  recover.phase = "recovery";
  recover.verdict = Verdict::kViolated;
  recover.reason = "stuck.value was never 0 for 5s within 10s of the revert; it was 3.";
  recover.method = "exact";
  recover.observed = 3;
  recover.threshold = 0;
  recover.samples = 20;
  recover.first_violation = moment(16.1);
  recover.returned = moment(48.1);

  judge::PredictionResult lost;
  lost.name = "nothing-is-lost";
  lost.text = "lost(writes) == 0 at end";
  lost.phase = "end";
  lost.verdict = Verdict::kHeld;
  lost.reason = "lost(writes) was 0.";
  lost.method = "exact";
  lost.observed = 0;
  lost.threshold = 0;
  lost.samples = 1000;

  judge::PredictionResult tail;
  tail.name = "tail-stays-bounded";
  tail.text = "p99.9(reads.latency) < 500ms during fault";
  tail.phase = "fault";
  tail.verdict = Verdict::kInconclusive;
  tail.reason = "p99.9(reads.latency) was 430ms [350ms, 560ms]: 500ms lies within.";
  tail.method = "order statistics, 95 %";
  tail.dimension = base::Dimension::kDuration;
  tail.observed = 0.43;
  tail.interval_low = 0.35;
  tail.interval_high = 0.56;
  tail.threshold = 0.5;
  tail.samples = 4000;

  judge::PredictionResult refusals;
  refusals.name = "few-refusals";
  refusals.text = "count(reads where reads.status == 503) < 10 during fault";
  refusals.phase = "fault";
  refusals.verdict = Verdict::kNoData;
  refusals.reason = "The record has no series `reads where reads.status == 503`.";

  judge::PredictionResult up_before;
  up_before.name = "up (baseline)";
  up_before.text = "reads.success >= 99%";
  up_before.steady_state = true;
  up_before.phase = "baseline";
  up_before.verdict = Verdict::kHeld;
  up_before.reason = "reads.success was 100% [99.9%, 100%], and all of that is >= 99%.";
  up_before.method = "Wilson interval, 95 %";
  up_before.dimension = base::Dimension::kShare;
  up_before.observed = 1;
  up_before.interval_low = 0.999;
  up_before.interval_high = 1;
  up_before.threshold = 0.99;
  up_before.samples = 2960;
  judge::PredictionResult up_after = up_before;
  up_after.name = "up (recovery)";
  up_after.phase = "recovery";
  up_after.returned = moment(35.0);

  judge::Judgement judgement;
  judgement.predictions = {errors, fast, recover, lost, tail, refusals, up_before, up_after};
  judgement.verdict = model::RunVerdict::kMixed;
  judgement.outcome = model::Outcome::kCompleted;
  judgement.time_to_impact = base::Duration(std::chrono::milliseconds(880));
  judgement.time_to_recover = base::Duration(std::chrono::milliseconds(13'100));
  judgement.notes = {"orchestrator-api restarted at 52s without our doing."};
  return judgement;
}

inline SyntheticRun synthetic_run() {
  using synthetic::prediction;
  SyntheticRun run{.record = synthetic::record(),
                   .judgement = synthetic_judgement(),
                   .plan = synthetic::plan(),
                   .binding = synthetic::binding(),
                   .map = {},
                   .experiment = {}};
  run.map.name = "orchestrator";
  run.experiment.name = "worker-dies-mid-task";
  run.experiment.scenario = run.plan.scenario;
  for (const auto& result : run.judgement.predictions) {
    if (result.steady_state) {
      if (run.map.steady_state.empty())
        run.map.steady_state.push_back(
            prediction("up", result.text, model::ClauseRule::kSteadyState));
    } else {
      run.experiment.hypothesis.push_back(
          prediction(result.name, result.text, model::ClauseRule::kHypothesis));
    }
  }
  return run;
}

}  // namespace squall::test
