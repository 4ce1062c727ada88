#include "judge/live_expression.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "model/prediction_language.h"

namespace squall::judge {

using evidence::SeriesId;
using evidence::SeriesKind;
using model::Expression;
using model::Statistic;

struct LiveExpression::Node {
  enum class Kind {
    kConstant,
    kUnknown,    // names what is not there, or cannot be told live
    kSuccess,    // share of good requests
    kSlice,      // requests of `part` over those of `requests`
    kRequests,   // a statistic of requests
    kGauge,      // the latest value
    kNumbers,    // a statistic of a gauge or counter
    kTime,       // how long a gauge met a condition
    kTimeShare,  // the same as a share of the window
    kWindows,    // a statistic over the values of `inner` in consecutive windows
    kBinary,
    kNegate,
  };
  Kind kind = Kind::kUnknown;
  double constant = 0;
  Statistic statistic = Statistic::kMean;
  double quantile = 0;
  bool counter = false;
  base::Duration window{};
  SeriesId series = 0;
  SeriesId part_series = 0;
  std::unique_ptr<RequestWindow> requests;
  std::unique_ptr<RequestWindow> part;
  std::unique_ptr<NumberWindow> numbers;
  model::ConditionPtr condition;
  std::unique_ptr<LiveExpression> inner;
  std::vector<double> values;  // of inner, oldest first
  mutable std::vector<double> scratch;
  std::size_t most_values = 0;
  base::Instant next_value{};
  model::Operator operation = model::Operator::kAdd;
  std::size_t left = 0;
  std::size_t right = 0;
};

// Turns the tree into nodes.
struct LiveExpression::Build {
  LiveExpression& into;
  base::Duration window;
  const SeriesOf& series_of;
  const BaselineOf& baseline_of;

  std::size_t push(Node node) {
    into.nodes_.push_back(std::move(node));
    return into.nodes_.size() - 1;
  }
  std::size_t unknown() {
    into.blind_ = true;
    return push({});
  }
  std::size_t constant(double value) {
    Node node;
    node.kind = Node::Kind::kConstant;
    node.constant = value;
    return push(std::move(node));
  }
  std::optional<SeriesId> find(const std::string& name) {
    const auto series = series_of(name);
    if (series &&
        std::find(into.series_.begin(), into.series_.end(), *series) == into.series_.end()) {
      into.series_.push_back(*series);
    }
    return series;
  }

  std::size_t add(const Expression& expression) {
    const auto& node = expression.node;
    if (const auto* literal = std::get_if<model::Literal>(&node)) {
      return constant(literal->quantity.value);
    }
    if (const auto* signal = std::get_if<model::Signal>(&node)) return add_signal(*signal);
    if (const auto* aggregate = std::get_if<model::Aggregate>(&node)) {
      return add_aggregate(*aggregate);
    }
    if (const auto* share = std::get_if<model::Share>(&node)) {
      return add_condition(share->condition, Node::Kind::kTimeShare);
    }
    if (const auto* time = std::get_if<model::TimeTrue>(&node)) {
      return add_condition(time->condition, Node::Kind::kTime);
    }
    if (const auto* windowed = std::get_if<model::WindowedAggregate>(&node)) {
      return add_windows(*windowed);
    }
    if (const auto* baseline = std::get_if<model::Baseline>(&node)) {
      const auto value = baseline_of ? baseline_of(*baseline->inner) : std::nullopt;
      return value ? constant(*value) : unknown();
    }
    if (const auto* binary = std::get_if<model::Binary>(&node)) {
      Node made;
      made.kind = Node::Kind::kBinary;
      made.operation = binary->operation;
      made.left = add(*binary->left);
      made.right = add(*binary->right);
      return push(std::move(made));
    }
    if (const auto* negate = std::get_if<model::Negate>(&node)) {
      Node made;
      made.kind = Node::Kind::kNegate;
      made.left = add(*negate->inner);
      return push(std::move(made));
    }
    return unknown();  // lost() and duplicated() are known after the read-back only
  }

  std::size_t add_signal(const model::Signal& signal) {
    Node node;
    if (model::is_success_share(signal)) {
      const auto series = find(model::slice_id(signal.source, nullptr));
      if (!series) return unknown();
      node.kind = Node::Kind::kSuccess;
      node.series = *series;
      node.requests = std::make_unique<RequestWindow>(window, RequestWindow::Keep::kSums);
      return push(std::move(node));
    }
    const auto series = find(fmt::format("{}.{}", signal.source, signal.field));
    if (!series) return unknown();
    node.kind = Node::Kind::kGauge;
    node.series = *series;
    node.numbers = std::make_unique<NumberWindow>(window);
    return push(std::move(node));
  }

  std::size_t add_aggregate(const model::Aggregate& aggregate) {
    Node node;
    node.statistic = aggregate.statistic;
    node.quantile = aggregate.quantile;
    node.window = window;
    const model::Signal& signal = aggregate.signal;
    if (signal.field.empty() || model::is_request_field(signal.field)) {
      const auto series = find(model::slice_id(signal.source, aggregate.where));
      if (!series) return unknown();
      const bool quantile = aggregate.statistic == Statistic::kQuantile;
      if (quantile) into.cheap_ = false;
      node.kind = Node::Kind::kRequests;
      node.series = *series;
      node.requests = std::make_unique<RequestWindow>(
          window, quantile ? RequestWindow::Keep::kQuantiles : RequestWindow::Keep::kSums);
      return push(std::move(node));
    }
    const auto series = find(fmt::format("{}.{}", signal.source, signal.field));
    if (!series) return unknown();
    node.kind = Node::Kind::kNumbers;
    node.series = *series;
    // Only counters are counted: the checker sees to it.
    node.counter = node.statistic == Statistic::kCount || node.statistic == Statistic::kRate;
    node.numbers = std::make_unique<NumberWindow>(window);
    return push(std::move(node));
  }

  std::size_t add_condition(const model::ConditionPtr& condition, Node::Kind gauge_kind) {
    Node node;
    node.condition = condition;
    node.window = window;
    const model::Signal subject = model::subject_of(*condition);
    if (model::is_request_condition(*condition)) {
      const auto all = find(model::slice_id(subject.source, nullptr));
      const auto part = find(model::slice_id(subject.source, condition));
      if (!all || !part) return unknown();
      node.kind = Node::Kind::kSlice;
      node.series = *all;
      node.part_series = *part;
      node.requests = std::make_unique<RequestWindow>(window, RequestWindow::Keep::kSums);
      node.part = std::make_unique<RequestWindow>(window, RequestWindow::Keep::kSums);
      return push(std::move(node));
    }
    const auto series = find(fmt::format("{}.{}", subject.source, subject.field));
    if (!series) return unknown();
    node.kind = gauge_kind;
    node.series = *series;
    node.numbers = std::make_unique<NumberWindow>(window);
    return push(std::move(node));
  }

  std::size_t add_windows(const model::WindowedAggregate& windowed) {
    if (windowed.each <= base::Duration::zero()) return unknown();
    Node node;
    node.kind = Node::Kind::kWindows;
    node.statistic = windowed.statistic;
    node.quantile = windowed.quantile;
    node.window = windowed.each;
    node.inner =
        std::make_unique<LiveExpression>(*windowed.inner, windowed.each, series_of, baseline_of);
    if (node.inner->is_blind()) into.blind_ = true;
    for (const SeriesId series : node.inner->series()) {
      if (std::find(into.series_.begin(), into.series_.end(), series) == into.series_.end()) {
        into.series_.push_back(series);
      }
    }
    node.most_values = static_cast<std::size_t>(
        std::max<std::int64_t>(1, std::min<std::int64_t>(100'000, window / windowed.each)));
    node.values.reserve(node.most_values + 1);
    into.cheap_ = false;
    return push(std::move(node));
  }
};

namespace {

// Reorders `values`, of which there is at least one.
double statistic_of(Statistic statistic, double quantile, std::vector<double>& values) {
  switch (statistic) {
    case Statistic::kMaximum:
      return *std::max_element(values.begin(), values.end());
    case Statistic::kMinimum:
      return *std::min_element(values.begin(), values.end());
    case Statistic::kQuantile: {
      const double rank = std::ceil(quantile * static_cast<double>(values.size()));
      const auto index = static_cast<std::ptrdiff_t>(std::max(1.0, rank)) - 1;
      std::nth_element(values.begin(), values.begin() + index, values.end());
      return values[static_cast<std::size_t>(index)];
    }
    case Statistic::kMean:
    case Statistic::kCount:
    case Statistic::kRate:
      break;
  }
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

}  // namespace

LiveExpression::LiveExpression(const Expression& expression, base::Duration window,
                               const SeriesOf& series_of, const BaselineOf& baseline_of) {
  Build{*this, window, series_of, baseline_of}.add(expression);
}
LiveExpression::~LiveExpression() = default;
LiveExpression::LiveExpression(LiveExpression&&) noexcept = default;
LiveExpression& LiveExpression::operator=(LiveExpression&&) noexcept = default;

bool LiveExpression::add(const evidence::LiveSample& sample, base::Instant now) {
  if (std::find(series_.begin(), series_.end(), sample.series) == series_.end()) return false;
  const bool request = sample.kind == SeriesKind::kRequests;
  for (Node& node : nodes_) {
    if (node.inner) node.inner->add(sample, now);
    if (request && node.requests && node.series == sample.series) {
      node.requests->add(sample.request, now);
    }
    if (request && node.part && node.part_series == sample.series) {
      node.part->add(sample.request, now);
    }
    if (!request && node.numbers && node.series == sample.series) node.numbers->add(sample.gauge);
  }
  advance(now);
  return true;
}

void LiveExpression::advance(base::Instant now) {
  for (Node& node : nodes_) {
    if (node.requests) node.requests->advance(now);
    if (node.part) node.part->advance(now);
    if (node.numbers) node.numbers->advance(now);
    if (!node.inner) continue;
    node.inner->advance(now);
    if (node.next_value == base::Instant{}) node.next_value = now + node.window;
    if (now < node.next_value) continue;
    node.next_value = now + node.window;
    const auto value = node.inner->value(now);
    if (!value) continue;
    if (node.values.size() == node.most_values) node.values.erase(node.values.begin());
    node.values.push_back(*value);
  }
}

std::optional<double> LiveExpression::value(base::Instant now) const {
  return nodes_.empty() ? std::nullopt : value_of(nodes_.back(), now);
}

std::optional<double> LiveExpression::value_of(const Node& node, base::Instant now) const {
  using Kind = Node::Kind;
  switch (node.kind) {
    case Kind::kConstant:
      return node.constant;
    case Kind::kUnknown:
      return std::nullopt;
    case Kind::kSuccess:
    case Kind::kSlice:
    case Kind::kRequests:
      return of_requests(node);
    case Kind::kGauge:
      return node.numbers->latest();
    case Kind::kNumbers:
    case Kind::kTime:
    case Kind::kTimeShare:
      return of_numbers(node, now);
    case Kind::kWindows:
      if (node.values.empty()) return std::nullopt;
      node.scratch.assign(node.values.begin(), node.values.end());
      return statistic_of(node.statistic, node.quantile, node.scratch);
    case Kind::kNegate: {
      const auto value = value_of(nodes_[node.left], now);
      return value ? std::optional(-*value) : std::nullopt;
    }
    case Kind::kBinary:
      break;
  }
  const auto left = value_of(nodes_[node.left], now);
  const auto right = value_of(nodes_[node.right], now);
  if (!left || !right) return std::nullopt;
  switch (node.operation) {
    case model::Operator::kAdd:
      return *left + *right;
    case model::Operator::kSubtract:
      return *left - *right;
    case model::Operator::kMultiply:
      return *left * *right;
    case model::Operator::kDivide:
      break;
  }
  return *right == 0 ? std::nullopt : std::optional(*left / *right);
}

std::optional<double> LiveExpression::of_requests(const Node& node) const {
  const RequestWindow& requests = *node.requests;
  const auto count = static_cast<double>(requests.count());
  if (node.kind == Node::Kind::kRequests) {
    if (node.statistic == Statistic::kCount) return count;
    if (node.statistic == Statistic::kRate) return count / base::to_seconds(node.window);
  }
  if (requests.count() == 0) return std::nullopt;
  if (node.kind == Node::Kind::kSuccess) return static_cast<double>(requests.ok()) / count;
  if (node.kind == Node::Kind::kSlice) return static_cast<double>(node.part->count()) / count;
  switch (node.statistic) {
    case Statistic::kQuantile:
      return requests.quantile(node.quantile);
    case Statistic::kMaximum:
      return requests.maximum();
    case Statistic::kMinimum:
      return requests.minimum();
    default:
      return requests.mean();
  }
}

std::optional<double> LiveExpression::of_numbers(const Node& node, base::Instant now) const {
  const NumberWindow& numbers = *node.numbers;
  if (node.kind == Node::Kind::kNumbers) {
    if (numbers.size() == 0 && !numbers.before()) return std::nullopt;
    if (node.counter) {
      double events = 0;
      for (std::size_t i = 0; i < numbers.size(); ++i) events += numbers.at(i).value;
      return node.statistic == Statistic::kCount ? events : events / base::to_seconds(node.window);
    }
    if (numbers.size() == 0) return std::nullopt;
    node.scratch.clear();
    for (std::size_t i = 0; i < numbers.size(); ++i) node.scratch.push_back(numbers.at(i).value);
    return statistic_of(node.statistic, node.quantile, node.scratch);
  }
  base::Instant since = now - node.window;
  std::optional<evidence::GaugeSample> held = numbers.before();
  base::Duration met{};
  base::Duration known{};
  const auto take = [&](base::Instant until) {
    if (held && until > since) {
      known += until - since;
      if (model::matches(*node.condition, held->value)) met += until - since;
    }
    since = std::max(since, until);
  };
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    take(numbers.at(i).at);
    held = numbers.at(i);
  }
  take(now);
  if (known <= base::Duration::zero()) return std::nullopt;
  const double seconds = base::to_seconds(met);
  return node.kind == Node::Kind::kTime ? seconds : seconds / base::to_seconds(known);
}

std::uint64_t LiveExpression::samples() const {
  std::uint64_t samples = 0;
  for (const Node& node : nodes_) {
    if (node.requests) samples += node.requests->count();
    if (node.numbers) samples += node.numbers->size();
    if (node.inner) samples += node.inner->samples();
  }
  return samples;
}

RequestWindow* LiveExpression::sole_window() {
  if (nodes_.size() != 1) return nullptr;
  const Node& node = nodes_.front();
  const bool quantile =
      node.kind == Node::Kind::kRequests && node.statistic == Statistic::kQuantile;
  return quantile || node.kind == Node::Kind::kSuccess ? node.requests.get() : nullptr;
}

}  // namespace squall::judge
