#include "judge/evaluator.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "model/prediction_language.h"

namespace squall::judge {

using evidence::GaugeSample;
using evidence::RequestBucket;
using evidence::Series;
using evidence::SeriesKind;
using evidence::Window;

struct Evaluator::Call {
  const Window& window;
  Explanation* explanation;  // may be null

  void tell(std::string evidence) const {
    if (explanation != nullptr) explanation->evidence = std::move(evidence);
  }
  Explanation* part() const {
    return explanation == nullptr ? nullptr : &explanation->parts.emplace_back();
  }
};

namespace {

Reading missing(std::string why) {
  return {.estimate = std::nullopt, .missing = std::move(why)};
}
Reading found(Estimate estimate) {
  return {.estimate = std::move(estimate), .missing = {}};
}

constexpr std::int64_t kMostWindows = 2'000'000;

RequestTime time_named(std::string_view field) {
  if (field == "service_time") return RequestTime::kService;
  if (field == "lag") return RequestTime::kLag;
  return RequestTime::kResponse;
}

std::uint64_t count_of(std::span<const RequestBucket> buckets) {
  std::uint64_t count = 0;
  for (const RequestBucket& bucket : buckets) count += bucket.count();
  return count;
}

std::uint64_t ok_of(std::span<const RequestBucket> buckets) {
  std::uint64_t count = 0;
  for (const RequestBucket& bucket : buckets) count += bucket.ok();
  return count;
}

std::vector<double> values_of(std::span<const GaugeSample> samples) {
  std::vector<double> values;
  values.reserve(samples.size());
  for (const GaugeSample& sample : samples) values.push_back(sample.value);
  return values;
}

double sum_of(std::span<const double> values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum;
}

// Any statistic over numbers in time order; absent when there are none.
std::optional<Estimate> statistic_of(model::Statistic statistic, double quantile,
                                     std::span<const double> values, base::Duration length) {
  if (values.empty()) return std::nullopt;
  const auto samples = static_cast<std::uint64_t>(values.size());
  switch (statistic) {
    case model::Statistic::kQuantile:
      return quantile_of(values, quantile);
    case model::Statistic::kMean:
      return mean_of(values);
    case model::Statistic::kMaximum:
      return exact_estimate(*std::max_element(values.begin(), values.end()), samples);
    case model::Statistic::kMinimum:
      return exact_estimate(*std::min_element(values.begin(), values.end()), samples);
    case model::Statistic::kCount:
      return exact_estimate(static_cast<double>(samples), samples);
    case model::Statistic::kRate:
      return exact_estimate(static_cast<double>(samples) / base::to_seconds(length), samples);
  }
  return std::nullopt;
}

std::optional<Estimate> extreme_of(std::span<const RequestBucket> buckets, RequestTime which,
                                   model::Statistic statistic) {
  std::optional<base::Duration> extreme;
  std::uint64_t samples = 0;
  const bool largest = statistic == model::Statistic::kMaximum;
  for (const RequestBucket& bucket : buckets) {
    const evidence::Histogram& times = times_of(bucket, which);
    if (times.empty()) continue;
    samples += times.count();
    const base::Duration value = largest ? times.maximum() : times.minimum();
    if (!extreme || (largest ? value > *extreme : value < *extreme)) extreme = value;
  }
  if (!extreme) return std::nullopt;
  return exact_estimate(base::to_seconds(*extreme), samples);
}

std::string worth_text(const Estimate& estimate) {
  if (estimate.exact || estimate.effective >= static_cast<double>(estimate.samples)) return {};
  return fmt::format(" worth {} independent ones",
                     base::humanize_count(static_cast<std::uint64_t>(estimate.effective)));
}

}  // namespace

std::span<const RequestBucket> buckets_within(const Series& series, const Window& window) {
  const auto& all = series.buckets;
  const auto starts_before = [](const RequestBucket& bucket, base::Instant at) {
    return bucket.start < at;
  };
  const auto first = std::lower_bound(all.begin(), all.end(), window.begin, starts_before);
  const auto last = std::lower_bound(
      first, all.end(), window.end - evidence::kBucketWidth + base::Duration(1), starts_before);
  if (last <= first) return {};
  return {&*first, static_cast<std::size_t>(last - first)};
}

std::span<const GaugeSample> samples_within(const Series& series, const Window& window) {
  const auto& all = series.samples;
  const auto before = [](const GaugeSample& sample, base::Instant at) { return sample.at < at; };
  const auto first = std::lower_bound(all.begin(), all.end(), window.begin, before);
  const auto last = std::lower_bound(first, all.end(), window.end, before);
  if (last <= first) return {};
  return {&*first, static_cast<std::size_t>(last - first)};
}

Reading combine(model::Operator operation, const Estimate& left, const Estimate& right) {
  Estimate result;
  switch (operation) {
    case model::Operator::kAdd:
      result.bounded = add(left.bounded, right.bounded);
      break;
    case model::Operator::kSubtract:
      result.bounded = subtract(left.bounded, right.bounded);
      break;
    case model::Operator::kMultiply:
      result.bounded = multiply(left.bounded, right.bounded);
      break;
    case model::Operator::kDivide:
      result.bounded = divide(left.bounded, right.bounded);
      break;
  }
  if (!std::isfinite(result.bounded.value)) return missing("it divides by zero");
  result.exact = left.exact && right.exact;
  result.incomplete = left.incomplete || right.incomplete;
  // A constant has no samples; of two measured sides the poorer one says how much there was.
  if (left.samples == 0 || right.samples == 0) {
    result.samples = left.samples + right.samples;
    result.effective = left.effective + right.effective;
  } else {
    result.samples = std::min(left.samples, right.samples);
    result.effective = left.exact    ? right.effective
                       : right.exact ? left.effective
                                     : std::min(left.effective, right.effective);
  }
  const bool one_sided = left.exact || right.exact || left.samples == 0 || right.samples == 0;
  result.method = !one_sided   ? "both sides' intervals combined (MOVER), 95 %"
                  : left.exact ? right.method
                               : left.method;
  return found(std::move(result));
}

Reading negated(Reading reading) {
  if (reading.estimate) {
    Bounded& bounded = reading.estimate->bounded;
    bounded = {-bounded.value, {-bounded.interval.high, -bounded.interval.low}};
  }
  return reading;
}

TimeMet time_met(const Series& series, const model::Condition& condition, const Window& window) {
  TimeMet result;
  const auto& samples = series.samples;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const base::Instant next = i + 1 < samples.size() ? samples[i + 1].at : window.end;
    const base::Instant begin = std::max(samples[i].at, window.begin);
    const base::Instant end = std::min(next, window.end);
    if (begin >= end) continue;
    ++result.samples;
    result.known += end - begin;
    if (model::matches(condition, samples[i].value)) result.met += end - begin;
  }
  return result;
}

std::string describe_number(double value, base::Dimension dimension) {
  if (std::isnan(value)) return "undefined";
  if (std::isinf(value)) return value > 0 ? "unbounded" : "-unbounded";
  if (dimension == base::Dimension::kNumber && value == std::floor(value) &&
      std::abs(value) < 1e15) {
    return fmt::format("{}{}", value < 0 ? "-" : "",
                       base::humanize_count(static_cast<std::uint64_t>(std::abs(value))));
  }
  return base::humanize(base::Quantity{value, dimension});
}

std::string describe_value(const Estimate& estimate, base::Dimension dimension) {
  const auto& [value, interval] = estimate.bounded;
  std::string text = describe_number(value, dimension);
  if (estimate.exact && !estimate.incomplete) return text;
  return fmt::format("{} [{}, {}]", text,
                     std::isinf(interval.low) ? "?" : describe_number(interval.low, dimension),
                     std::isinf(interval.high) ? "?" : describe_number(interval.high, dimension));
}

const Series* Evaluator::requests(std::string_view probe, const model::ConditionPtr& where) const {
  const Series* series = record_.find(model::slice_id(probe, where));
  return series != nullptr && series->declaration.kind == SeriesKind::kRequests ? series : nullptr;
}

const Series* Evaluator::numbers(std::string_view source, std::string_view field) const {
  if (!field.empty()) {
    const Series* series = record_.find(fmt::format("{}.{}", source, field));
    return series != nullptr && series->declaration.kind != SeriesKind::kRequests ? series
                                                                                  : nullptr;
  }
  // count(log): the one counter of the source.
  for (const Series& series : record_.series()) {
    if (series.declaration.source == source && series.declaration.kind == SeriesKind::kCounter) {
      return &series;
    }
  }
  return nullptr;
}

const Series* Evaluator::numbers_of(const model::Signal& subject) const {
  return subject.field.empty() ? nullptr : numbers(subject.source, subject.field);
}

std::string Evaluator::describe(base::Instant at) const {
  return fmt::format("{:.1f}s", base::to_seconds(at - timeline_.start));
}

std::string Evaluator::describe(const Window& window) const {
  return fmt::format("{} to {}", describe(window.begin), describe(window.end));
}

Reading Evaluator::evaluate(const model::Expression& expression, const Window& window,
                            Explanation* explanation) const {
  const Call call{window, explanation};
  if (explanation != nullptr) explanation->text = model::print(expression);
  Reading reading = std::visit(
      [&](const auto& node) -> Reading {
        using Node = std::decay_t<decltype(node)>;
        if constexpr (std::is_same_v<Node, model::Literal>)
          return literal(node);
        else if constexpr (std::is_same_v<Node, model::Signal>)
          return signal(node, call);
        else if constexpr (std::is_same_v<Node, model::Aggregate>)
          return aggregate(node, call);
        else if constexpr (std::is_same_v<Node, model::WindowedAggregate>)
          return windowed(node, call);
        else if constexpr (std::is_same_v<Node, model::Share>)
          return share(node, call);
        else if constexpr (std::is_same_v<Node, model::TimeTrue>)
          return time_true(node, call);
        else if constexpr (std::is_same_v<Node, model::Lost>)
          return lost(node.probe, call);
        else if constexpr (std::is_same_v<Node, model::Duplicated>)
          return duplicated(node.probe, call);
        else if constexpr (std::is_same_v<Node, model::Baseline>)
          return baseline(node, call);
        else if constexpr (std::is_same_v<Node, model::Binary>)
          return binary(node, call);
        else
          return negate(node, call);
      },
      expression.node);
  if (explanation != nullptr) {
    explanation->value = reading.estimate ? describe_value(*reading.estimate, expression.dimension)
                                          : "no data: " + reading.missing;
  }
  return reading;
}

Reading Evaluator::literal(const model::Literal& literal) const {
  return found(exact_estimate(literal.quantity.value, 0));
}

Reading Evaluator::signal(const model::Signal& signal, const Call& call) const {
  if (const Series* series = numbers(signal.source, signal.field)) {
    const auto values = values_of(samples_within(*series, call.window));
    if (values.empty()) {
      return missing(fmt::format("`{}` has no sample from {}", series->declaration.name,
                                 describe(call.window)));
    }
    call.tell(fmt::format("mean of {} samples of `{}`, {}", base::humanize_count(values.size()),
                          series->declaration.name, describe(call.window)));
    return found(
        exact_estimate(sum_of(values) / static_cast<double>(values.size()), values.size()));
  }
  if (signal.field == "success") {
    if (const Series* series = requests(signal.source, nullptr)) {
      const auto estimate = success_share(buckets_within(*series, call.window));
      if (!estimate) {
        return missing(
            fmt::format("`{}` made no request from {}", signal.source, describe(call.window)));
      }
      call.tell(fmt::format("{} requests of `{}`{}, {}", base::humanize_count(estimate->samples),
                            signal.source, worth_text(*estimate), describe(call.window)));
      return found(*estimate);
    }
  }
  return missing(fmt::format("the record has no signal `{}.{}`", signal.source, signal.field));
}

Reading Evaluator::aggregate(const model::Aggregate& aggregate, const Call& call) const {
  const model::Signal& signal = aggregate.signal;
  if (!aggregate.where) {
    if (const Series* series = numbers(signal.source, signal.field)) {
      return of_numbers(aggregate, *series, call);
    }
  }
  if (const Series* series = requests(signal.source, aggregate.where)) {
    return of_requests(aggregate, *series, call);
  }
  return missing(fmt::format("the record has no series `{}`",
                             signal.field.empty() || aggregate.where
                                 ? model::slice_id(signal.source, aggregate.where)
                                 : signal.source + "." + signal.field));
}

Reading Evaluator::of_requests(const model::Aggregate& aggregate, const Series& series,
                               const Call& call) const {
  const std::string& name = series.declaration.name;
  const auto buckets = buckets_within(series, call.window);
  const std::uint64_t count = count_of(buckets);
  // A slice without requests is a count of 0, but only if the probe itself was at work.
  const Series* whole = requests(aggregate.signal.source, nullptr);
  const bool idle =
      whole == nullptr ? count == 0 : count_of(buckets_within(*whole, call.window)) == 0;
  if (idle) {
    return missing(fmt::format("`{}` made no request from {}", aggregate.signal.source,
                               describe(call.window)));
  }
  const RequestTime which = time_named(aggregate.signal.field);
  std::optional<Estimate> estimate;
  switch (aggregate.statistic) {
    case model::Statistic::kCount:
    case model::Statistic::kRate: {
      const auto counted =
          static_cast<double>(aggregate.signal.field == "success" ? ok_of(buckets) : count);
      const bool rate = aggregate.statistic == model::Statistic::kRate;
      estimate =
          exact_estimate(rate ? counted / base::to_seconds(call.window.length()) : counted, count);
      break;
    }
    case model::Statistic::kMean:
      estimate =
          aggregate.signal.field == "success" ? success_share(buckets) : mean_of(buckets, which);
      break;
    case model::Statistic::kQuantile:
      estimate = quantile_of(buckets, which, aggregate.quantile);
      break;
    case model::Statistic::kMaximum:
    case model::Statistic::kMinimum:
      estimate = extreme_of(buckets, which, aggregate.statistic);
      break;
  }
  if (!estimate) return missing(fmt::format("no request is `{}`", name));
  call.tell(fmt::format("{} requests of `{}`{}, {}", base::humanize_count(count), name,
                        worth_text(*estimate), describe(call.window)));
  return found(*estimate);
}

Reading Evaluator::of_numbers(const model::Aggregate& aggregate, const Series& series,
                              const Call& call) const {
  const auto samples = samples_within(series, call.window);
  const auto values = values_of(samples);
  std::optional<Estimate> estimate;
  if (series.declaration.kind == SeriesKind::kCounter &&
      (aggregate.statistic == model::Statistic::kCount ||
       aggregate.statistic == model::Statistic::kRate)) {
    // Each sample of a counter says how many events there were since the one before; one that never
    // spoke was not watched.
    if (series.samples.empty()) {
      return missing(fmt::format("`{}` has no sample", series.declaration.name));
    }
    const double events = sum_of(values);
    estimate = exact_estimate(aggregate.statistic == model::Statistic::kCount
                                  ? events
                                  : events / base::to_seconds(call.window.length()),
                              values.size());
  } else {
    estimate = statistic_of(aggregate.statistic, aggregate.quantile, values, call.window.length());
  }
  if (!estimate) {
    return missing(
        fmt::format("`{}` has no sample from {}", series.declaration.name, describe(call.window)));
  }
  call.tell(fmt::format("{} samples of `{}`{}, {}", base::humanize_count(values.size()),
                        series.declaration.name, worth_text(*estimate), describe(call.window)));
  return found(*estimate);
}

Reading Evaluator::windowed(const model::WindowedAggregate& aggregate, const Call& call) const {
  if (aggregate.each <= base::Duration::zero()) return missing("its windows have no length");
  if (call.window.length() / aggregate.each > kMostWindows)
    return missing("it has too many windows");
  std::vector<double> values;
  for (base::Instant begin = call.window.begin; begin + aggregate.each <= call.window.end;
       begin += aggregate.each) {
    const Reading reading = evaluate(*aggregate.inner, {begin, begin + aggregate.each});
    if (reading.estimate) values.push_back(reading.estimate->bounded.value);
  }
  auto estimate =
      statistic_of(aggregate.statistic, aggregate.quantile, values, call.window.length());
  if (!estimate) {
    return missing(fmt::format("no window of {} from {} has data",
                               base::format_duration(aggregate.each), describe(call.window)));
  }
  call.tell(fmt::format("{} windows of {}, {}", base::humanize_count(values.size()),
                        base::format_duration(aggregate.each), describe(call.window)));
  evaluate(*aggregate.inner, call.window, call.part());
  return found(*estimate);
}

Reading Evaluator::share(const model::Share& share, const Call& call) const {
  const model::Signal subject = model::subject_of(*share.condition);
  if (const Series* series = numbers_of(subject)) {
    const TimeMet time = time_met(*series, *share.condition, call.window);
    if (time.known <= base::Duration::zero()) {
      return missing(fmt::format("`{}` has no sample from {}", series->declaration.name,
                                 describe(call.window)));
    }
    call.tell(fmt::format("{} of {} in {} samples of `{}`, {}", base::humanize(time.met),
                          base::humanize(time.known), base::humanize_count(time.samples),
                          series->declaration.name, describe(call.window)));
    return found(
        exact_estimate(base::to_seconds(time.met) / base::to_seconds(time.known), time.samples));
  }
  const Series* all = requests(subject.source, nullptr);
  const Series* chosen = requests(subject.source, share.condition);
  if (all == nullptr || chosen == nullptr) {
    return missing(fmt::format("the record has no series `{}`",
                               model::slice_id(subject.source, share.condition)));
  }
  const auto estimate =
      slice_share(buckets_within(*all, call.window), buckets_within(*chosen, call.window));
  if (!estimate) {
    return missing(
        fmt::format("`{}` made no request from {}", subject.source, describe(call.window)));
  }
  call.tell(fmt::format("{} requests of `{}`{}, {}", base::humanize_count(estimate->samples),
                        subject.source, worth_text(*estimate), describe(call.window)));
  return found(*estimate);
}

Reading Evaluator::time_true(const model::TimeTrue& time, const Call& call) const {
  const model::Signal subject = model::subject_of(*time.condition);
  const Series* series = numbers_of(subject);
  if (series == nullptr) {
    return missing(fmt::format("the record has no signal `{}.{}`", subject.source, subject.field));
  }
  const TimeMet met = time_met(*series, *time.condition, call.window);
  if (met.known <= base::Duration::zero()) {
    return missing(
        fmt::format("`{}` has no sample from {}", series->declaration.name, describe(call.window)));
  }
  call.tell(fmt::format("{} samples of `{}`, {}", base::humanize_count(met.samples),
                        series->declaration.name, describe(call.window)));
  return found(exact_estimate(base::to_seconds(met.met), met.samples));
}

// Counts writes that were surely lost, and bounds what the read-back could not tell.
Reading Evaluator::lost(std::string_view probe, const Call& call) const {
  return of_writes(probe, call, [](const evidence::WriteRecord& write, std::uint32_t copies) {
    return write.fate == evidence::WriteFate::kAcknowledged && copies == 0;
  });
}

Reading Evaluator::duplicated(std::string_view probe, const Call& call) const {
  return of_writes(probe, call,
                   [](const evidence::WriteRecord&, std::uint32_t copies) { return copies > 1; });
}

template <typename Counts>
Reading Evaluator::of_writes(std::string_view probe, const Call& call, const Counts& counts) const {
  const Series* series = requests(probe, nullptr);
  if (series == nullptr) return missing(fmt::format("the record has no series `{}`", probe));
  if (series->read_backs.empty()) {
    return missing(fmt::format("the writes of `{}` were not read back", probe));
  }
  std::unordered_map<std::uint64_t, const evidence::ReadBack*> read_backs;
  for (const evidence::ReadBack& back : series->read_backs) read_backs[back.sequence] = &back;
  std::uint64_t writes = 0;
  std::uint64_t hits = 0;
  std::uint64_t unread = 0;
  for (const evidence::WriteRecord& write : series->writes) {
    if (!call.window.contains(write.sent)) continue;
    ++writes;
    const auto back = read_backs.find(write.sequence);
    if (back == read_backs.end() || !back->second->known) {
      // Only an acknowledged write may be missed; whatever was written may be there twice, but what
      // was refused is rarely read back and proves nothing by its silence.
      if (write.fate == evidence::WriteFate::kAcknowledged) ++unread;
    } else if (counts(write, back->second->found)) {
      ++hits;
    }
  }
  if (writes == 0) {
    return missing(fmt::format("`{}` wrote nothing from {}", probe, describe(call.window)));
  }
  Estimate estimate = exact_estimate(static_cast<double>(hits), writes);
  if (unread > 0) {
    estimate.incomplete = true;
    estimate.bounded.interval.high += static_cast<double>(unread);
    estimate.method = "exact, but for writes that could not be read back";
  }
  call.tell(fmt::format("{} writes of `{}`, {} of them not read back, {}",
                        base::humanize_count(writes), probe, base::humanize_count(unread),
                        describe(call.window)));
  return found(std::move(estimate));
}

Reading Evaluator::baseline(const model::Baseline& baseline, const Call& call) const {
  if (!timeline_.baseline) return missing("the run has no baseline");
  return evaluate(*baseline.inner, *timeline_.baseline, call.part());
}

Reading Evaluator::binary(const model::Binary& binary, const Call& call) const {
  const Reading left = evaluate(*binary.left, call.window, call.part());
  const Reading right = evaluate(*binary.right, call.window, call.part());
  if (!left.estimate) return left;
  if (!right.estimate) return right;
  return combine(binary.operation, *left.estimate, *right.estimate);
}

Reading Evaluator::negate(const model::Negate& negate, const Call& call) const {
  return negated(evaluate(*negate.inner, call.window, call.part()));
}

}  // namespace squall::judge
