// Before anything is broken: can the planned traffic decide a prediction? Best case throughout: no
// autocorrelation, no failures. What is not decidable so will not be in the run either.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "judge/judge.h"
#include "judge/statistics.h"
#include "model/prediction/walk.h"
#include "model/prediction_language.h"

namespace squall::judge {
namespace {

using base::Duration;
using model::Experiment;
using model::Expression;
using model::Prediction;
using model::SystemMap;

constexpr std::uint64_t kMeanSamples = 30;  // below, a mean is hardly normally distributed
constexpr std::chrono::seconds kRemedyStep{5};

// A stretch of the plan, counted from the start of the run.
struct Stretch {
  Duration begin{};
  Duration length{};
  std::string remedy;  // what to make longer
};

Duration fault_length(const Experiment& experiment, const std::string& name) {
  Duration first = Duration::max();
  Duration last{};
  for (const model::FaultSpecification& fault : experiment.faults) {
    if (!name.empty() && fault.name != name) continue;
    first = std::min(first, fault.at);
    last = std::max(last, fault.at + fault.duration);
  }
  return last > first ? last - first : Duration{};
}

Stretch baseline_of(const Experiment& experiment) {
  return {Duration{}, experiment.phases.baseline, "the baseline"};
}

Stretch stretch_of(const Prediction& prediction, const Experiment& experiment) {
  const Duration fault = fault_length(experiment, {});
  const Duration recovery_begin = experiment.phases.baseline + fault;
  if (const auto* during = std::get_if<model::DuringClause>(&prediction.when)) {
    Stretch stretch = baseline_of(experiment);
    if (during->phase == model::PhaseKind::kFault || !during->fault_name.empty()) {
      stretch = {experiment.phases.baseline, fault_length(experiment, during->fault_name),
                 "the fault"};
    } else if (during->phase == model::PhaseKind::kRecovery) {
      stretch = {recovery_begin, experiment.phases.recovery, "the recovery"};
    }
    stretch.begin += during->from;
    stretch.length = std::max(Duration{}, stretch.length - during->from);
    return stretch;
  }
  if (const auto* within = std::get_if<model::WithinClause>(&prediction.when)) {
    return {recovery_begin,
            within->hold_for > Duration{} ? within->hold_for : model::kDefaultAbortWindow, "`for`"};
  }
  if (const auto* over = std::get_if<model::OverClause>(&prediction.when)) {
    return {experiment.phases.baseline, over->window, "`over`"};
  }
  if (std::holds_alternative<model::AtEndClause>(prediction.when)) {
    return {Duration{}, recovery_begin + experiment.phases.recovery, "the recovery"};
  }
  return baseline_of(experiment);
}

// ---- Planned traffic ---------------------------------------------------------------------------

struct Traffic {
  double samples = 0;
  std::string words;      // "200/s for 20s"
  double per_second = 0;  // mean over the stretch
};

double number_in(const base::Json& json, const char* key) {
  const auto found = json.find(key);
  return found != json.end() && found->is_number() ? found->get<double>() : 0;
}

// Requests of a load profile up to `seconds` after its start.
double requests_until(const base::Json& load, double seconds) {
  const auto shape = load.find("shape");
  const std::string name =
      shape != load.end() && shape->is_string() ? shape->get<std::string>() : "constant";
  if (name == "ramp") {
    const double from = number_in(load, "from");
    const double to = number_in(load, "to");
    const double over = number_in(load, "over") / 1e9;
    const double climbing = std::min(seconds, over);
    const double reached = over > 0 ? from + (to - from) * climbing / over : to;
    return (from + reached) / 2 * climbing + to * std::max(0.0, seconds - over);
  }
  if (name == "step") {
    const auto steps = load.find("steps");
    double requests = 0;
    double rate = 0;
    if (steps == load.end() || !steps->is_array()) return 0;
    for (const base::Json& step : *steps) {
      rate = number_in(step, "rate");
      const double length = std::min(seconds, number_in(step, "for") / 1e9);
      requests += rate * length;
      seconds -= length;
    }
    return requests + rate * std::max(0.0, seconds);
  }
  return number_in(load, "rate") * seconds;
}

std::optional<Traffic> traffic_of(const SystemMap& map, const std::string& source,
                                  const Stretch& stretch) {
  const model::ProbeSpecification* probe = map.probe(source);
  const double seconds = base::to_seconds(stretch.length);
  Traffic traffic;
  if (probe == nullptr) {
    traffic.per_second = 1;  // a service is looked at every second
  } else if (probe->parameters.has("rate")) {
    const model::Parameters load = probe->parameters.object("rate");
    const double begin = base::to_seconds(stretch.begin);
    const double requests =
        requests_until(load.json(), begin + seconds) - requests_until(load.json(), begin);
    traffic.per_second = seconds > 0 ? requests / seconds : 0;
  } else if (probe->parameters.has("every")) {
    const double every = base::to_seconds(probe->parameters.duration("every"));
    traffic.per_second = every > 0 ? 1 / every : 0;
  } else {
    return std::nullopt;
  }
  traffic.samples = traffic.per_second * seconds;
  traffic.words =
      fmt::format("{} for {}", base::format_rate(std::round(traffic.per_second * 1e3) / 1e3),
                  base::format_duration(stretch.length));
  return traffic;
}

// ---- Needs -------------------------------------------------------------------------------------

struct Need {
  std::uint64_t planned = 0;
  std::uint64_t needed = 0;
  std::string method;
  std::string what;  // "99.95% needs 7,700 clean ones"
  Traffic traffic;
  std::string remedy;
};

// Two significant digits, upwards: nobody plans to the single request.
std::uint64_t rounded_up(std::uint64_t count) {
  std::uint64_t unit = 1;
  while (count / unit >= 100) unit *= 10;
  return (count + unit - 1) / unit * unit;
}

std::optional<double> literal_of(const model::ExpressionPtr& expression) {
  if (!expression) return std::nullopt;
  const auto* literal = std::get_if<model::Literal>(&expression->node);
  return literal == nullptr ? std::nullopt : std::optional(literal->quantity.value);
}

// The share that must be shown not to be exceeded, or to be reached, whichever is nearer to an end.
std::optional<double> demanding_share(const Prediction& prediction) {
  std::optional<double> strictest;
  for (const model::ExpressionPtr* side :
       {&prediction.left, &prediction.right, &prediction.right_high}) {
    const auto value = literal_of(*side);
    if (!value || *value <= 0 || *value >= 1) continue;
    const double distance = std::max(*value, 1 - *value);
    strictest = std::max(strictest.value_or(0), distance);
  }
  return strictest;
}

std::size_t units_of(const Stretch& stretch, const Traffic& traffic) {
  const double buckets =
      base::to_seconds(stretch.length) / base::to_seconds(evidence::kBucketWidth);
  return static_cast<std::size_t>(std::max(0.0, std::min(buckets, traffic.samples)));
}

class NeedFinder {
 public:
  NeedFinder(const Prediction& prediction, const SystemMap& map, const Experiment& experiment)
      : prediction_(prediction), map_(map), experiment_(experiment) {}

  std::vector<Need> find() {
    const Stretch stretch = stretch_of(prediction_, experiment_);
    visit(*prediction_.left, stretch);
    visit(*prediction_.right, stretch);
    if (prediction_.right_high) visit(*prediction_.right_high, stretch);
    return std::move(needs_);
  }

 private:
  void visit(const Expression& expression, const Stretch& stretch) {
    if (const auto* baseline = std::get_if<model::Baseline>(&expression.node)) {
      return visit(*baseline->inner, baseline_of(experiment_));
    }
    if (const auto* binary = std::get_if<model::Binary>(&expression.node)) {
      visit(*binary->left, stretch);
      return visit(*binary->right, stretch);
    }
    if (const auto* negate = std::get_if<model::Negate>(&expression.node)) {
      return visit(*negate->inner, stretch);
    }
    if (const auto* signal = std::get_if<model::Signal>(&expression.node)) {
      return model::is_success_share(*signal) ? add_share(signal->source, stretch)
                                              : add(signal->source, stretch, 1, "exact", "");
    }
    if (const auto* share = std::get_if<model::Share>(&expression.node)) {
      const std::string source = model::subject_of(*share->condition).source;
      return model::is_request_condition(*share->condition) ? add_share(source, stretch)
                                                            : add(source, stretch, 1, "exact", "");
    }
    if (const auto* aggregate = std::get_if<model::Aggregate>(&expression.node)) {
      return add_aggregate(*aggregate, expression, stretch);
    }
    if (const auto* windowed = std::get_if<model::WindowedAggregate>(&expression.node)) {
      // One value a window; each window needs something in it.
      Stretch one = stretch;
      one.length = std::min(stretch.length, windowed->each);
      return for_sources(*windowed->inner, one);
    }
    for_sources(expression, stretch);
  }

  void for_sources(const Expression& expression, const Stretch& stretch) {
    model::visit_expressions(expression, [&](const Expression& part) {
      if (const auto* time = std::get_if<model::TimeTrue>(&part.node)) {
        add(model::subject_of(*time->condition).source, stretch, 1, "exact", "");
      } else if (const auto* lost = std::get_if<model::Lost>(&part.node)) {
        add(lost->probe, stretch, 1, "exact", "");
      } else if (const auto* duplicated = std::get_if<model::Duplicated>(&part.node)) {
        add(duplicated->probe, stretch, 1, "exact", "");
      } else if (const auto* aggregate = std::get_if<model::Aggregate>(&part.node)) {
        add(aggregate->signal.source, stretch, 1, "exact", "");
      } else if (const auto* signal = std::get_if<model::Signal>(&part.node)) {
        add(signal->source, stretch, 1, "exact", "");
      }
    });
  }

  void add_share(const std::string& source, const Stretch& stretch) {
    const auto share = demanding_share(prediction_);
    const bool by_value = model::decided_by(prediction_) == model::DecidedBy::kValue;
    if (!share || by_value) {
      return add(source, stretch, 1, by_value ? "exact" : "Wilson interval, 95 %", "");
    }
    const std::uint64_t needed = share_samples_needed(*share);
    add(source, stretch, needed, "Wilson interval, 95 %",
        fmt::format("{} needs {} clean ones", base::format_share(*share),
                    base::humanize_count(rounded_up(needed))));
  }

  void add_aggregate(const model::Aggregate& aggregate, const Expression& expression,
                     const Stretch& stretch) {
    const std::string& source = aggregate.signal.source;
    if (aggregate.statistic == model::Statistic::kMean) {
      return add(source, stretch, kMeanSamples, "mean with batch variance, 95 %",
                 fmt::format("a mean needs {}", kMeanSamples));
    }
    if (aggregate.statistic != model::Statistic::kQuantile) {
      return add(source, stretch, 1, "exact", "");
    }
    const auto traffic = traffic_of(map_, source, stretch);
    const double price = traffic ? price_of_estimation(units_of(stretch, *traffic)) : 1;
    const auto needed = static_cast<std::uint64_t>(
        std::ceil(static_cast<double>(quantile_samples_needed(aggregate.quantile)) * price));
    const std::string name = model::print(expression);
    add(source, stretch, needed, "order statistics, 95 %",
        fmt::format("{} needs {} for an upper bound", name.substr(0, name.find('(')),
                    base::humanize_count(rounded_up(needed))));
  }

  void add(const std::string& source, const Stretch& stretch, std::uint64_t needed,
           std::string method, std::string what) {
    const auto traffic = traffic_of(map_, source, stretch);
    Need need;
    need.needed = needed;
    need.method = std::move(method);
    need.what = std::move(what);
    need.remedy = stretch.remedy;
    // Rounded up: a tick at the start of the stretch counts.
    need.traffic = traffic.value_or(Traffic{1, "an unknown rate", 0});
    need.planned = static_cast<std::uint64_t>(std::ceil(need.traffic.samples - 1e-9));
    needs_.push_back(std::move(need));
  }

  const Prediction& prediction_;
  const SystemMap& map_;
  const Experiment& experiment_;
  std::vector<Need> needs_;
};

double sufficiency(const Need& need) {
  const auto needed = static_cast<double>(std::max<std::uint64_t>(1, need.needed));
  return static_cast<double>(need.planned) / needed;
}

std::string message_of(const Need& need, bool decidable) {
  std::string message =
      fmt::format("{} gives {} samples", need.traffic.words, base::humanize_count(need.planned));
  if (!need.what.empty()) message += "; " + need.what;
  if (decidable) return message;
  if (need.traffic.per_second <= 0) return message + ": raise the probe's rate";
  const double seconds = static_cast<double>(rounded_up(need.needed)) / need.traffic.per_second;
  const auto step = static_cast<double>(kRemedyStep.count());
  const std::chrono::seconds length{
      static_cast<std::int64_t>(std::min(1e9, std::ceil(seconds / step) * step))};
  return fmt::format("{}: lengthen {} to {} or accept inconclusive", message, need.remedy,
                     base::format_duration(length));
}

}  // namespace

model::Decidability decidability(const Prediction& prediction, const SystemMap& map,
                                 const Experiment& experiment) {
  model::Decidability result;
  result.prediction = prediction.name;
  result.method = "exact";
  if (!prediction.left || !prediction.right) return result;
  const std::vector<Need> needs = NeedFinder(prediction, map, experiment).find();
  if (needs.empty()) return result;
  // The poorest side decides; of equals the first, which is the left.
  const Need& need = *std::min_element(
      needs.begin(), needs.end(),
      [](const Need& one, const Need& other) { return sufficiency(one) < sufficiency(other); });
  result.samples_planned = need.planned;
  result.samples_needed = need.needed;
  result.method = need.method;
  const bool point = prediction.confidence == model::Confidence::kNone;
  result.decidable = need.planned >= (point ? 1 : need.needed);
  result.message = message_of(need, result.decidable);
  if (point && need.method != "exact") result.method = "the observed value alone";
  return result;
}

}  // namespace squall::judge
