#include "judge/doubts.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/text.h"
#include "model/prediction/walk.h"
#include "model/prediction_language.h"

namespace squall::judge {
namespace {

using evidence::RequestBucket;
using evidence::Series;
using evidence::Window;
using model::Verdict;

constexpr base::Duration kLongestGap = std::chrono::seconds(2);
constexpr int kGapFactor = 5;  // beyond this many usual distances between samples
constexpr base::Duration kLatestAnswer = std::chrono::seconds(5);
constexpr double kWholeEnough = 0.9;  // of the planned length

struct Load {
  std::uint64_t sent = 0;
  std::uint64_t dropped = 0;
  std::uint64_t ok = 0;
  base::Duration lag{};  // p99
};

Load load_of(const Series& series, const Window& window) {
  Load load;
  evidence::Histogram lag;
  for (const RequestBucket& bucket : buckets_within(series, window)) {
    load.sent += bucket.count();
    load.ok += bucket.ok();
    load.dropped += bucket.dropped;
    lag.merge(bucket.lag);
  }
  load.lag = lag.quantile(0.99);
  return load;
}

// What was never sent can only have hidden good answers, if even counting all of it as good leaves
// the prediction violated.
bool violated_despite_drops(const model::Prediction& prediction, const Load& load) {
  const auto* signal = std::get_if<model::Signal>(&prediction.left->node);
  const auto* limit = std::get_if<model::Literal>(&prediction.right->node);
  if (signal == nullptr || limit == nullptr || prediction.right_high ||
      !model::is_success_share(*signal)) {
    return false;
  }
  const double best =
      static_cast<double>(load.ok + load.dropped) / static_cast<double>(load.sent + load.dropped);
  return best < limit->quantity.value;
}

// `count(api-log.recovered) >= 1`: more evidence could only help.
bool wants_enough(const model::Prediction& prediction) {
  const bool lower = prediction.comparator == model::Comparator::kGreater ||
                     prediction.comparator == model::Comparator::kGreaterEqual ||
                     prediction.comparator == model::Comparator::kEqual;
  const auto* aggregate = std::get_if<model::Aggregate>(&prediction.left->node);
  return lower && aggregate != nullptr &&
         (aggregate->statistic == model::Statistic::kCount ||
          aggregate->statistic == model::Statistic::kRate ||
          aggregate->statistic == model::Statistic::kMaximum);
}

template <typename Sample, typename TimeOf>
base::Duration usual_distance(const std::vector<Sample>& samples, const TimeOf& time_of) {
  if (samples.size() < 3) return base::Duration::max() / (2 * kGapFactor);
  std::vector<base::Duration> distances;
  distances.reserve(samples.size());
  for (std::size_t i = 1; i < samples.size(); ++i) {
    distances.push_back(time_of(samples[i]) - time_of(samples[i - 1]));
  }
  const auto middle = distances.begin() + static_cast<std::ptrdiff_t>(distances.size() / 2);
  std::nth_element(distances.begin(), middle, distances.end());
  return *middle;
}

template <typename Sample, typename TimeOf>
base::Duration longest_gap(std::span<const Sample> samples, const Window& window,
                           const TimeOf& time_of) {
  base::Duration longest{};
  base::Instant previous = window.begin;
  for (const Sample& sample : samples) {
    longest = std::max(longest, time_of(sample) - previous);
    previous = time_of(sample);
  }
  return std::max(longest, window.end - previous);
}

template <typename Sample, typename TimeOf>
std::string gap_in(const std::string& name, const std::vector<Sample>& all,
                   std::span<const Sample> samples, const Window& window, const TimeOf& time_of) {
  if (samples.empty()) return {};
  const base::Duration limit = std::max(kLongestGap, kGapFactor * usual_distance(all, time_of));
  const base::Duration longest = longest_gap(samples, window, time_of);
  if (longest <= limit) return {};
  return fmt::format("`{}` has no sample for {}", name, base::humanize(longest));
}

// How long the plan wanted the stretch to be; zero: no certain length.
base::Duration planned_length(const model::Experiment& experiment, const Asked& asked) {
  const auto* during = std::get_if<model::DuringClause>(&asked.prediction.when);
  if (during == nullptr) return {};
  base::Duration length{};
  if (during->phase == model::PhaseKind::kBaseline) {
    length = experiment.phases.baseline;
  } else if (during->phase == model::PhaseKind::kFault) {
    base::Duration first = base::Duration::max();
    base::Duration last{};
    for (const model::FaultSpecification& fault : experiment.faults) {
      if (!during->fault_name.empty() && fault.name != during->fault_name) continue;
      first = std::min(first, fault.at);
      last = std::max(last, fault.at + fault.duration);
    }
    length = last > first ? last - first : base::Duration{};
  }
  return std::max(base::Duration{}, length - during->from);
}

}  // namespace

std::string Doubts::about(const Asked& asked, Verdict verdict) const {
  if (verdict != Verdict::kHeld && verdict != Verdict::kViolated) return {};
  if (verdict == Verdict::kHeld) {
    if (auto doubt = without_effect(asked); !doubt.empty()) return doubt;
  }
  if (auto doubt = bad_load(asked, verdict); !doubt.empty()) return doubt;
  if (auto doubt = unrelated_change(asked); !doubt.empty()) return doubt;
  // What is missing cannot undo a violation that is on record, unless it was a lack of something.
  if (verdict == Verdict::kViolated && !wants_enough(asked.prediction)) return {};
  if (auto doubt = damage(asked); !doubt.empty()) return doubt;
  if (verdict == Verdict::kViolated) return {};
  if (auto doubt = gap(asked); !doubt.empty()) return doubt;
  return cut_short(asked);
}

std::string Doubts::without_effect(const Asked& asked) const {
  if (asked.steady_state) return {};
  const auto* during = std::get_if<model::DuringClause>(&asked.prediction.when);
  if (during != nullptr && during->phase == model::PhaseKind::kBaseline) return {};
  const auto* within = std::get_if<model::WithinClause>(&asked.prediction.when);
  const std::string named = during != nullptr   ? during->fault_name
                            : within != nullptr ? within->fault_name
                                                : std::string();
  for (const evidence::FaultWindow& fault : facts_.timeline.faults) {
    if (!named.empty() && fault.name != named) continue;
    if (auto why = why_without_effect(fault); !why.empty()) return why;
  }
  return facts_.timeline.faults.empty() ? "no fault was injected" : std::string();
}

std::string Doubts::bad_load(const Asked& asked, Verdict verdict) const {
  const model::Experiment& experiment = question_.experiment;
  for (const std::string& source : model::sources_of(asked.prediction)) {
    const Series* series = evaluator_.requests(source, nullptr);
    if (series == nullptr) continue;
    const Load load = load_of(*series, asked.window);
    if (load.lag > experiment.lag_limit) {
      return fmt::format("the load generator of `{}` lagged by {} (p99), the limit is {}", source,
                         base::humanize(load.lag), base::format_duration(experiment.lag_limit));
    }
    const std::uint64_t intended = load.sent + load.dropped;
    if (load.dropped == 0) continue;
    const double share = static_cast<double>(load.dropped) / static_cast<double>(intended);
    if (share <= experiment.drop_limit) continue;
    if (verdict == Verdict::kViolated && violated_despite_drops(asked.prediction, load)) continue;
    return fmt::format("the load generator of `{}` dropped {} of {} requests, the limit is {}",
                       source, base::humanize_count(load.dropped), base::humanize_count(intended),
                       base::format_share(experiment.drop_limit));
  }
  return {};
}

std::string Doubts::unrelated_change(const Asked& asked) const {
  for (const std::string& source : model::sources_of(asked.prediction)) {
    const model::ProbeSpecification* probe = question_.map.probe(source);
    const std::string& service = probe != nullptr ? probe->to : source;
    for (const UnrelatedChange& change : facts_.unrelated) {
      if (!change.restarted || change.service != service || change.at >= asked.window.end) continue;
      return fmt::format("`{}` restarted at {} and not by this experiment{}{}", service,
                         evaluator_.describe(change.at), change.text.empty() ? "" : ": ",
                         base::printable(change.text));
    }
  }
  return {};
}

// Frames that are missing may have held samples of the second before, and slow answers to requests
// of seconds ago.
std::string Doubts::damage(const Asked& asked) const {
  const auto concerns = [](const evidence::RecordGap& gap, const Window& window) {
    return gap.before >= window.begin && gap.after < window.end + kLatestAnswer;
  };
  bool compares = false;
  model::visit_expressions(asked.prediction, [&](const model::Expression& part) {
    compares = compares || std::holds_alternative<model::Baseline>(part.node);
  });
  for (const evidence::RecordGap& gap : evaluator_.record().gaps()) {
    const bool in_baseline =
        compares && facts_.timeline.baseline && concerns(gap, *facts_.timeline.baseline);
    if (!in_baseline && !concerns(gap, asked.window)) continue;
    return fmt::format(
        "the record is damaged between {} and {}, and what is missing might tell "
        "otherwise",
        evaluator_.describe(gap.after), evaluator_.describe(gap.before));
  }
  return {};
}

// A probe that fell silent saw nothing, good or bad.
std::string Doubts::gap(const Asked& asked) const {
  if (std::holds_alternative<model::AtEndClause>(asked.prediction.when) ||
      std::holds_alternative<model::WithinClause>(asked.prediction.when)) {
    return {};  // these ask for a moment, not for all of a stretch
  }
  const auto sources = model::sources_of(asked.prediction);
  for (const Series& series : evaluator_.record().series()) {
    const std::string& name = series.declaration.name;
    const bool concerned = std::any_of(sources.begin(), sources.end(), [&](const auto& source) {
      return name == source || (name.starts_with(source) && name[source.size()] == '.');
    });
    if (!concerned) continue;
    std::string found;
    if (series.declaration.kind == evidence::SeriesKind::kRequests) {
      found = gap_in(name, series.buckets, buckets_within(series, asked.window), asked.window,
                     [](const RequestBucket& bucket) { return bucket.start; });
    } else if (series.declaration.kind == evidence::SeriesKind::kGauge) {
      found = gap_in(name, series.samples, samples_within(series, asked.window), asked.window,
                     [](const evidence::GaugeSample& sample) { return sample.at; });
    }
    if (!found.empty()) return found;
  }
  return {};
}

std::string Doubts::cut_short(const Asked& asked) const {
  if (facts_.outcome == model::Outcome::kCompleted) return {};
  if (std::holds_alternative<model::AtEndClause>(asked.prediction.when)) {
    return fmt::format("the run did not reach its end: it was {}",
                       model::to_string(facts_.outcome));
  }
  const base::Duration planned = planned_length(question_.experiment, asked);
  const base::Duration actual = asked.window.length();
  if (base::to_seconds(actual) >= kWholeEnough * base::to_seconds(planned)) return {};
  return fmt::format("the run was cut short: {} of {} were observed", base::humanize(actual),
                     base::humanize(planned));
}

std::vector<std::string> Doubts::notes() const {
  std::vector<std::string> notes;
  for (const evidence::FaultWindow& fault : facts_.timeline.faults) {
    if (auto why = why_without_effect(fault); !why.empty()) notes.push_back(std::move(why));
  }
  for (const UnrelatedChange& change : facts_.unrelated) {
    notes.push_back(fmt::format("`{}` {} at {} and not by this experiment", change.service,
                                change.restarted ? "restarted" : "lost a process",
                                evaluator_.describe(change.at)));
  }
  for (const std::string& finding : evaluator_.record().damage()) {
    notes.push_back("record: " + finding);
  }
  return notes;
}

}  // namespace squall::judge
