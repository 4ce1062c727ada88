#include "judge/prediction_judge.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "judge/moments.h"
#include "judge/wording.h"
#include "model/prediction_language.h"

namespace squall::judge {
namespace {

using evidence::Window;
using model::Comparator;
using model::Verdict;

constexpr std::int64_t kMostWindows = 10'000;  // of a search; then its steps grow
constexpr base::Duration kEver = std::chrono::hours(24 * 365);

PredictionResult blank(const model::Prediction& prediction, std::string phase) {
  PredictionResult result;
  result.name = prediction.name;
  result.text = prediction.text.empty() ? model::print(prediction) : prediction.text;
  result.phase = std::move(phase);
  result.dimension = prediction.left->dimension;
  return result;
}

void conclude(PredictionResult& result, Verdict verdict, std::string reason) {
  result.verdict = verdict;
  result.reason = std::move(reason);
}

std::optional<double> if_finite(double value) {
  return std::isfinite(value) ? std::optional(value) : std::nullopt;
}

void fill_numbers(PredictionResult& result, const Sides& sides, DecideBy by) {
  const Estimate& left = sides.left;
  result.observed = left.bounded.value;
  if (!left.exact || left.incomplete) {
    result.interval_low = if_finite(left.bounded.interval.low);
    result.interval_high = if_finite(left.bounded.interval.high);
  }
  result.threshold = sides.right.bounded.value;
  if (sides.high) result.threshold_high = sides.high->bounded.value;
  result.samples = left.samples;
  result.effective_samples = left.exact ? 0 : left.effective;
  const bool two_sided = !left.exact && !sides.right.exact;
  result.method = by == DecideBy::kPoint && !left.exact ? "the observed value alone"
                  : two_sided ? "difference of both sides' intervals (MOVER), 95 %"
                  : left.exact && !sides.right.exact ? sides.right.method
                                                     : left.method;
}

// How far a sample is from satisfying; above zero it does not.
double excess(const model::Prediction& prediction, const Sides& sides) {
  const double over = sides.left.bounded.value - sides.right.bounded.value;
  if (sides.high) return std::max(-over, sides.left.bounded.value - sides.high->bounded.value);
  switch (prediction.comparator) {
    case Comparator::kLess:
    case Comparator::kLessEqual:
      return over;
    case Comparator::kGreater:
    case Comparator::kGreaterEqual:
      return -over;
    case Comparator::kEqual:
      return std::abs(over);
    case Comparator::kNotEqual:
      return -std::abs(over);
  }
  return over;
}

std::string phase_name(const model::Prediction& prediction) {
  if (const auto* during = std::get_if<model::DuringClause>(&prediction.when)) {
    return std::string(
        model::to_string(during->fault_name.empty() ? during->phase : model::PhaseKind::kFault));
  }
  if (const auto* within = std::get_if<model::WithinClause>(&prediction.when)) {
    return within->anchor == model::WithinClause::Anchor::kInject ? "fault" : "recovery";
  }
  return std::holds_alternative<model::AtEndClause>(prediction.when) ? "end" : "fault";
}

// Sides over a window, with their explanations.
std::optional<Sides> sides_of(const Evaluator& evaluator, const model::Prediction& prediction,
                              const Window& window, Explanation* explanation,
                              std::string& missing) {
  const auto part = [explanation]() {
    return explanation == nullptr ? nullptr : &explanation->parts.emplace_back();
  };
  const Reading left = evaluator.evaluate(*prediction.left, window, part());
  const Reading right = evaluator.evaluate(*prediction.right, window, part());
  Reading high;
  if (prediction.right_high) high = evaluator.evaluate(*prediction.right_high, window, part());
  for (const Reading& reading : {std::cref(left), std::cref(right), std::cref(high)}) {
    if (!reading.missing.empty() && missing.empty()) missing = reading.missing;
  }
  if (!missing.empty()) return std::nullopt;
  return Sides{*left.estimate, *right.estimate, high.estimate};
}

}  // namespace

PredictionResult PredictionJudge::hypothesis(const model::Prediction& prediction) const {
  PredictionResult result = blank(prediction, phase_name(prediction));
  if (const auto* during = std::get_if<model::DuringClause>(&prediction.when)) {
    judge_during(prediction, stretch_of(*during), result);
  } else if (const auto* within = std::get_if<model::WithinClause>(&prediction.when)) {
    judge_within(prediction, *within, result);
  } else if (std::holds_alternative<model::AtEndClause>(prediction.when)) {
    judge_at_end(prediction, result);
  } else {
    judge_during(prediction, stretch_of(model::DuringClause{}), result);
  }
  result.explanation.text = result.text;
  result.explanation.value = std::string(model::to_string(result.verdict));
  result.explanation.evidence = result.reason;
  return result;
}

PredictionResult PredictionJudge::steady_state(const model::Prediction& prediction,
                                               model::PhaseKind phase) const {
  const std::string phase_text(model::to_string(phase));
  PredictionResult result = blank(prediction, phase_text);
  result.steady_state = true;
  result.name = fmt::format("{} ({})", prediction.name, phase_text);
  const auto window = facts_.timeline.phase(phase);
  if (!window) {
    conclude(result, Verdict::kInconclusive, fmt::format("the run has no {}", phase_text));
  } else if (phase != model::PhaseKind::kRecovery) {
    judge_stretch(prediction, *window, result);
    doubt({prediction, true, *window}, result);
  } else {
    const Moments moments = find_moments(evaluator_, prediction, *window, window->end);
    Window decided = *window;
    if (moments.first_violation && !moments.returned) {
      judge_stretch(prediction, *window, result);
      if (result.verdict != Verdict::kNoData) {
        conclude(result, Verdict::kViolated, "it was still violated when the run ended");
      }
    } else {
      decided.begin = moments.returned.value_or(window->begin);
      judge_stretch(prediction, decided, result);
      if (result.verdict != Verdict::kNoData) result.returned = decided.begin;
    }
    result.first_violation = moments.first_violation;
    // What the load did while the system was still broken does not count against it.
    doubt({prediction, true, decided}, result);
  }
  result.explanation.text = result.text;
  result.explanation.value = std::string(model::to_string(result.verdict));
  result.explanation.evidence = result.reason;
  return result;
}

PredictionJudge::Stretch PredictionJudge::stretch_of(const model::DuringClause& during) const {
  const evidence::Timeline& timeline = facts_.timeline;
  std::optional<Window> window;
  if (!during.fault_name.empty()) {
    const evidence::FaultWindow* fault = timeline.find(during.fault_name);
    if (fault == nullptr) {
      return {std::nullopt, fmt::format("fault `{}` was never injected", during.fault_name)};
    }
    window = fault->active();
    if (!window) return {std::nullopt, why_without_effect(*fault)};
  } else {
    window = timeline.phase(during.phase);
  }
  if (!window && during.phase == model::PhaseKind::kFault) {
    for (const evidence::FaultWindow& fault : timeline.faults) {
      if (auto why = why_without_effect(fault); !why.empty()) return {std::nullopt, why};
    }
  }
  if (!window) {
    return {std::nullopt,
            fmt::format("the run never came to the {} phase", model::to_string(during.phase))};
  }
  const base::Duration length = window->length();
  window->begin += std::min(during.from, kEver);
  if (window->begin >= window->end) {
    return {std::nullopt, fmt::format("the phase lasted only {}, and this is asked from {} on",
                                      base::humanize(length), base::format_duration(during.from))};
  }
  return {window, {}};
}

PredictionJudge::Stretch PredictionJudge::search_of(const model::WithinClause& within) const {
  const bool from_inject = within.anchor == model::WithinClause::Anchor::kInject;
  std::optional<base::Instant> anchor;
  std::string named = within.fault_name;
  for (const evidence::FaultWindow& fault : facts_.timeline.faults) {
    if (!named.empty() && fault.name != named) continue;
    if (from_inject) {
      const auto active = fault.active();
      const base::Instant begin = active ? active->begin : fault.inject;
      if (!anchor || begin < *anchor) anchor = begin;
    } else if (fault.revert && (!anchor || *fault.revert > *anchor)) {
      anchor = fault.revert;
    }
  }
  if (!anchor) {
    return {std::nullopt, fmt::format("no {} is on record", from_inject ? "fault" : "revert")};
  }
  return {Window{*anchor, *anchor + std::min(within.within, kEver)}, {}};
}

void PredictionJudge::judge_during(const model::Prediction& prediction, const Stretch& stretch,
                                   PredictionResult& result) const {
  if (!stretch.window) return conclude(result, Verdict::kInconclusive, stretch.why_not);
  judge_stretch(prediction, *stretch.window, result);
  const bool in_baseline = result.phase == "baseline";
  const Moments moments = find_moments(evaluator_, prediction, *stretch.window,
                                       in_baseline ? stretch.window->end : facts_.timeline.end);
  result.first_violation = moments.first_violation;
  result.returned = moments.returned;
  doubt({prediction, false, *stretch.window}, result);
}

void PredictionJudge::judge_stretch(const model::Prediction& prediction, const Window& window,
                                    PredictionResult& result) const {
  if (asks_every_sample(prediction)) return judge_samples(prediction, window, result);
  std::string missing;
  result.explanation.parts.clear();
  const auto sides = sides_of(evaluator_, prediction, window, &result.explanation, missing);
  if (!sides) return conclude(result, Verdict::kNoData, missing);
  const DecideBy by = decide_by(prediction);
  const Verdict verdict = decide(prediction, *sides, by);
  fill_numbers(result, *sides, by);
  conclude(result, verdict, comparison_sentence(prediction, *sides, verdict, by));
}

void PredictionJudge::judge_samples(const model::Prediction& prediction, const Window& window,
                                    PredictionResult& result) const {
  const EverySample samples = every_sample(evaluator_, prediction, window);
  if (samples.moments.empty()) return conclude(result, Verdict::kNoData, samples.missing);
  const MomentSides* worst = nullptr;
  std::uint64_t bad = 0;
  std::uint64_t undecided = 0;  // not a number
  for (const MomentSides& moment : samples.moments) {
    const Verdict verdict = decide(prediction, moment.sides, DecideBy::kPoint);
    if (verdict == Verdict::kViolated) ++bad;
    if (verdict == Verdict::kInconclusive) ++undecided;
    if (worst == nullptr || excess(prediction, moment.sides) > excess(prediction, worst->sides)) {
      worst = &moment;
    }
  }
  fill_numbers(result, worst->sides, DecideBy::kPoint);
  result.samples = samples.moments.size();
  result.method = "exact, every sample";
  const std::string value = describe_number(*result.observed, result.dimension);
  result.explanation.parts.assign(
      1, {model::print(*prediction.left),
          value,
          fmt::format("the worst of {} samples, at {}; {}", base::humanize_count(result.samples),
                      evaluator_.describe(worst->at), evaluator_.describe(window)),
          {}});
  if (bad == 0 && undecided > 0) {
    return conclude(result, Verdict::kInconclusive,
                    fmt::format("{} of {} samples are not numbers", base::humanize_count(undecided),
                                base::humanize_count(result.samples)));
  }
  if (bad == 0) {
    return conclude(result, Verdict::kHeld,
                    fmt::format("all {} samples satisfy it; the worst was {}",
                                base::humanize_count(result.samples), value));
  }
  conclude(result, Verdict::kViolated,
           fmt::format("{} of {} samples do not satisfy it; the worst was {}, {} after the start",
                       base::humanize_count(bad), base::humanize_count(result.samples), value,
                       evaluator_.describe(worst->at)));
}

// ---- within ------------------------------------------------------------------------------------

void PredictionJudge::judge_within(const model::Prediction& prediction,
                                   const model::WithinClause& within,
                                   PredictionResult& result) const {
  const Stretch stretch = search_of(within);
  if (!stretch.window) return conclude(result, Verdict::kInconclusive, stretch.why_not);
  const Window search = *stretch.window;
  Window decided = search;
  if (asks_every_sample(prediction))
    search_samples(prediction, within, decided, result);
  else
    search_windows(prediction, within, decided, result);
  // A run that ended before the limit may still have made it; a second is what a sample may be
  // late.
  const base::Instant end = facts_.timeline.end;
  if (result.verdict == Verdict::kViolated && end + std::chrono::seconds(1) < search.end) {
    conclude(result, Verdict::kInconclusive,
             fmt::format("it had not come to hold when the record ended, {} before the limit",
                         base::humanize(search.end - end)));
  }
  const base::Instant from =
      facts_.timeline.fault ? std::min(facts_.timeline.fault->begin, search.begin) : search.begin;
  const Moments moments =
      find_moments(evaluator_, prediction, {from, std::min(search.end, end)}, facts_.timeline.end);
  result.first_violation = moments.first_violation;
  result.returned = moments.returned;
  doubt({prediction, false, decided}, result);
}

void PredictionJudge::search_samples(const model::Prediction& prediction,
                                     const model::WithinClause& within, Window& search,
                                     PredictionResult& result) const {
  const Window upto{search.begin, search.end + base::Duration(1)};
  judge_samples(prediction, upto, result);
  if (result.verdict == Verdict::kNoData) return;
  const EverySample samples = every_sample(evaluator_, prediction, upto);
  std::optional<base::Instant> good_since;
  base::Duration best{};
  for (const MomentSides& moment : samples.moments) {
    if (decide(prediction, moment.sides, DecideBy::kPoint) != Verdict::kHeld) {
      good_since.reset();
      continue;
    }
    if (!good_since) good_since = moment.at;
    best = std::max(best, moment.at - *good_since);
    if (moment.at - *good_since < within.hold_for) continue;
    fill_numbers(result, moment.sides, DecideBy::kPoint);
    result.samples = samples.moments.size();
    result.method = "exact, every sample";
    conclude(result, Verdict::kHeld, held_within_sentence(within, *good_since - search.begin));
    search = {*good_since, moment.at + base::Duration(1)};
    return;
  }
  conclude(result, Verdict::kViolated,
           within.hold_for > base::Duration::zero()
               ? fmt::format("it never held for {} within {}; the longest was {}",
                             base::format_duration(within.hold_for),
                             base::format_duration(within.within), base::humanize(best))
               : fmt::format("it never held within {}; the last value was {}",
                             base::format_duration(within.within),
                             describe_number(samples.moments.back().sides.left.bounded.value,
                                             result.dimension)));
}

void PredictionJudge::search_windows(const model::Prediction& prediction,
                                     const model::WithinClause& within, Window& search,
                                     PredictionResult& result) const {
  const base::Duration length =
      within.hold_for > base::Duration::zero() ? within.hold_for : kMomentWindow;
  const base::Instant end = std::min(search.end, facts_.timeline.end);
  const base::Duration step =
      std::max({evidence::kBucketWidth, length / 50, (end - search.begin) / kMostWindows});
  const DecideBy by = decide_by(prediction);
  std::optional<Sides> closest;  // held by the observed value, if not by its interval
  std::optional<Sides> latest;
  std::string missing;
  for (base::Instant begin = search.begin; begin + length <= end; begin += step) {
    std::string none;
    const auto sides = sides_of(evaluator_, prediction, {begin, begin + length}, nullptr, none);
    if (!sides) {
      missing = none;
      continue;
    }
    latest = sides;
    if (decide(prediction, *sides, by) == Verdict::kHeld) {
      fill_numbers(result, *sides, by);
      sides_of(evaluator_, prediction, {begin, begin + length}, &result.explanation, none);
      conclude(result, Verdict::kHeld, held_within_sentence(within, begin - search.begin));
      search = {begin, begin + length};
      return;
    }
    if (decide(prediction, *sides, DecideBy::kPoint) == Verdict::kHeld) closest = sides;
  }
  if (!latest) {
    return conclude(result, Verdict::kNoData,
                    missing.empty() ? "the record ends before a first window" : missing);
  }
  fill_numbers(result, closest ? *closest : *latest, by);
  if (closest) {
    return conclude(result, Verdict::kInconclusive,
                    fmt::format("windows of {} hold too few samples: some satisfy it by their "
                                "observed value, none with its whole interval",
                                base::format_duration(length)));
  }
  conclude(result, Verdict::kViolated,
           fmt::format("no window of {} satisfied it within {}; the last was {}",
                       base::format_duration(length), base::format_duration(within.within),
                       describe_value(latest->left, result.dimension)));
}

// ---- at end ------------------------------------------------------------------------------------

void PredictionJudge::judge_at_end(const model::Prediction& prediction,
                                   PredictionResult& result) const {
  const Window whole{facts_.timeline.start, evaluator_.record().last_instant() + base::Duration(1)};
  if (asks_every_sample(prediction)) {
    const EverySample samples = every_sample(evaluator_, prediction, whole);
    if (samples.moments.empty()) return conclude(result, Verdict::kNoData, samples.missing);
    const MomentSides& last = samples.moments.back();
    const Verdict verdict = decide(prediction, last.sides, DecideBy::kPoint);
    fill_numbers(result, last.sides, DecideBy::kPoint);
    result.samples = 1;
    conclude(
        result, verdict,
        fmt::format("the last sample, {} after the start, was {}", evaluator_.describe(last.at),
                    describe_number(last.sides.left.bounded.value, result.dimension)));
  } else {
    judge_stretch(prediction, whole, result);
  }
  const Moments moments = find_moments(evaluator_, prediction, whole, whole.end);
  result.first_violation = moments.first_violation;
  result.returned = moments.returned;
  doubt({prediction, false, whole}, result);
}

void PredictionJudge::doubt(const Asked& asked, PredictionResult& result) const {
  std::string why = doubts_.about(asked, result.verdict);
  if (why.empty()) return;
  conclude(result, Verdict::kInconclusive,
           fmt::format("{}; without that: {}, {}", why, model::to_string(result.verdict),
                       result.reason));
}

}  // namespace squall::judge
