#include "judge/judge.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>

#include "judge/moments.h"
#include "judge/prediction_judge.h"
#include "judge/run_facts.h"
#include "model/prediction/walk.h"
#include "model/prediction_language.h"

namespace squall::judge {
namespace {

using model::PhaseKind;
using model::RunVerdict;
using model::Verdict;

// A judge that fails says so of the one prediction and goes on with the others.
template <typename Judging>
PredictionResult guarded(const model::Prediction& prediction, const Judging& judging) {
  std::string failure = "the prediction is incomplete";
  try {
    if (prediction.left && prediction.right) return judging();
  } catch (const std::exception& error) {
    failure = error.what();
  }
  PredictionResult result;
  result.name = prediction.name;
  result.text = prediction.text;
  result.verdict = Verdict::kInconclusive;
  result.reason = "the judge failed: " + failure;
  return result;
}

// `held` when all held, `refuted` when all that were decided are violated, `mixed` when both occur,
// else `inconclusive`. A steady state that held is the condition of the experiment, not its claim:
// it counts only when it did not hold, so that one refuted prediction beside a healthy baseline is
// `refuted`.
RunVerdict run_verdict(const std::vector<PredictionResult>& results) {
  int held = 0;
  int violated = 0;
  int undecided = 0;
  for (const PredictionResult& result : results) {
    if (result.steady_state && result.verdict == Verdict::kHeld) continue;
    held += result.verdict == Verdict::kHeld;
    violated += result.verdict == Verdict::kViolated;
    undecided += result.verdict == Verdict::kInconclusive || result.verdict == Verdict::kNoData;
  }
  if (violated > 0) return held > 0 ? RunVerdict::kMixed : RunVerdict::kRefuted;
  if (undecided > 0) return RunVerdict::kInconclusive;
  return results.empty() ? RunVerdict::kNone : RunVerdict::kHeld;
}

std::optional<base::Instant> first_effect(const evidence::Timeline& timeline) {
  std::optional<base::Instant> first;
  for (const evidence::FaultWindow& fault : timeline.faults) {
    const auto active = fault.active();
    if (active && (!first || active->begin < *first)) first = active->begin;
  }
  return first;
}

void keep_earliest(std::optional<base::Instant>& earliest, std::optional<base::Instant> moment,
                   base::Instant not_before) {
  if (moment && *moment >= not_before && (!earliest || *moment < *earliest)) earliest = moment;
}

std::optional<base::Duration> time_to_impact(const Question& question, const RunFacts& facts,
                                             const Evaluator& evaluator,
                                             const std::vector<PredictionResult>& results) {
  const auto effect = first_effect(facts.timeline);
  if (!effect) return std::nullopt;
  std::optional<base::Instant> impact;
  for (const PredictionResult& result : results) {
    if (!result.steady_state) keep_earliest(impact, result.first_violation, *effect);
  }
  // The steady state is not asked during the fault, but its leaving it is what impact means.
  const evidence::Window after{*effect, facts.timeline.end};
  for (const model::Prediction& prediction : question.map.steady_state) {
    if (!prediction.left || !prediction.right) continue;
    keep_earliest(impact,
                  find_moments(evaluator, prediction, after, facts.timeline.end).first_violation,
                  *effect);
  }
  if (!impact) return std::nullopt;
  return *impact - *effect;
}

// Abort rules that compare with the baseline, which is read from the record.
std::vector<model::Prediction> baseline_rules(const std::vector<model::Prediction>& rules) {
  std::vector<model::Prediction> found;
  for (const model::Prediction& rule : rules) {
    if (!rule.left || !rule.right) continue;
    bool compares = false;
    model::visit_expressions(rule, [&](const model::Expression& part) {
      compares = compares || std::holds_alternative<model::Baseline>(part.node);
    });
    if (compares) found.push_back(rule);
  }
  return found;
}

std::optional<base::Duration> time_to_recover(const RunFacts& facts,
                                              const std::vector<PredictionResult>& results) {
  if (!facts.timeline.recovery || facts.timeline.faults.empty()) return std::nullopt;
  const base::Instant revert = facts.timeline.recovery->begin;
  std::optional<base::Instant> back;
  for (const PredictionResult& result : results) {
    if (!result.steady_state || result.phase != model::to_string(PhaseKind::kRecovery)) continue;
    if (!result.returned) return std::nullopt;
    back = std::max(back.value_or(revert), *result.returned);
  }
  if (!back) return std::nullopt;
  return *back - revert;
}

// Every signal that a prediction reads, with an empty field where it speaks of all requests of a
// probe. What counts writes by their fate is known at the end only and is left out.
template <typename Visit>
void visit_signals(const model::Prediction& prediction, const Visit& visit) {
  model::visit_expressions(prediction, [&](const model::Expression& part) {
    if (const auto* signal = std::get_if<model::Signal>(&part.node)) {
      visit(*signal);
    } else if (const auto* aggregate = std::get_if<model::Aggregate>(&part.node)) {
      visit(aggregate->signal);
    } else if (const auto* share = std::get_if<model::Share>(&part.node)) {
      visit(model::subject_of(*share->condition));
    } else if (const auto* time = std::get_if<model::TimeTrue>(&part.node)) {
      visit(model::subject_of(*time->condition));
    }
  });
}

// Whether a prediction reads the gauge or counter `source.field`.
bool reads_number(const model::Prediction& prediction, std::string_view source,
                  std::string_view field) {
  bool reads = false;
  visit_signals(prediction, [&](const model::Signal& signal) {
    // count(log) means the one counter of `log`.
    reads = reads || (signal.source == source && (signal.field == field || signal.field.empty()));
  });
  return reads;
}

bool has_data(const Evaluator& evaluator, const model::Signal& signal,
              const evidence::Window& window) {
  if (const auto* numbers = evaluator.numbers(signal.source, signal.field)) {
    // A counter that counted nothing has counted.
    return numbers->declaration.kind == evidence::SeriesKind::kCounter ||
           !samples_within(*numbers, window).empty();
  }
  const auto* requests = evaluator.requests(signal.source, nullptr);
  if (requests == nullptr) return false;
  const auto buckets = buckets_within(*requests, window);
  return std::any_of(buckets.begin(), buckets.end(),
                     [](const auto& bucket) { return bucket.count() > 0; });
}

constexpr base::Duration kLongestRun = std::chrono::hours(24 * 90);
constexpr base::Duration kClockSlack = std::chrono::hours(1);

// A record may come from anywhere. With times that no run can have nothing can be computed, safely
// or otherwise.
bool has_plausible_times(const evidence::Record& record) {
  const base::Instant start = record.header().boot_start;
  if (start < base::Instant{} || start > base::Instant{kLongestRun * 100}) return false;
  const auto fits = [&](base::Instant at) {
    return at >= start - kClockSlack && at <= start + kLongestRun;
  };
  if (!fits(record.last_instant())) return false;
  for (const evidence::Event& event : record.events()) {
    if (!fits(event.at)) return false;
  }
  for (const evidence::RecordGap& gap : record.gaps()) {
    if (!fits(gap.after) || !fits(gap.before)) return false;
  }
  for (const evidence::Series& series : record.series()) {
    const auto& buckets = series.buckets;
    const auto& samples = series.samples;
    if (!buckets.empty() && !(fits(buckets.front().start) && fits(buckets.back().start))) {
      return false;
    }
    if (!samples.empty() && !(fits(samples.front().at) && fits(samples.back().at))) return false;
    for (const evidence::WriteRecord& write : series.writes) {
      if (!fits(write.sent)) return false;
    }
  }
  return true;
}

Judgement unjudged(const Question& question, const std::string& reason) {
  Judgement judgement;
  const auto add = [&](const model::Prediction& prediction, bool steady_state) {
    PredictionResult& result = judgement.predictions.emplace_back();
    result.name = prediction.name;
    result.text = prediction.text;
    result.steady_state = steady_state;
    result.verdict = Verdict::kInconclusive;
    result.reason = reason;
  };
  for (const auto& prediction : question.experiment.hypothesis) add(prediction, false);
  for (const auto& prediction : question.map.steady_state) add(prediction, true);
  judgement.verdict = RunVerdict::kInconclusive;
  judgement.outcome = model::Outcome::kErrored;
  judgement.outcome_reason = reason;
  judgement.reverts_verified = false;
  judgement.effect_proven = false;
  judgement.notes = {reason};
  return judgement;
}

Judgement judged(const Question& question) {
  if (!has_plausible_times(question.record)) {
    return unjudged(question, "the record's times are not those of a run");
  }
  Judgement judgement;
  const RunFacts facts = facts_of(question.record);
  const Evaluator evaluator(question.record, facts.timeline);
  const PredictionJudge judge(question, facts, evaluator);
  judgement.outcome = facts.outcome;
  judgement.outcome_reason = facts.outcome_reason;
  judgement.effect_proven = facts.effect_proven;
  judgement.reverts_verified = facts.reverts_verified;
  for (const model::Prediction& prediction : question.experiment.hypothesis) {
    judgement.predictions.push_back(
        guarded(prediction, [&] { return judge.hypothesis(prediction); }));
  }
  for (const PhaseKind phase : {PhaseKind::kBaseline, PhaseKind::kRecovery}) {
    for (const model::Prediction& prediction : question.map.steady_state) {
      judgement.predictions.push_back(
          guarded(prediction, [&] { return judge.steady_state(prediction, phase); }));
      judgement.predictions.back().steady_state = true;
    }
  }
  judgement.verdict = run_verdict(judgement.predictions);
  judgement.time_to_impact = time_to_impact(question, facts, evaluator, judgement.predictions);
  judgement.time_to_recover = time_to_recover(facts, judgement.predictions);
  judgement.notes = Doubts(question, facts, evaluator).notes();
  return judgement;
}

}  // namespace

Judgement judge(const Question& question) {
  try {
    return judged(question);
  } catch (const std::exception& error) {
    return unjudged(question, fmt::format("the judge failed: {}", error.what()));
  }
}

std::vector<std::string> signals_without_data(const Question& question) {
  const evidence::Timeline timeline = evidence::timeline_of(question.record);
  const Evaluator evaluator(question.record, timeline);
  std::vector<std::string> missing;
  const auto look = [&](const model::Prediction& prediction) {
    if (!prediction.left || !prediction.right) return;
    visit_signals(prediction, [&](const model::Signal& signal) {
      const auto& probes = question.map.probes;
      const bool probed = std::any_of(probes.begin(), probes.end(), [&](const auto& probe) {
        return probe.name == signal.source;
      });
      if (!probed) return;
      if (timeline.baseline && has_data(evaluator, signal, *timeline.baseline)) return;
      std::string name = signal.source;
      if (!signal.field.empty()) name += "." + signal.field;
      if (std::find(missing.begin(), missing.end(), name) == missing.end()) {
        missing.push_back(std::move(name));
      }
    });
  };
  for (const auto& prediction : question.experiment.hypothesis) look(prediction);
  for (const auto& prediction : question.map.steady_state) look(prediction);
  return missing;
}

std::optional<double> baseline_value(const evidence::Record& record,
                                     const model::Expression& inner) {
  if (!has_plausible_times(record)) return std::nullopt;
  const evidence::Timeline timeline = evidence::timeline_of(record);
  if (!timeline.baseline) return std::nullopt;
  const Reading reading = Evaluator(record, timeline).evaluate(inner, *timeline.baseline);
  if (!reading.estimate) return std::nullopt;
  return reading.estimate->bounded.value;
}

bool needs_series(const model::SystemMap& map, const model::Experiment& experiment,
                  const evidence::SeriesDeclaration& declaration) {
  const auto needs = [&](const std::vector<model::Prediction>& predictions) {
    return std::any_of(predictions.begin(), predictions.end(), [&](const auto& prediction) {
      if (!prediction.left || !prediction.right) return false;
      const auto sources = model::sources_of(prediction);
      if (std::find(sources.begin(), sources.end(), declaration.name) != sources.end()) return true;
      if (declaration.kind == evidence::SeriesKind::kRequests) {
        const auto slices = model::slices_of(prediction);
        return std::any_of(slices.begin(), slices.end(),
                           [&](const model::Slice& slice) { return slice.id == declaration.name; });
      }
      // Numbers are named "source.field".
      const auto dot = declaration.name.rfind('.');
      if (dot == std::string::npos) return false;
      return reads_number(prediction, std::string_view(declaration.name).substr(0, dot),
                          std::string_view(declaration.name).substr(dot + 1));
    });
  };
  return needs(experiment.hypothesis) || needs(map.steady_state) ||
         needs(baseline_rules(experiment.abort_when)) || needs(baseline_rules(map.abort_when));
}

}  // namespace squall::judge
