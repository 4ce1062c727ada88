#include "evidence/timeline.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/check.h"

namespace squall::evidence {
namespace {

FaultWindow& window_of(Timeline& timeline, const std::string& name) {
  for (FaultWindow& fault : timeline.faults)
    if (fault.name == name) return fault;
  FaultWindow fault;
  fault.name = name;
  return timeline.faults.emplace_back(std::move(fault));
}

bool says_it_cannot_be_effective(const Event& event) {
  if (event.details.empty()) return false;
  const auto details = base::parse_json(event.details);
  if (!details.ok() || !details->is_object()) return false;
  const auto found = details->find("can_be_effective");
  return found != details->end() && found->is_boolean() && !found->get<bool>();
}

// A fault's moments are its first: a revert that is called again after a failure changes nothing.
void take_fault_event(Timeline& timeline, const Event& event) {
  const std::string_view step = std::string_view(event.type).substr(sizeof "fault." - 1);
  const bool new_fault = timeline.find(event.subject) == nullptr;
  FaultWindow& fault = window_of(timeline, event.subject);
  if (new_fault) fault.inject = event.at;
  const auto first = [&event](std::optional<base::Instant>& moment) {
    if (!moment) moment = event.at;
  };
  if (step == "armed") {
    first(fault.armed);
    if (says_it_cannot_be_effective(event)) fault.can_be_effective = false;
  } else if (step == "effective") {
    first(fault.effective);
  } else if (step == "reverting") {
    first(fault.revert);
  } else if (step == "reverted") {
    first(fault.revert);  // somebody else reverted it: the call is not on record
  } else if (step == "verified") {
    first(fault.verified);
  } else if (step == "failed") {
    fault.failed = true;
  }
}

std::optional<Window> window(base::Instant begin, base::Instant end) {
  if (end <= begin) return std::nullopt;
  return Window{begin, end};
}

}  // namespace

std::optional<Window> FaultWindow::active() const {
  const std::optional<base::Instant>& begin = can_be_effective ? effective : armed;
  if (!begin) return std::nullopt;
  return window(*begin, revert.value_or(record_end));
}

const FaultWindow* Timeline::find(std::string_view name) const {
  for (const FaultWindow& candidate : faults)
    if (candidate.name == name) return &candidate;
  return nullptr;
}

std::optional<Window> Timeline::phase(model::PhaseKind kind) const {
  switch (kind) {
    case model::PhaseKind::kBaseline:
      return baseline;
    case model::PhaseKind::kFault:
      return fault;
    case model::PhaseKind::kRecovery:
      return recovery;
  }
  base::check_failed("phase is known", __FILE__, __LINE__);
}

Timeline timeline_of(const Record& record) {
  Timeline timeline;
  timeline.start = record.header().boot_start;
  timeline.end = record.last_instant();
  std::optional<base::Instant> baseline;
  std::optional<base::Instant> fault_phase;
  std::optional<base::Instant> recovery_phase;
  for (const Event& event : record.events()) {
    if (event.type == "run.started") timeline.start = event.at;
    if (event.type == "run.finished") timeline.end = event.at;
    if (event.type == "phase.started") {
      if (event.subject == "baseline" && !baseline) baseline = event.at;
      if (event.subject == "fault" && !fault_phase) fault_phase = event.at;
      if (event.subject == "recovery" && !recovery_phase) recovery_phase = event.at;
    }
    if (event.type.starts_with("fault.")) take_fault_event(timeline, event);
  }
  std::optional<base::Instant> first_inject;
  std::optional<base::Instant> last_revert;
  std::optional<Window> fault;
  for (FaultWindow& each : timeline.faults) {
    each.record_end = timeline.end;
    if (!first_inject || each.inject < *first_inject) first_inject = each.inject;
    if (each.revert && (!last_revert || *each.revert > *last_revert)) last_revert = each.revert;
    const auto active = each.active();
    if (!active) continue;
    fault = fault ? Window{std::min(fault->begin, active->begin), std::max(fault->end, active->end)}
                  : *active;
  }
  timeline.fault = fault;
  if (baseline) {
    const base::Instant end =
        first_inject.value_or(fault_phase.value_or(recovery_phase.value_or(timeline.end)));
    timeline.baseline = window(*baseline, end);
  }
  const auto recovery = last_revert ? last_revert : recovery_phase;
  if (recovery) timeline.recovery = window(*recovery, timeline.end);
  return timeline;
}

}  // namespace squall::evidence
