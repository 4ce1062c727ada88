#include "report/contents.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/text.h"
#include "report/words.h"

namespace squall::report {
namespace {

std::string text_of(const base::Json& json, const char* key) {
  const auto found = json.find(key);
  return found != json.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::vector<CheckResult> checks_of(const evidence::Record& record) {
  std::vector<CheckResult> checks;
  const base::Json document = document_of(record, "preflight");
  if (!document.is_array()) return checks;
  for (const base::Json& check : document) {
    if (!check.is_object()) continue;
    checks.push_back({text_of(check, "name"), text_of(check, "result"), text_of(check, "reason"),
                      text_of(check, "remedy")});
  }
  return checks;
}

std::optional<model::Plan> plan_of(const evidence::Record& record) {
  base::Json json = document_of(record, "plan");
  if (json.is_null()) {
    auto parsed = base::parse_json(record.header().plan);
    if (!parsed.ok()) return std::nullopt;
    json = *std::move(parsed);
  }
  auto plan = model::plan_from_json(json);
  if (!plan.ok()) return std::nullopt;
  return *std::move(plan);
}

std::optional<model::Binding> binding_of(const evidence::Record& record) {
  auto binding = model::binding_from_json(document_of(record, "binding"));
  if (!binding.ok()) return std::nullopt;
  return *std::move(binding);
}

VerdictCounts count_verdicts(const judge::Judgement& judgement) {
  VerdictCounts counts;
  for (const judge::PredictionResult& result : judgement.predictions) {
    switch (result.verdict) {
      case model::Verdict::kHeld:
        ++counts.held;
        break;
      case model::Verdict::kViolated:
        ++counts.violated;
        break;
      case model::Verdict::kInconclusive:
        ++counts.inconclusive;
        break;
      case model::Verdict::kNoData:
        ++counts.no_data;
        break;
    }
  }
  return counts;
}

std::vector<const judge::PredictionResult*> sort_by_weight(const judge::Judgement& judgement) {
  std::vector<const judge::PredictionResult*> results;
  for (const model::Verdict verdict : {model::Verdict::kViolated, model::Verdict::kNoData,
                                       model::Verdict::kInconclusive, model::Verdict::kHeld}) {
    for (const judge::PredictionResult& result : judgement.predictions)
      if (result.verdict == verdict) results.push_back(&result);
  }
  return results;
}

FaultFacts& facts_of(std::vector<FaultFacts>& faults, const std::string& name) {
  for (FaultFacts& fault : faults)
    if (fault.name == name) return fault;
  FaultFacts fault;
  fault.name = name;
  return faults.emplace_back(std::move(fault));
}

}  // namespace

base::Json document_of(const evidence::Record& record, std::string_view name) {
  const std::string* text = record.document(name);
  if (text == nullptr) return nullptr;
  auto parsed = base::parse_json(*text);
  if (!parsed.ok()) return nullptr;
  return *std::move(parsed);
}

std::string FaultFacts::kind() const {
  if (planned != nullptr) return planned->kind;
  return bound != nullptr ? bound->kind : std::string();
}

Contents::Contents(const RunView& view)
    : view_(view),
      timeline_(evidence::timeline_of(view.record)),
      plan_(view.plan),
      binding_(view.binding),
      checks_(checks_of(view.record)),
      counts_(count_verdicts(view.judgement)),
      by_weight_(sort_by_weight(view.judgement)) {
  if (plan_ == nullptr) {
    own_plan_ = plan_of(view.record);
    if (own_plan_) plan_ = &*own_plan_;
  }
  if (binding_ == nullptr) {
    own_binding_ = binding_of(view.record);
    if (own_binding_) binding_ = &*own_binding_;
  }
  if (plan_ != nullptr) {
    for (const model::PlannedFault& fault : plan_->faults)
      facts_of(faults_, fault.name).planned = &fault;
  }
  if (binding_ != nullptr) {
    for (const model::FaultBinding& fault : binding_->faults)
      facts_of(faults_, fault.fault).bound = &fault;
  }
  for (const evidence::FaultWindow& window : timeline_.faults)
    facts_of(faults_, window.name).window = &window;
}

std::string Contents::experiment_name() const {
  if (!header().experiment_name.empty()) return header().experiment_name;
  return plan_ != nullptr ? plan_->experiment : std::string("a run");
}

std::string Contents::scenario() const {
  if (plan_ != nullptr && !plan_->scenario.empty()) return plan_->scenario;
  return view_.experiment != nullptr ? view_.experiment->scenario : std::string();
}

std::string Contents::short_id() const {
  return header().run.empty() ? std::string() : header().run.short_text();
}

std::string Contents::started() const {
  return base::format_wall_time(record().wall_time(timeline_.start));
}

double Contents::offset_seconds(base::Instant at) const {
  // As doubles: moments of a foreign record may be any 64 bits apart.
  return (static_cast<double>(base::to_nanoseconds(at)) -
          static_cast<double>(base::to_nanoseconds(timeline_.start))) /
         1e9;
}

std::string Contents::offset(base::Instant at) const {
  return seconds_text(offset_seconds(at));
}

const model::Prediction* Contents::tree_of(const judge::PredictionResult& result) const {
  const auto find = [&](const std::vector<model::Prediction>& all) -> const model::Prediction* {
    const auto found = std::find_if(all.begin(), all.end(), [&](const model::Prediction& each) {
      return goes_by(result, each.name);
    });
    return found == all.end() ? nullptr : &*found;
  };
  if (result.steady_state) return view_.map == nullptr ? nullptr : find(view_.map->steady_state);
  return view_.experiment == nullptr ? nullptr : find(view_.experiment->hypothesis);
}

std::optional<evidence::Window> Contents::stretch_of(const judge::PredictionResult& result) const {
  const model::Prediction* tree = tree_of(result);
  if (tree != nullptr) {
    if (const auto* during = std::get_if<model::DuringClause>(&tree->when))
      return stretch_during(*during);
    if (const auto* within = std::get_if<model::WithinClause>(&tree->when))
      return stretch_within(*within);
    if (std::holds_alternative<model::AtEndClause>(tree->when))
      return evidence::Window{timeline_.start, timeline_.end};
  }
  if (result.phase == "baseline") return timeline_.baseline;
  if (result.phase == "fault") return timeline_.fault;
  if (result.phase == "recovery") return timeline_.recovery;
  const evidence::FaultWindow* fault = timeline_.find(result.phase);
  return fault != nullptr ? fault->active() : std::nullopt;
}

std::optional<evidence::Window> Contents::stretch_during(const model::DuringClause& during) const {
  std::optional<evidence::Window> stretch = timeline_.phase(during.phase);
  if (!during.fault_name.empty()) {
    const evidence::FaultWindow* fault = timeline_.find(during.fault_name);
    stretch = fault != nullptr ? fault->active() : std::nullopt;
  }
  if (!stretch) return std::nullopt;
  stretch->begin += during.from;
  if (stretch->end <= stretch->begin) return std::nullopt;
  return stretch;
}

std::optional<evidence::Window> Contents::stretch_within(const model::WithinClause& within) const {
  const bool inject = within.anchor == model::WithinClause::Anchor::kInject;
  std::optional<base::Instant> anchor;
  for (const evidence::FaultWindow& fault : timeline_.faults) {
    if (!within.fault_name.empty() && fault.name != within.fault_name) continue;
    if (inject && (!anchor || fault.inject < *anchor)) anchor = fault.inject;
    if (!inject && fault.revert && (!anchor || *fault.revert > *anchor)) anchor = fault.revert;
  }
  if (!anchor) return std::nullopt;
  const evidence::Window stretch{*anchor, std::min(*anchor + within.within, timeline_.end)};
  if (stretch.end <= stretch.begin) return std::nullopt;
  return stretch;
}

std::string Contents::reproduce_command() const {
  std::string command = "squall run ";
  command += shell_word(header().experiment_file.empty() ? experiment_name() + ".yaml"
                                                         : header().experiment_file);
  if (!header().system_map_file.empty())
    command += " --map " + shell_word(header().system_map_file);
  if (!header().environment.empty()) command += " --env " + shell_word(header().environment);
  return command;
}

}  // namespace squall::report
