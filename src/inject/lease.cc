#include "inject/lease.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "base/units.h"
#include "inject/json_fields.h"

namespace squall::inject {

namespace {

constexpr base::Duration kFirstRetry = std::chrono::milliseconds(50);
constexpr base::Duration kLongestRetry = std::chrono::seconds(1);
// Arming may take this long beside the lease's duration (a `command` runs to its end).
constexpr base::Duration kArmingLimit = std::chrono::seconds(60);

}  // namespace

Lease::Lease(LeaseRecord record, const FaultKind& kind, std::optional<LeaseJournal> journal,
             Means means)
    : record_(std::move(record)),
      programs_(means.programs, record_.grant),
      kind_(kind),
      journal_(std::move(journal)),
      means_(std::move(means)),
      ends_(record_.requested + record_.duration + kArmingLimit) {}

void Lease::arm() {
  tell(LeaseState::kArming, Step::done(fmt::format("arming by {}", record_.binding.mechanism)));
  auto fault = kind_.create(record_.binding, *this);
  if (!fault.ok()) {
    arming_error_ = std::move(fault).error();
    return finish(Step::done({}));
  }
  fault_ = std::move(*fault);
  enter(Stage::kArming);
  advance({});
}

base::Status Lease::recall(const std::vector<std::string>& notes) {
  auto fault = kind_.create(record_.binding, *this);
  if (!fault.ok()) return std::move(fault).error();
  fault_ = std::move(*fault);
  for (const std::string& note : notes) {
    SQUALL_ASSIGN(const base::Json json, base::parse_json(note));
    fault_->recall(json);
  }
  return {};
}

void Lease::revert(std::string_view cause) {
  if (stage_ == Stage::kOver || reverting()) return;
  cause_ = cause;
  enter(Stage::kReverting);
  tell(LeaseState::kReverting, Step::done(std::string(cause)));
  advance({});
}

void Lease::enter(Stage stage) {
  stage_ = stage;
  wait_ = {};
  wait_until_ = base::BootClock::now();
  if (stage == Stage::kReverting) {
    reverting_since_ = wait_until_;
    retry_pause_ = kFirstRetry;
  }
}

base::Instant Lease::due() const {
  if (stage_ == Stage::kOver) return base::Instant::max();
  if (reverting()) return wait_until_;
  return std::min(wait_until_, ends_);
}

void Lease::advance(const std::vector<int>& ready) {
  if (stage_ == Stage::kOver) return;
  const bool called = std::any_of(wait_.descriptors.begin(), wait_.descriptors.end(), [&](int fd) {
    return std::binary_search(ready.begin(), ready.end(), fd);
  });
  if (called) wait_until_ = base::BootClock::now();
  while (stage_ != Stage::kOver) {
    if (!reverting() && base::BootClock::now() >= ends_) return revert("deadline");
    if (base::BootClock::now() < wait_until_) return;
    if (stage_ == Stage::kClosing)
      close();
    else
      handle(call());
  }
}

Step Lease::call() {
  switch (stage_) {
    case Stage::kArming:
      return fault_->arm();
    case Stage::kAwaitingEffect:
      return fault_->effective();
    case Stage::kHolding:
      return fault_->hold();
    case Stage::kReverting:
      return fault_->revert();
    case Stage::kVerifying:
      return fault_->verify();
    case Stage::kSteady:
    case Stage::kClosing:
    case Stage::kOver:
      break;
  }
  return Step::wait({});
}

void Lease::handle(Step step) {
  switch (step.state) {
    case Step::State::kDone:
      return succeed(step);
    case Step::State::kFailed:
      return handle_failure(std::move(step));
    case Step::State::kWaiting:
      break;
  }
  const bool in_force = stage_ == Stage::kHolding || stage_ == Stage::kAwaitingEffect;
  if (in_force && !step.text.empty()) {
    tell_notice(step.text);
  }
  wait_until_ = step.again > base::Duration::zero() ? base::BootClock::now() + step.again
                                                    : base::Instant::max();
  wait_ = std::move(step);
}

void Lease::succeed(const Step& step) {
  switch (stage_) {
    case Stage::kArming:
      ends_ = base::BootClock::now() + record_.duration;
      enter(Stage::kAwaitingEffect);
      return tell(LeaseState::kArmed, step);
    case Stage::kAwaitingEffect:
      enter(Stage::kHolding);
      return tell(LeaseState::kEffective, step);
    case Stage::kHolding:
      enter(Stage::kSteady);
      return;
    case Stage::kReverting:
      reverted_text_ = step.text;
      enter(Stage::kVerifying);
      if (!arming_error_) tell(LeaseState::kReverted, step);
      return;
    case Stage::kVerifying:
      return finish(step);
    case Stage::kSteady:
    case Stage::kClosing:
    case Stage::kOver:
      return;
  }
}

void Lease::handle_failure(Step step) {
  if (stage_ == Stage::kArming) {
    arming_error_ = std::move(step.error);
    cause_ = "arming failed";
    enter(Stage::kReverting);
    return;
  }
  if (step.is_broken && !reverting()) {
    tell_notice(step.text);
    return revert("fault broke");
  }
  if (stage_ == Stage::kAwaitingEffect || stage_ == Stage::kHolding) {
    // It is in force as far as anybody knows, so the engine decides; it stays armed until then.
    enter(Stage::kSteady);
    return tell_notice(step.text);
  }
  const bool first = trouble_.empty();
  trouble_ = step.text;
  if (!step.error.hint.empty()) trouble_ += ": " + step.error.hint;
  if (first) tell(LeaseState::kFailed, Step::done(trouble_), /*still_active=*/true);
  // The revert is idempotent: start it over, more and more slowly.
  stage_ = Stage::kReverting;
  retry_later();
}

void Lease::retry_later() {
  wait_ = {};
  wait_until_ = base::BootClock::now() + retry_pause_;
  retry_pause_ = std::min(kLongestRetry, 2 * retry_pause_);
}

void Lease::finish(const Step& step) {
  trouble_.clear();
  last_text_ = step.text.empty() ? reverted_text_ : step.text;
  if (journal_) journal_->state(LeaseState::kVerified, ends_, step.text);
  close();
  if (arming_error_) {
    std::string text = arming_error_->to_string();
    if (!arming_error_->hint.empty()) text += ". Next: " + arming_error_->hint;
    tell(LeaseState::kFailed, Step::done(text));
  } else {
    tell(LeaseState::kVerified, step);
  }
  fault_.reset();  // last: what it still closes must not delay the news
}

// Without its journal, which no longer names a fault. One that cannot be removed is tried again.
void Lease::close() {
  if (journal_) {
    if (auto removed = journal_->remove(); !removed.ok()) {
      if (stage_ != Stage::kClosing) {
        stage_ = Stage::kClosing;
        retry_pause_ = kFirstRetry;
        trouble_ = "it is undone, but its journal stays: " + removed.error().to_string();
      }
      return retry_later();
    }
    journal_.reset();
  }
  stage_ = Stage::kOver;
  wait_ = {};
  wait_until_ = base::Instant::max();
}

void Lease::tell_notice(const std::string& text) {
  means_.tell(LeaseEvent{.lease = record_.lease,
                         .fault = record_.binding.fault,
                         .state = told_,
                         .at = base::BootClock::now(),
                         .text = text,
                         .proof = "{}",
                         .cause = {},
                         .still_active = false,
                         .notice = true});
}

void Lease::tell(LeaseState state, const Step& step, bool still_active) {
  told_ = state;
  if (journal_) journal_->state(state, ends_, step.text);
  LeaseEvent event{.lease = record_.lease,
                   .fault = record_.binding.fault,
                   .state = state,
                   .at = base::BootClock::now(),
                   .text = step.text,
                   .proof = step.proof.empty() ? "{}" : step.proof,
                   .cause = cause_,
                   .still_active = still_active,
                   .notice = false};
  means_.tell(event);
}

base::Status Lease::claim(const base::ProcessIdentity& process) {
  SQUALL_TRY(check_process(process));
  if (!means_.claim) return {};
  return means_.claim(record_, process, [&] {
    return note({{"claimed", base::Json::array({to_json(process)})}});
  });
}

base::Status Lease::note(const base::Json& found) {
  if (!journal_) return {};
  return journal_->note(found.dump(-1, ' ', false, base::Json::error_handler_t::replace));
}

}  // namespace squall::inject
