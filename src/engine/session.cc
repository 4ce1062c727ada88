#include "engine/session.h"

#include <fmt/format.h>
#include <malloc.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "base/exit_status.h"
#include "base/log.h"
#include "judge/judge.h"

namespace squall::engine {

namespace {

constexpr base::Duration kTick = std::chrono::milliseconds(100);
constexpr base::Duration kTrimInterval = std::chrono::seconds(30);
constexpr base::Duration kRenewal = std::chrono::milliseconds(500);

std::string lease_details(const inject::LeaseEvent& event, bool can_be_effective) {
  base::Json details = {{"lease", event.lease.text()}};
  if (!event.cause.empty()) details["cause"] = event.cause;
  if (event.state == inject::LeaseState::kArmed) details["can_be_effective"] = can_be_effective;
  if (event.state == inject::LeaseState::kFailed) details["still_active"] = event.still_active;
  if (!event.proof.empty()) {
    auto proof = base::parse_json(event.proof);
    details["proof"] = proof.ok() ? std::move(proof).value() : base::Json(event.proof);
  }
  return base::canonical_json(details);
}

}  // namespace

Session::Session(Parts parts)
    : parts_(std::move(parts)), recorder_(*parts_.writer, parts_.feed.get()) {
  next_tick_ = parts_.clock.now() + kTick;
  next_renewal_ = next_tick_;
}

Session::~Session() {
  if (observer_ != nullptr) observer_->stop();
}

void Session::record(std::string type, std::string subject, std::string text, std::string details) {
  recorder_.add(evidence::Event{now(), std::move(type), std::move(subject), std::move(text),
                                std::move(details)});
}

void Session::document(std::string_view name, const base::Json& content) {
  // A failed write is sticky in the writer; serve_time() ends the run for it.
  (void)parts_.writer->append_document(name, content);
}

void Session::begin_phase(std::string_view phase, base::Duration limit) {
  phase_ = phase;
  phase_start_ = now();
  phase_limit_ = limit;
  record("phase.started", std::string(phase), fmt::format("phase {} begins", phase));
  parts_.progress.phase_started(phase, limit);
}

void Session::end(model::Outcome outcome, std::string reason) {
  if (!ending_) ending_ = Ending{outcome, std::move(reason)};
}

Wake Session::wait_until(base::Instant deadline, const std::function<bool()>& satisfied) {
  const bool ending_at_entry = ending_.has_value();
  while (true) {
    if (satisfied && satisfied()) return Wake::kSatisfied;
    if (ending_ && !ending_at_entry) return Wake::kEnded;
    const base::Instant at = now();
    if (at >= deadline) return Wake::kDeadline;
    const base::Duration left = std::min(deadline, next_tick_) - at;
    const auto whole =
        std::chrono::duration_cast<std::chrono::seconds>(std::max(left, base::Duration::zero()));
    const timespec limit{whole.count(), (std::max(left, base::Duration::zero()) - whole).count()};
    std::array<pollfd, 3> waiting{{{parts_.interruption.fd(), POLLIN, 0},
                                   {parts_.feed->fd(), POLLIN, 0},
                                   {holder_ != nullptr ? holder_->fd() : -1, POLLIN, 0}}};
    ppoll(waiting.data(), waiting.size(), &limit, nullptr);
    if ((waiting[1].revents & POLLIN) != 0) serve_samples();
    if (waiting[2].revents != 0) serve_holder();
    if ((waiting[0].revents & POLLIN) != 0) serve_signals();
    if (now() >= next_tick_) serve_time();
  }
}

void Session::serve_samples() {
  parts_.feed->drain(samples_);
  for (const evidence::LiveSample& sample : samples_) {
    if (monitor_ != nullptr && !ending_) {
      if (const auto breach = monitor_->add(sample)) on_breach(*breach);
    }
    if (live_view_ != nullptr) live_view_->add(sample);
  }
}

// First the revert, then the words about it.
void Session::on_breach(const judge::Breach& breach) {
  revert_all("abort rule");
  record("abort.breached", breach.rule, breach.reason);
  parts_.progress.warn(fmt::format("abort: {} (rule: {})", breach.reason, breach.rule));
  end(model::Outcome::kAborted, fmt::format("{}: {}", breach.rule, breach.reason));
}

void Session::serve_time() {
  const base::Instant at = now();
  next_tick_ = at + kTick;
  if (at >= next_trim_) {
    // A stall of the machine leaves free memory behind in the heaps of the probes' threads, which
    // they never give back by themselves.
    ::malloc_trim(0);
    next_trim_ = at + kTrimInterval;
  }
  if (at >= next_renewal_ && holder_ != nullptr && any_active()) {
    next_renewal_ = at + kRenewal;
    if (const auto renewed = holder_->renew(); !renewed.ok()) on_holder_gone(renewed.error());
  }
  if (monitor_ != nullptr && !ending_) {
    if (const auto breach = monitor_->tick(at)) on_breach(*breach);
  }
  if (const auto flushed = recorder_.flush(); !flushed.ok() && !ending_) {
    revert_all("record failed");
    parts_.progress.warn(flushed.error().to_string());
    end(model::Outcome::kErrored,
        fmt::format("the record could not be written: {}", flushed.error().to_string()));
  }
  if (!phase_.empty()) {
    parts_.progress.tick(
        phase_, at - phase_start_, phase_limit_,
        live_view_ != nullptr ? live_view_->rows(at) : std::vector<judge::LiveRow>{});
  }
}

void Session::serve_signals() {
  for (int signal = parts_.interruption.next(); signal != 0; signal = parts_.interruption.next()) {
    ++signals_taken_;
    const char* name = signal == SIGINT   ? "Ctrl-C"
                       : signal == SIGHUP ? "terminal closed"
                                          : "SIGTERM";
    if (signals_taken_ == 1) {
      revert_all("stopped by operator");
      parts_.progress.warn(
          any_active() || !all_over()
              ? fmt::format("{}: reverting the fault, then judging what was observed. Again to "
                            "leave at once.",
                            name)
              : fmt::format("{}: stopping; no fault is active. Again to leave at once.", name));
      record("run.stopping", {}, fmt::format("{} received", name));
      end(model::Outcome::kStopped, fmt::format("{} received", name));
    } else if (signal != SIGHUP) {
      std::vector<std::string> left;
      for (const FaultProgress& fault : faults_) {
        if (!fault.over()) left.push_back(fault.name);
      }
      parts_.progress.warn(
          left.empty() ? std::string("leaving at once; nothing of ours is active")
                       : fmt::format("leaving at once. The holder goes on reverting: {}. See it "
                                     "with `squall status`; if anything is left, `squall cleanup`.",
                                     fmt::join(left, ", ")));
      (void)recorder_.flush();
      // The holder sees us end and reverts; a destructor that waited would defeat the purpose.
      _exit(static_cast<int>(left.empty() ? base::ExitStatus::kStopped
                                          : base::ExitStatus::kRevertNotVerified));
    }
  }
}

FaultProgress* Session::find_fault(base::LeaseId lease) {
  for (FaultProgress& fault : faults_) {
    if (fault.started && fault.lease == lease) return &fault;
  }
  return nullptr;
}

void Session::serve_holder() {
  if (holder_ == nullptr) return;
  auto events = holder_->take_events();
  if (!events.ok()) {
    on_holder_gone(events.error());
    return;
  }
  for (const inject::LeaseEvent& event : events.value()) on_lease_event(event);
  if (const auto notice = holder_->stop_notice(); notice && !ending_) {
    const std::string why = notice->who.empty()
                                ? fmt::format("the holder was ended by a {}", notice->cause)
                                : fmt::format("stopped by {}: {}", notice->who, notice->why);
    record("run.stopping", {}, why);
    parts_.progress.warn(why);
    end(model::Outcome::kStopped, why);
  }
}

void Session::on_lease_event(const inject::LeaseEvent& event) {
  FaultProgress* fault = find_fault(event.lease);
  if (fault == nullptr) return;
  if (event.notice) {
    record("note", fault->name, event.text);
    parts_.progress.step(fmt::format("{}: {}", fault->name, event.text));
    return;
  }
  if (event.state == inject::LeaseState::kArming) return;  // recorded before we asked
  const inject::LeaseState before = fault->state;
  fault->state = event.state;
  fault->still_active = event.still_active;
  const auto* kind = [&]() -> const model::FaultKindDescriptor* {
    for (const auto& each : experiment().faults) {
      if (each.name == fault->name) return each.kind;
    }
    return nullptr;
  }();
  recorder_.add(evidence::Event{event.at, fmt::format("fault.{}", to_string(event.state)),
                                fault->name, event.text,
                                lease_details(event, kind == nullptr || kind->can_be_effective)});
  parts_.progress.step(fmt::format("{}: {}{}{}", fault->name, to_string(event.state),
                                   event.text.empty() ? "" : ": ", event.text));
  if (event.state == inject::LeaseState::kFailed) {
    const bool was_active = before != inject::LeaseState::kArming;
    if (event.still_active)
      parts_.progress.warn(fmt::format("{}: NOT REVERTED: {}", fault->name, event.text));
    revert_all("another fault failed");
    end(model::Outcome::kErrored,
        fmt::format("fault `{}` {}: {}", fault->name,
                    was_active ? "was not reverted" : "was not armed", event.text));
  }
  if (event.cause == "fault broke" && event.state == inject::LeaseState::kReverting) {
    end(model::Outcome::kErrored,
        fmt::format("fault `{}` ended by itself before its time; see its last note", fault->name));
  }
  if (event.cause == "holder gone") {
    end(model::Outcome::kErrored, "the holder ended unexpectedly; its journal was replayed");
  }
}

// The client has replayed the journal as far as it goes before it says this. What is still open now
// gets a last try, and is told plainly when that fails too.
void Session::on_holder_gone(const base::Error& error) {
  holder_.reset();
  parts_.progress.warn(fmt::format("the holder is gone: {}", error.to_string()));
  if (!all_over()) {
    auto replayed = inject::cleanup(parts_.inject_state_directory);
    for (FaultProgress& fault : faults_) {
      if (fault.over()) continue;
      fault.still_active = !replayed.ok();
      fault.state = replayed.ok() ? inject::LeaseState::kVerified : inject::LeaseState::kFailed;
      record(
          replayed.ok() ? "fault.verified" : "fault.failed", fault.name,
          replayed.ok() ? "reverted by replay of the revert journal" : replayed.error().to_string(),
          replayed.ok() ? "" : R"({"still_active":true})");
    }
  }
  end(model::Outcome::kErrored, fmt::format("the holder is gone: {}", error.to_string()));
}

base::Status Session::arm(const model::FaultBinding& binding, base::Duration duration) {
  for (const model::BoundTarget& target : binding.targets) {
    if (!target.service.empty()) observer_->expect_changes(target.service);
  }
  record("fault.arming", binding.fault, fmt::format("{} by {}", binding.kind, binding.mechanism));
  SQUALL_TRY(recorder_.flush());
  FaultProgress fault;
  fault.name = binding.fault;
  fault.started = true;
  auto lease = holder_->arm({binding, duration});
  if (!lease.ok()) {
    record("fault.failed", binding.fault, lease.error().to_string(), R"({"still_active":false})");
    return std::move(lease).error();
  }
  fault.lease = *lease;
  faults_.push_back(fault);
  next_renewal_ = now();
  return {};
}

void Session::revert_all(std::string_view cause) {
  if (holder_ == nullptr) return;
  if (const auto asked = holder_->revert_all(cause); !asked.ok()) on_holder_gone(asked.error());
}

bool Session::any_active() const {
  return std::any_of(faults_.begin(), faults_.end(),
                     [](const FaultProgress& fault) { return fault.active(); });
}

bool Session::all_over() const {
  return std::all_of(faults_.begin(), faults_.end(),
                     [](const FaultProgress& fault) { return fault.over(); });
}

bool Session::all_reverts_verified() const {
  return std::all_of(faults_.begin(), faults_.end(),
                     [](const FaultProgress& fault) { return fault.is_gone(); });
}

void Session::watch_abort_rules() {
  std::vector<model::Prediction> rules = experiment().abort_when;
  rules.insert(rules.end(), map().abort_when.begin(), map().abort_when.end());
  // What baseline(...) came to is read once, when a rule first asks for it.
  std::optional<base::Result<evidence::Record>> record;
  const auto baseline_of = [&](const model::Expression& inner) -> std::optional<double> {
    if (!record) record = read_so_far();
    return record->ok() ? judge::baseline_value(**record, inner) : std::nullopt;
  };
  if (live_view_ != nullptr) live_view_->set_baseline(baseline_of);
  if (rules.empty()) return;
  monitor_ = std::make_unique<judge::AbortMonitor>(
      std::move(rules), [this](std::string_view name) { return recorder_.find(name); },
      baseline_of);
  for (const evidence::SeriesId series : monitor_->series()) recorder_.watch(series);
  // A rule that can never breach protects nobody.
  for (const std::string& rule : monitor_->blind_rules()) {
    end(model::Outcome::kBlocked,
        fmt::format("abort rule `{}` names something that was not observed", rule));
  }
}

void Session::watch_predictions() {
  std::vector<model::Prediction> predictions = experiment().hypothesis;
  predictions.insert(predictions.end(), map().steady_state.begin(), map().steady_state.end());
  live_view_ = std::make_unique<judge::LiveView>(
      std::move(predictions), [this](std::string_view name) { return recorder_.find(name); });
  for (const evidence::SeriesId series : live_view_->series()) recorder_.watch(series);
}

base::Result<evidence::Record> Session::read_so_far() {
  (void)recorder_.flush();
  evidence::ReadOptions options;
  options.wanted = [this](const evidence::SeriesDeclaration& declaration) {
    return judge::needs_series(map(), experiment(), declaration);
  };
  return evidence::Record::read(parts_.writer->path(), options);
}

judge::Judgement Session::judge_now() {
  const auto record = read_so_far();
  if (!record.ok()) {
    judge::Judgement unread;
    unread.outcome_reason = record.error().to_string();
    return unread;
  }
  return judge::judge({*record, map(), experiment()});
}

}  // namespace squall::engine
