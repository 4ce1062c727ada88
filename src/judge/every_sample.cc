// Predictions that name a gauge bare: every sample must satisfy.

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "judge/moments.h"
#include "model/prediction_language.h"

namespace squall::judge {
namespace {

using model::Expression;

void collect_gauges(const Expression& expression, std::vector<model::Signal>& gauges) {
  if (model::is_bare_gauge(expression)) {
    gauges.push_back(std::get<model::Signal>(expression.node));
  } else if (const auto* binary = std::get_if<model::Binary>(&expression.node)) {
    collect_gauges(*binary->left, gauges);
    collect_gauges(*binary->right, gauges);
  } else if (const auto* negate = std::get_if<model::Negate>(&expression.node)) {
    collect_gauges(*negate->inner, gauges);
  }
}

std::vector<model::Signal> bare_gauges_of(const model::Prediction& prediction) {
  std::vector<model::Signal> gauges;
  collect_gauges(*prediction.left, gauges);
  collect_gauges(*prediction.right, gauges);
  if (prediction.right_high) collect_gauges(*prediction.right_high, gauges);
  return gauges;
}

// Evaluates expressions at a moment; what does not depend on the moment is evaluated once.
class AtMoment {
 public:
  AtMoment(const Evaluator& evaluator, const evidence::Window& stretch)
      : evaluator_(evaluator), stretch_(stretch) {}

  Reading evaluate(const Expression& expression, base::Instant at) {
    if (model::is_bare_gauge(expression)) {
      return latest(std::get<model::Signal>(expression.node), at);
    }
    if (const auto* binary = std::get_if<model::Binary>(&expression.node)) {
      if (depends(expression)) {
        const Reading left = evaluate(*binary->left, at);
        if (!left.estimate) return left;
        const Reading right = evaluate(*binary->right, at);
        if (!right.estimate) return right;
        return combine(binary->operation, *left.estimate, *right.estimate);
      }
    } else if (const auto* negate = std::get_if<model::Negate>(&expression.node)) {
      if (depends(expression)) return negated(evaluate(*negate->inner, at));
    }
    const auto [entry, fresh] = settled_.try_emplace(&expression);
    if (fresh) entry->second = evaluator_.evaluate(expression, stretch_);
    return entry->second;
  }

 private:
  bool depends(const Expression& expression) {
    const auto [entry, fresh] = depends_.try_emplace(&expression, false);
    if (fresh) {
      std::vector<model::Signal> gauges;
      collect_gauges(expression, gauges);
      entry->second = !gauges.empty();
    }
    return entry->second;
  }

  Reading latest(const model::Signal& signal, base::Instant at) const {
    const evidence::Series* series = evaluator_.numbers(signal.source, signal.field);
    if (series == nullptr) {
      return {
          .estimate = std::nullopt,
          .missing = fmt::format("the record has no signal `{}.{}`", signal.source, signal.field)};
    }
    const auto after = std::upper_bound(
        series->samples.begin(), series->samples.end(), at,
        [](base::Instant moment, const evidence::GaugeSample& s) { return moment < s.at; });
    if (after == series->samples.begin()) {
      return {.estimate = std::nullopt,
              .missing = fmt::format("`{}` has no sample yet", series->declaration.name)};
    }
    return {.estimate = exact_estimate(std::prev(after)->value, 1), .missing = {}};
  }

  const Evaluator& evaluator_;
  evidence::Window stretch_;
  std::map<const Expression*, Reading> settled_;
  std::map<const Expression*, bool> depends_;
};

}  // namespace

bool asks_every_sample(const model::Prediction& prediction) {
  return !bare_gauges_of(prediction).empty();
}

EverySample every_sample(const Evaluator& evaluator, const model::Prediction& prediction,
                         const evidence::Window& stretch) {
  EverySample result;
  std::vector<base::Instant> times;
  for (const model::Signal& gauge : bare_gauges_of(prediction)) {
    const evidence::Series* series = evaluator.numbers(gauge.source, gauge.field);
    if (series == nullptr) {
      result.missing = fmt::format("the record has no signal `{}.{}`", gauge.source, gauge.field);
      return result;
    }
    const auto samples = samples_within(*series, stretch);
    if (samples.empty()) {
      result.missing = fmt::format("`{}` has no sample from {}", series->declaration.name,
                                   evaluator.describe(stretch));
      return result;
    }
    for (const evidence::GaugeSample& sample : samples) times.push_back(sample.at);
  }
  std::sort(times.begin(), times.end());
  times.erase(std::unique(times.begin(), times.end()), times.end());
  AtMoment at_moment(evaluator, stretch);
  for (const base::Instant at : times) {
    const Reading left = at_moment.evaluate(*prediction.left, at);
    const Reading right = at_moment.evaluate(*prediction.right, at);
    const Reading high =
        prediction.right_high ? at_moment.evaluate(*prediction.right_high, at) : Reading{};
    if (!left.estimate || !right.estimate || (prediction.right_high && !high.estimate)) {
      result.missing = !left.estimate    ? left.missing
                       : !right.estimate ? right.missing
                                         : high.missing;
      continue;  // another gauge may not have begun yet
    }
    result.moments.push_back({at, {*left.estimate, *right.estimate, high.estimate}});
  }
  return result;
}

}  // namespace squall::judge
