// One run, written as the list of its phases (DESIGN section 4). Between each two stands what is
// certain there.

#include "engine/run.h"

#include <fmt/format.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/version.h"
#include "engine/archive.h"
#include "engine/planner.h"
#include "engine/session.h"
#include "engine/situation.h"
#include "host/host.h"
#include "judge/judge.h"

namespace squall::engine {

namespace {

// Longest wait for reverts that were called, before they are reported as not verified.
constexpr base::Duration kRevertLimit = std::chrono::seconds(120);

// A system that looks well right after the revert may not stay so; nobody is told before this.
constexpr base::Duration kShortestRecovery = std::chrono::seconds(5);
constexpr int kAgreeingLooks = 3;  // a second apart

base::Json environment_document(const model::Plan& plan, const model::Binding& binding) {
  return {{"environment", plan.environment},
          {"hostname", binding.hostname},
          {"kernel", binding.kernel},
          {"user", static_cast<int>(geteuid())},
          {"squall", std::string(base::kVersion)}};
}

std::vector<const model::Prediction*> predictions_of(const model::SystemMap& map,
                                                     const model::Experiment& experiment) {
  std::vector<const model::Prediction*> all;
  for (const auto* list :
       {&experiment.hypothesis, &map.steady_state, &experiment.abort_when, &map.abort_when}) {
    for (const model::Prediction& prediction : *list) all.push_back(&prediction);
  }
  return all;
}

// Services that the faults touch, and everybody who depends on them.
std::vector<std::string> watched_services(const model::SystemMap& map, const model::Plan& plan) {
  std::vector<std::string> watched;
  const auto add = [&](const std::string& name) {
    const model::Service* service = map.service(name);
    if (service == nullptr || service->external) return;
    if (std::find(watched.begin(), watched.end(), name) == watched.end()) watched.push_back(name);
  };
  for (const model::PlannedFault& fault : plan.faults) {
    for (const std::string& service : fault.services) {
      add(service);
      for (const std::string& dependent : map.dependents_of(service)) add(dependent);
    }
  }
  return watched;
}

base::Result<std::unique_ptr<evidence::RecordWriter>> create_record(const RunOptions& options,
                                                                    const model::Plan& plan,
                                                                    const base::RunId& run) {
  const Workspace workspace(options.map.map.directory);
  SQUALL_TRY(workspace.create());
  evidence::RecordHeader header;
  header.run = run;
  header.squall_version = base::kVersion;
  header.wall_start = base::real_clock().wall_now();
  header.boot_start = base::real_clock().now();
  header.experiment_name = plan.experiment;
  header.experiment_text = options.experiment.text;
  header.experiment_file = options.experiment.path;
  header.system_map_text = options.map.text;
  header.system_map_file = options.map.path;
  header.environment = plan.environment;
  header.plan = base::canonical_json(model::to_json(plan));
  header.plan_hash = model::plan_hash(plan);
  return evidence::RecordWriter::create(
      workspace.record_path(run.text()), header,
      record_size_estimate(options.map.map, options.experiment.experiment));
}

// Tells the record and whoever watches what the checks said; any that did not pass ends the run.
void conclude(Session& session, std::string_view document,
              const std::vector<safety::CheckResult>& results) {
  session.document(document, safety::to_json(results));
  session.parts().progress.checked(results);
  for (const safety::CheckResult& result : results) {
    const std::string text = fmt::format("{}: {}", safety::to_string(result.answer), result.reason);
    session.record("check.finished", result.name, text);
    if (result.answer == safety::Answer::kPass) continue;
    session.end(model::Outcome::kBlocked, fmt::format("{}: {}", result.name, result.reason));
  }
}

// Starts the holder, binds, gathers the situation and asks the checks.
void preflight(Session& session, const model::Plan& plan, BoundPlan& bound) {
  session.record("run.phase", "preflight", "binding the plan and checking whether it may run");
  bound = bind_plan(plan, session.map(), session.experiment(), host::real_host(),
                    session.parts().inject_state_directory);
  session.document("binding", model::to_json(bound.binding));
  session.document("environment", environment_document(plan, bound.binding));
  session.parts().progress.bound(bound.binding);

  inject::HolderOptions holder_options;
  holder_options.run = session.parts().run.text();
  holder_options.experiment = plan.experiment;
  holder_options.reason = plan.scenario;
  holder_options.system_directory = session.map().directory;
  holder_options.state_directory = session.parts().inject_state_directory;
  std::optional<base::Error> holder_error;
  if (auto holder = inject::HolderClient::start(holder_options); holder.ok()) {
    session.set_holder(std::move(holder).value());
  } else {
    holder_error = std::move(holder).error();
  }
  const Workspace workspace(session.map().directory);
  const safety::Situation situation = gather_situation(
      {plan, bound, session.observer(), session.holder(), holder_error, workspace.directory(),
       record_size_estimate(session.map(), session.experiment()),
       session.parts().inject_state_directory});
  const auto results = safety::run_checks(situation, safety::Stage::kBeforeBaseline);
  conclude(session, "preflight", results);
}

// Observes until the steady state is established, or refuses. A baseline too short to decide, or in
// which a slow probe has not answered, is lengthened, to twice its length at most.
void baseline(Session& session) {
  const base::Duration planned = session.experiment().phases.baseline;
  session.begin_phase("baseline", planned);
  const base::Instant start = session.now();
  std::vector<safety::CheckResult> results;
  for (const base::Duration length : {planned, planned + planned / 2, planned * 2}) {
    if (session.wait_until(start + length) == Wake::kEnded) return;
    safety::Situation situation;
    situation.plan = &session.parts().plan;
    const auto record = session.read_so_far();
    if (record.ok()) {
      const judge::Question question{*record, session.map(), session.experiment()};
      situation.baseline = judge::judge(question);
      situation.signals_without_data = judge::signals_without_data(question);
    }
    results = safety::run_checks(situation, safety::Stage::kAfterBaseline);
    const bool undecided = std::any_of(results.begin(), results.end(), [](const auto& result) {
      return result.answer == safety::Answer::kCannotTell;
    });
    if (!undecided && situation.signals_without_data.empty()) break;
  }
  conclude(session, "preflight_after_baseline", results);
}

// Arms each fault at its time; the holder ends each at its deadline. Returns when all were called
// back, by deadline, abort rule or person.
void fault_phase(Session& session, const model::Binding& binding) {
  session.begin_phase("fault", session.experiment().blast_radius.duration);
  session.watch_abort_rules();
  const base::Instant start = session.now();
  std::vector<std::size_t> order(binding.faults.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  const auto& specifications = session.experiment().faults;
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return specifications[a].at < specifications[b].at;
  });
  base::Instant last = start;
  for (const std::size_t index : order) {
    const model::FaultSpecification& fault = specifications[index];
    if (session.wait_until(start + fault.at) == Wake::kEnded || session.ending()) break;
    if (const auto armed = session.arm(binding.faults[index], fault.duration); !armed.ok()) {
      session.revert_all("another fault failed");
      session.end(model::Outcome::kErrored, armed.error().to_string());
      break;
    }
    last = std::max(last, session.now() + fault.duration);
  }
  // The holder keeps the deadlines; a little grace covers its event on the way to us.
  const auto none_active = [&] { return !session.any_active(); };
  if (session.wait_until(last + std::chrono::seconds(2), none_active) == Wake::kDeadline) {
    session.record("note", {}, "a fault was still active at its deadline; asked again to revert");
    session.revert_all("deadline");
  }
  session.wait_until(session.now() + kRevertLimit, none_active);
  session.unwatch_abort_rules();
}

// Has every prediction about the recovery been decided, so that waiting on would show nothing new?
bool recovery_decided(const judge::Judgement& judgement, const model::Experiment& experiment) {
  for (const model::Prediction& prediction : experiment.hypothesis) {
    if (const auto* during = std::get_if<model::DuringClause>(&prediction.when);
        during != nullptr && during->phase == model::PhaseKind::kRecovery &&
        during->fault_name.empty()) {
      return false;
    }
  }
  bool asked = false;
  for (const judge::PredictionResult& result : judgement.predictions) {
    if (result.phase != "recovery") continue;
    asked = true;
    if (result.verdict != model::Verdict::kHeld) return false;
  }
  return asked;
}

// Observes until the steady state is back and every prediction about the recovery is decided, at
// most for the recovery limit. A run that somebody stopped does not wait. One look is not enough:
// who stops at the first moment at which an interval clears its threshold stops by luck.
void recovery(Session& session) {
  const base::Duration limit = session.experiment().phases.recovery;
  session.begin_phase("recovery", limit);
  const base::Instant start = session.now();
  const bool watch = !session.ending() || session.ending()->outcome == model::Outcome::kAborted;
  base::Instant next_look = start + kShortestRecovery;
  int looks = 0;
  const base::Instant end = watch ? start + limit : start;
  while (session.now() < end) {
    const Wake wake = session.wait_until(std::min(next_look, end));
    if (wake == Wake::kEnded) break;
    next_look = session.now() + std::chrono::seconds(1);
    const bool decided =
        session.all_over() && recovery_decided(session.judge_now(), session.experiment());
    looks = decided ? looks + 1 : 0;
    if (looks == kAgreeingLooks) break;
  }
  session.wait_until(session.now() + kRevertLimit, [&] { return session.all_over(); });
}

// Ends the load, reads back the sequence-numbered writes, and says how the run ended.
void finish(Session& session) {
  session.observer().stop_load();
  if (!session.faults().empty()) {
    session.record("run.phase", "read-back", "reading back what was written");
    if (const auto read = session.observer().read_back(); !read.ok()) {
      session.record("note", {}, fmt::format("read-back failed: {}", read.error().to_string()));
    }
  }
  session.observer().stop();
  (void)session.recorder().flush();
}

void close(Session& session) {
  const Ending ending =
      session.ending().value_or(Ending{model::Outcome::kCompleted, "all phases ran as planned"});
  const base::Json details = {{"outcome", std::string(model::to_string(ending.outcome))},
                              {"reason", ending.reason}};
  session.record("run.finished", std::string(model::to_string(ending.outcome)), ending.reason,
                 base::canonical_json(details));
}

// A record that could not be written to its end knows less of the end than the session does.
void amend(judge::Judgement& judgement, const Session& session) {
  const auto failure = session.parts().writer->failure();
  if (failure.ok()) return;
  judgement.outcome = model::Outcome::kErrored;
  judgement.outcome_reason =
      fmt::format("the record could not be written: {}", failure.error().to_string());
  judgement.reverts_verified = session.all_reverts_verified();
}

}  // namespace

base::Result<RunResult> run_experiment(const RunOptions& options, Progress& progress) {
  // 1. Load and check: done by the caller; what we get is valid.

  // 2. Plan.
  const model::SystemMap& map = options.map.map;
  const model::Experiment& experiment = options.experiment.experiment;
  const model::Plan plan = make_plan(map, experiment, options.experiment.text);
  const std::string hash = model::plan_hash(plan);
  if (!options.reviewed_plan_hash.empty() && hash.rfind(options.reviewed_plan_hash, 0) != 0) {
    return base::Error{.code = base::ErrorCode::kBlocked,
                       .message = fmt::format("the plan is now {}, not the reviewed {}",
                                              hash.substr(0, 12), options.reviewed_plan_hash),
                       .hint = "read the new plan (`squall plan`) and pass its hash",
                       .context = {}};
  }
  SQUALL_ASSIGN(Interruption interruption, Interruption::take());
  RunResult result;
  result.run = base::RunId::generate(base::real_clock().wall_now());
  SQUALL_ASSIGN(auto writer, create_record(options, plan, result.run));
  SQUALL_ASSIGN(auto feed, evidence::LiveFeed::create());
  result.record_path = writer->path();
  Session session({result.run, options.map, options.experiment, plan, progress, base::real_clock(),
                   std::move(interruption), std::move(writer), std::move(feed),
                   options.inject_state_directory});
  progress.planned(plan, result.run.text());
  session.record("run.started", plan.experiment, plan.scenario);
  session.document("plan", model::to_json(plan));

  SQUALL_ASSIGN(
      auto observer,
      observe::Observer::create({map, predictions_of(map, experiment), watched_services(map, plan),
                                 host::real_host(), base::real_clock(), session.recorder(),
                                 plan.seed, result.run.short_text()}));
  session.set_observer(std::move(observer));

  // 3. Bind and preflight. Nothing has been touched; the record exists and can be written.
  BoundPlan bound;
  preflight(session, plan, bound);

  // 4. Baseline. Every check passed; targets are known exactly; the reverts worked in rehearsal.
  if (!session.ending()) {
    SQUALL_TRY(session.observer().start());
    session.watch_predictions();
    baseline(session);
  }

  // 5. Fault. The system is healthy and every predicted signal has data.
  const bool injected = !session.ending();
  if (injected) fault_phase(session, bound.binding);

  // 6. Recovery. Every fault that was armed has been called back, whoever asked for it.
  if (injected) recovery(session);
  finish(session);

  // 7. Judge. The record is complete; judging is a pure function of it.
  close(session);
  session.set_holder(nullptr);
  result.judgement = session.judge_now();
  amend(result.judgement, session);
  session.document("judgement", judge::to_json(result.judgement));
  if (const auto finished = session.parts().writer->finish(); !finished.ok()) {
    result.judgement.notes.push_back(finished.error().to_string());
  }

  // 8. Learn: the index; catalog and follow-ups come with later rooms.
  result.exit_status = judge::exit_status_of(result.judgement);
  if (const auto indexed = index_run(Workspace(map.directory), result.record_path); !indexed.ok()) {
    progress.warn(fmt::format("the index was not updated ({}); `squall reindex` mends it",
                              indexed.error().to_string()));
  }
  return result;
}

}  // namespace squall::engine
