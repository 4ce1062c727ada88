#include "inject/faults/process/successors.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/text.h"
#include "inject/json_fields.h"
#include "inject/process_table.h"
#include "inject/service_json.h"

namespace squall::inject {

namespace {

using base::Duration;
using base::Instant;
using base::Json;

// A supervisor needs some milliseconds; later looks are for slow ones.
constexpr Duration kFirstLook = std::chrono::milliseconds(50);
constexpr Duration kLook = std::chrono::milliseconds(500);
constexpr Duration kNews = std::chrono::milliseconds(1);
// One that came up before its predecessor ended is not in its place, but for the time until the end
// was noticed.
constexpr Duration kOverlap = std::chrono::seconds(1);
// How long a service may look wrong (old and new members side by side) before that is told.
constexpr Duration kBlindLimit = std::chrono::seconds(2);
// Somebody who dies of the fault again and again must not use up the journal.
constexpr std::size_t kMostJoins = 100;

std::pair<pid_t, std::uint64_t> key_of(const base::ProcessIdentity& identity) {
  return {identity.pid, identity.start_time};
}

}  // namespace

bool joins(const model::Parameters& parameters) {
  return !parameters.has("joins") || parameters.boolean("joins");
}

std::string_view joining_text(const model::Parameters& parameters) {
  return joins(parameters) ? ", and what is restarted in its place," : "";
}

base::Result<Successors::Plan> Successors::plan_of(const model::FaultBinding& binding) {
  const Json& details = binding.details.json();
  Plan plan;
  plan.targets = targets_of(binding);
  auto service = service_from_json(field(details, "service"));
  // Never a reason not to undo a fault.
  if (!service.ok()) {
    plan.joins = false;
    return plan;
  }
  plan.service = std::move(*service);
  for (const Json& item : field(details, "members_before"))
    plan.before.push_back(target_from_json(item));
  plan.joins = !details.contains("joins") || boolean_field(details, "joins");
  return plan;
}

base::Status Successors::open() {
  SQUALL_ASSIGN(auto opened, open_targets(plan_.targets));
  places_.clear();
  for (std::size_t i = 0; i < plan_.targets.size(); ++i) {
    Place place{.occupant = plan_.targets[i], .process = std::move(opened[i])};
    if (in_containers()) {
      const auto facts = context_.host().process(place.occupant.identity.pid);
      if (facts.ok()) place.container = facts->container;
    }
    seen_.insert(key_of(place.occupant.identity));
    places_.push_back(std::move(place));
  }
  for (const Target& target : plan_.before) seen_.insert(key_of(target.identity));
  return {};
}

bool Successors::in_containers() const {
  return !plan_.service.container.empty() ||
         std::any_of(plan_.service.members.begin(), plan_.service.members.end(),
                     [](const model::MemberSelector& each) { return !each.container.empty(); });
}

Step Successors::hold(const Join& join) {
  const Instant now = base::BootClock::now();
  const bool may_join = plan_.joins && join != nullptr;
  notice_ends(now);
  const auto is_free = [](const Place& place) { return place.free.has_value(); };
  if (may_join && now >= next_look_ && std::any_of(places_.begin(), places_.end(), is_free))
    look(now);
  Step step = Step::wait_for({});
  advance_joins(join, step);
  bool anybody = false;
  for (const Place& place : places_) {
    anybody = anybody || !place.free;
    if (!place.free) step.descriptors.push_back(place.process.get());
  }
  const bool waits = may_join && joined_ < kMostJoins;
  if (waits && std::any_of(places_.begin(), places_.end(), is_free)) {
    const Duration left = std::max(Duration{1'000'000}, next_look_ - base::BootClock::now());
    step.again = step.again > Duration::zero() ? std::min(step.again, left) : left;
  } else if (!anybody && news_.empty()) {
    return Step::done({});
  }
  if (!news_.empty()) {
    step.text = base::join(std::exchange(news_, {}), "; ");
    step.again = kNews;
  }
  return step;
}

void Successors::notice_ends(Instant now) {
  std::vector<std::string> ended;
  for (Place& place : places_) {
    if (place.free || !place.process.ended()) continue;
    ended.push_back(place.occupant.description);
    place.free = now;
    place.joining = false;
    place.former = place.occupant.identity.pid;
    place.process = {};
    next_look_ = now + kFirstLook;
  }
  if (ended.empty()) return;
  std::string text = base::enumerate(ended) + " " + ended_;
  if (!plan_.joins) {
    text += "; what takes its place runs without the fault (`joins: false`)";
  } else if (joined_ >= kMostJoins) {
    text += fmt::format(
        "; {} members have joined by now: what takes its place runs without the "
        "fault",
        joined_);
  }
  news_.push_back(std::move(text));
}

void Successors::look(Instant now) {
  next_look_ = now + kLook;
  const auto running = running_now();
  if (!running.ok()) {
    if (!blind_since_) blind_since_ = now;
    if (now - *blind_since_ < kBlindLimit || std::exchange(told_blind_, true)) return;
    news_.push_back("nobody can join the fault as long as this is so: " +
                    running.error().to_string());
    return;
  }
  blind_since_.reset();
  for (const Target& candidate : *running) {
    if (seen_.contains(key_of(candidate.identity))) continue;
    const auto place = std::find_if(places_.begin(), places_.end(), [&](const Place& each) {
      return each.free && fits(candidate, each);
    });
    if (place != places_.end() && joined_ < kMostJoins) take(*place, candidate);
  }
  // Who is new when every place is taken runs beside them, whoever ends later.
  if (std::any_of(places_.begin(), places_.end(), [](const Place& each) { return each.free; }))
    return;
  for (const Target& candidate : *running) seen_.insert(key_of(candidate.identity));
}

base::Result<std::vector<Target>> Successors::running_now() const {
  // An engine may take seconds to answer, and the holder must not wait for it; what runs in a
  // container says itself in which one.
  if (in_containers()) return running_in_containers();
  SQUALL_ASSIGN(auto running, running_members(context_.host(), plan_.service));
  const std::size_t stated = std::max<std::size_t>(
      {1, plan_.service.members.size(),
       static_cast<std::size_t>(std::max(0, plan_.service.expected_members))});
  if (running.size() <= stated) return running;
  return base::Error{.code = base::ErrorCode::kConflict,
                     .message = fmt::format("service {} matches {} processes, and the map says {}",
                                            plan_.service.name, running.size(), stated)};
}

base::Result<std::vector<Target>> Successors::running_in_containers() const {
  SQUALL_ASSIGN(const auto processes, context_.host().processes());
  std::vector<Target> running;
  for (const Place& place : places_) {
    if (!place.free || place.container.empty()) continue;
    const host::Process* first = nullptr;  // came first: what the container was started for
    for (const host::Process& each : processes) {
      if (each.container != place.container || each.state == 'Z' || each.state == 'X') continue;
      if (first == nullptr || each.identity.start_time < first->identity.start_time) first = &each;
    }
    if (first == nullptr) continue;
    const std::string& name = place.occupant.member;
    running.push_back({.member = name,
                       .identity = first->identity,
                       .description = describe_member(
                           {.service = plan_.service.name, .name = name, .process = *first})});
  }
  return running;
}

bool Successors::fits(const Target& candidate, const Place& place) const {
  const bool named = !plan_.service.members.empty() || in_containers();
  if (named) return candidate.member == place.occupant.member;
  return started_at(candidate.identity) + kOverlap >= *place.free;
}

void Successors::take(Place& place, const Target& candidate) {
  auto process = base::PidFd::open(candidate.identity);
  if (!process.ok()) return;  // gone already
  seen_.insert(key_of(candidate.identity));
  base::Status allowed = check_not_ourselves(candidate.identity.pid);
  if (allowed.ok()) {
    allowed = plan_.claims ? context_.claim(candidate.identity)
                           : context_.check_process(candidate.identity);
  }
  if (!allowed.ok() && allowed.error().code == base::ErrorCode::kNotFound) return;
  if (!allowed.ok()) return tell_without(place, candidate, allowed.error());
  place.occupant = candidate;
  place.process = std::move(*process);
  place.free.reset();
  place.joining = true;
  ++joined_;
}

void Successors::advance_joins(const Join& join, Step& step) {
  for (Place& place : places_) {
    if (!place.joining) continue;
    Step joined = join(place.occupant);
    if (joined.state == Step::State::kWaiting) {
      step.descriptors.insert(step.descriptors.end(), joined.descriptors.begin(),
                              joined.descriptors.end());
      if (joined.again > Duration::zero())
        step.again =
            step.again > Duration::zero() ? std::min(step.again, joined.again) : joined.again;
      return;  // one after the other
    }
    place.joining = false;
    if (joined.state == Step::State::kFailed) {
      tell_without(place, place.occupant, joined.error);
      continue;
    }
    news_.push_back(fmt::format("{} came up in place of pid {} and {}", place.occupant.description,
                                place.former, joined.text));
  }
}

void Successors::tell_without(const Place& place, const Target& fresh, const base::Error& error) {
  news_.push_back(fmt::format("{} came up in place of pid {} and runs without the fault: {}",
                              fresh.description, place.former, error.to_string()));
}

}  // namespace squall::inject
