#include <cmath>
#include <nlohmann/json.hpp>

#include "base/text.h"
#include "report/contents.h"
#include "report/json_parts.h"
#include "report/report.h"
#include "report/words.h"

namespace squall::report {
namespace {

using base::Json;

constexpr int kReportVersion = 1;
constexpr int kDepthLimit = 64;

std::string text(std::string_view value) {
  return base::valid_utf8(value);
}

std::string_view unit_of(base::Dimension dimension) {
  switch (dimension) {
    case base::Dimension::kNumber:
      return "";
    case base::Dimension::kShare:
      return "share";
    case base::Dimension::kDuration:
      return "s";
    case base::Dimension::kSize:
      return "B";
    case base::Dimension::kRate:
      return "/s";
  }
  return "";
}

Json optional_moment(const Contents& contents, const std::optional<base::Instant>& moment) {
  if (!moment) return nullptr;
  return contents.offset_seconds(*moment);
}

Json explanation_json(const judge::Explanation& node, int depth = 0) {
  Json parts = Json::array();
  if (depth < kDepthLimit) {
    for (const judge::Explanation& part : node.parts)
      parts.push_back(explanation_json(part, depth + 1));
  }
  return {{"text", text(node.text)},
          {"value", text(node.value)},
          {"evidence", text(node.evidence)},
          {"parts", std::move(parts)}};
}

Json window_json(const Contents& contents, const std::optional<evidence::Window>& window) {
  if (!window) return nullptr;
  return {{"begin_s", contents.offset_seconds(window->begin)},
          {"end_s", contents.offset_seconds(window->end)}};
}

Json faults_json(const Contents& contents) {
  Json faults = Json::array();
  for (const FaultFacts& fault : contents.faults()) {
    const evidence::FaultWindow none;
    const evidence::FaultWindow& window = fault.window != nullptr ? *fault.window : none;
    const bool injected = fault.window != nullptr;
    Json targets = Json::array();
    if (fault.bound != nullptr) {
      for (const model::BoundTarget& target : fault.bound->targets)
        targets.push_back(text(target.description));
    }
    faults.push_back(
        {{"name", text(fault.name)},
         {"kind", text(fault.kind())},
         {"targets", std::move(targets)},
         {"mechanism", fault.bound != nullptr ? text(fault.bound->mechanism) : ""},
         {"injected_s", injected ? Json(contents.offset_seconds(window.inject)) : Json()},
         {"armed_s", optional_moment(contents, window.armed)},
         {"effective_s", optional_moment(contents, window.effective)},
         {"revert_s", optional_moment(contents, window.revert)},
         {"verified_s", optional_moment(contents, window.verified)},
         {"failed", window.failed},
         {"can_be_effective", window.can_be_effective}});
  }
  return faults;
}

Json events_json(const Contents& contents) {
  Json events = Json::array();
  for (const evidence::Event& event : contents.record().events()) {
    Json details;
    if (!event.details.empty()) {
      if (auto parsed = base::parse_json(event.details); parsed.ok()) details = *std::move(parsed);
    }
    events.push_back({{"at_s", contents.offset_seconds(event.at)},
                      {"at", base::format_wall_time(contents.record().wall_time(event.at))},
                      {"type", text(event.type)},
                      {"subject", text(event.subject)},
                      {"text", text(event.text)},
                      {"details", std::move(details)}});
  }
  return events;
}

Json checks_json(const Contents& contents) {
  Json checks = Json::array();
  for (const CheckResult& check : contents.checks()) {
    checks.push_back({{"name", text(check.name)},
                      {"result", text(check.result)},
                      {"reason", text(check.reason)},
                      {"remedy", text(check.remedy)}});
  }
  return checks;
}

Json texts_json(const std::vector<std::string>& texts) {
  Json out = Json::array();
  for (const std::string& each : texts) out.push_back(text(each));
  return out;
}

Json run_json(const Contents& contents) {
  const evidence::RecordHeader& header = contents.header();
  return {{"id", header.run.text()},
          {"short_id", contents.short_id()},
          {"experiment", text(contents.experiment_name())},
          {"scenario", text(contents.scenario())},
          {"environment", text(header.environment)},
          {"squall_version", text(header.squall_version)},
          {"started", contents.started()},
          {"duration_s", base::to_seconds(contents.length())},
          {"plan_hash", text(header.plan_hash)},
          {"record_finished", contents.record().finished()},
          {"record_damage", texts_json(contents.record().damage())},
          {"reproduce", text(contents.reproduce_command())}};
}

}  // namespace

Json optional_number(const std::optional<double>& value) {
  if (!value || !std::isfinite(*value)) return nullptr;
  return *value;
}

Json optional_seconds(const std::optional<base::Duration>& value) {
  if (!value) return nullptr;
  return base::to_seconds(*value);
}

Json prediction_json(const Contents& contents, const judge::PredictionResult& result) {
  Json interval;
  if (result.interval_low && result.interval_high) {
    interval =
        Json::array({optional_number(result.interval_low), optional_number(result.interval_high)});
  }
  return {{"name", text(result.name)},
          {"text", text(result.text)},
          {"steady_state", result.steady_state},
          {"phase", text(result.phase)},
          {"verdict", model::to_string(result.verdict)},
          {"reason", text(result.reason)},
          {"method", text(result.method)},
          {"unit", unit_of(result.dimension)},
          {"observed", optional_number(result.observed)},
          {"interval", std::move(interval)},
          {"threshold", optional_number(result.threshold)},
          {"threshold_high", optional_number(result.threshold_high)},
          {"samples", result.samples},
          {"effective_samples", result.effective_samples},
          {"first_violation_s", optional_moment(contents, result.first_violation)},
          {"returned_s", optional_moment(contents, result.returned)},
          {"explanation", explanation_json(result.explanation)}};
}

Json render_json(const RunView& view) {
  const Contents contents(view);
  const judge::Judgement& judgement = contents.judgement();
  const evidence::Timeline& timeline = contents.timeline();
  Json predictions = Json::array();
  for (const judge::PredictionResult& result : judgement.predictions)
    predictions.push_back(prediction_json(contents, result));
  return {{"report_version", kReportVersion},
          {"run", run_json(contents)},
          {"verdict", model::to_string(judgement.verdict)},
          {"outcome", model::to_string(judgement.outcome)},
          {"outcome_reason", text(judgement.outcome_reason)},
          {"exit_status", judge::exit_status_of(judgement)},
          {"reverts_verified", judgement.reverts_verified},
          {"effect_proven", judgement.effect_proven},
          {"time_to_impact_s", optional_seconds(judgement.time_to_impact)},
          {"time_to_recover_s", optional_seconds(judgement.time_to_recover)},
          {"predictions", std::move(predictions)},
          {"phases",
           {{"baseline", window_json(contents, timeline.baseline)},
            {"fault", window_json(contents, timeline.fault)},
            {"recovery", window_json(contents, timeline.recovery)}}},
          {"faults", faults_json(contents)},
          {"events", events_json(contents)},
          {"preflight", checks_json(contents)},
          {"plan", contents.plan() != nullptr ? model::to_json(*contents.plan()) : Json()},
          {"binding", contents.binding() != nullptr ? model::to_json(*contents.binding()) : Json()},
          {"proofs", document_of(contents.record(), "proofs")},
          {"host", document_of(contents.record(), "environment")},
          {"notes", texts_json(judgement.notes)}};
}

}  // namespace squall::report
