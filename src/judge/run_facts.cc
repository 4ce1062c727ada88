#include "judge/run_facts.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

namespace squall::judge {
namespace {

std::optional<base::Json> details_of(const evidence::Event& event) {
  if (event.details.empty()) return std::nullopt;
  auto parsed = base::parse_json(event.details);
  if (!parsed || !parsed->is_object()) return std::nullopt;
  return std::move(parsed).value();
}

std::string text_in(const base::Json& details, const char* key) {
  const auto found = details.find(key);
  return found != details.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::optional<model::Outcome> outcome_named(std::string_view name) {
  for (const model::Outcome outcome :
       {model::Outcome::kCompleted, model::Outcome::kBlocked, model::Outcome::kAborted,
        model::Outcome::kStopped, model::Outcome::kErrored}) {
    if (name == model::to_string(outcome)) return outcome;
  }
  return std::nullopt;
}

// The engine writes how the run ended as its last event. A record without it was left by a dead
// engine, whatever phase it was in.
void find_outcome(const evidence::Record& record, RunFacts& facts) {
  std::string phase;
  for (const evidence::Event& event : record.events()) {
    if (event.type == "phase.started") phase = event.subject;
    if (event.type != "run.finished") continue;
    const auto details = details_of(event);
    const auto outcome =
        details ? outcome_named(text_in(*details, "outcome")) : std::optional<model::Outcome>();
    facts.outcome = outcome.value_or(model::Outcome::kErrored);
    facts.outcome_reason =
        outcome ? text_in(*details, "reason") : "the record does not say how the run ended";
    return;
  }
  facts.outcome = model::Outcome::kErrored;
  facts.outcome_reason =
      phase.empty() ? "the engine died before the first phase"
                    : fmt::format("the engine died in the {} phase: the record ends there", phase);
}

void find_changes(const evidence::Record& record, RunFacts& facts) {
  for (const evidence::Event& event : record.events()) {
    const bool restarted = event.type == "member.restarted";
    if (!restarted && event.type != "member.gone") continue;
    const auto details = details_of(event);
    if (!details) continue;
    const auto expected = details->find("expected");
    if (expected == details->end() || !expected->is_boolean() || expected->get<bool>()) continue;
    std::string service = text_in(*details, "service");
    // "worker" or "worker/2": a member stands behind its service.
    if (service.empty()) service = event.subject.substr(0, event.subject.find('/'));
    facts.unrelated.push_back({event.at, std::move(service), restarted, event.text});
  }
}

// A fault that could not be armed is over, unless the holder could not undo what it had begun.
bool is_over(const evidence::Record& record, const evidence::FaultWindow& fault) {
  if (fault.verified) return true;
  bool over = false;
  for (const evidence::Event* event : record.events_of("fault.failed")) {
    if (event->subject != fault.name) continue;
    const auto details = details_of(*event);
    const auto active = details ? details->find("still_active") : base::Json::const_iterator();
    over = !details || active == details->end() || *active == false;
  }
  return over;
}

void end_with_the_samples(const evidence::Record& record, evidence::Timeline& timeline) {
  std::optional<base::Instant> last;
  const auto take = [&last](base::Instant at) { last = std::max(last.value_or(at), at); };
  for (const evidence::Series& series : record.series()) {
    if (!series.buckets.empty()) take(series.buckets.back().start + evidence::kBucketWidth);
    if (!series.samples.empty()) take(series.samples.back().at + base::Duration(1));
  }
  if (!last || *last >= timeline.end) return;
  timeline.end = std::max(*last, timeline.start);
  if (!timeline.recovery) return;
  timeline.recovery->end = timeline.end;
  if (timeline.recovery->end <= timeline.recovery->begin) timeline.recovery.reset();
}

}  // namespace

RunFacts facts_of(const evidence::Record& record) {
  RunFacts facts;
  facts.timeline = evidence::timeline_of(record);
  end_with_the_samples(record, facts.timeline);
  find_outcome(record, facts);
  find_changes(record, facts);
  for (const evidence::FaultWindow& fault : facts.timeline.faults) {
    if (!fault.active()) facts.effect_proven = false;
    if (!is_over(record, fault)) facts.reverts_verified = false;
  }
  return facts;
}

std::string why_without_effect(const evidence::FaultWindow& fault) {
  if (fault.active()) return {};
  if (fault.armed) {
    return fmt::format("fault `{}` was armed, but the fault touched nothing: no effect was seen",
                       fault.name);
  }
  if (fault.failed) return fmt::format("fault `{}` could not be armed", fault.name);
  return fmt::format("fault `{}` was never armed", fault.name);
}

}  // namespace squall::judge
