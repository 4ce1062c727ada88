#include "report/graph.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "judge/evaluator.h"
#include "model/prediction_language.h"

namespace squall::report {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::size_t kPointsWanted = 300;  // at most, roughly: more than a graph can show
constexpr double kNoData = std::numeric_limits<double>::quiet_NaN();

// Whether the value of the expression grows with the length of its window.
bool accumulates(const model::Expression& expression) {
  if (const auto* aggregate = std::get_if<model::Aggregate>(&expression.node))
    return aggregate->statistic == model::Statistic::kCount;
  if (const auto* binary = std::get_if<model::Binary>(&expression.node))
    return accumulates(*binary->left) || accumulates(*binary->right);
  if (const auto* negate = std::get_if<model::Negate>(&expression.node))
    return accumulates(*negate->inner);
  return std::holds_alternative<model::TimeTrue>(expression.node) ||
         std::holds_alternative<model::Lost>(expression.node) ||
         std::holds_alternative<model::Duplicated>(expression.node);
}

bool is_constant(const model::Expression& expression) {
  if (const auto* binary = std::get_if<model::Binary>(&expression.node))
    return is_constant(*binary->left) && is_constant(*binary->right);
  if (const auto* negate = std::get_if<model::Negate>(&expression.node))
    return is_constant(*negate->inner);
  return std::holds_alternative<model::Literal>(expression.node) ||
         std::holds_alternative<model::Baseline>(expression.node);
}

// The gauge whose samples show the expression better than any window of it; null: none.
const evidence::Series* gauge_of(const judge::Evaluator& evaluator,
                                 const model::Expression& expression) {
  const evidence::Series* series = nullptr;
  if (const auto* signal = std::get_if<model::Signal>(&expression.node)) {
    series = evaluator.numbers(signal->source, signal->field);
  } else if (const auto* time = std::get_if<model::TimeTrue>(&expression.node)) {
    series = evaluator.numbers_of(model::subject_of(*time->condition));
  } else if (const auto* share = std::get_if<model::Share>(&expression.node)) {
    series = evaluator.numbers_of(model::subject_of(*share->condition));
  } else if (const auto* aggregate = std::get_if<model::Aggregate>(&expression.node)) {
    if (aggregate->statistic != model::Statistic::kCount &&
        aggregate->statistic != model::Statistic::kRate)
      series = evaluator.numbers(aggregate->signal.source, aggregate->signal.field);
  }
  return series != nullptr && series->declaration.kind == evidence::SeriesKind::kGauge ? series
                                                                                       : nullptr;
}

base::Dimension dimension_of(const evidence::SeriesDeclaration& declaration) {
  if (declaration.unit == "s") return base::Dimension::kDuration;
  if (declaration.unit == "B") return base::Dimension::kSize;
  if (declaration.unit == "%") return base::Dimension::kShare;
  return base::Dimension::kNumber;
}

// Samples as steps; where there are many, the extremes of each stretch stay.
void add_samples(Graph& graph, const Contents& contents, const evidence::Series& series) {
  const auto& samples = series.samples;
  const std::size_t group = std::max<std::size_t>(1, samples.size() / kPointsWanted * 2);
  for (std::size_t i = 0; i < samples.size(); i += group) {
    const auto first = samples.begin() + static_cast<std::ptrdiff_t>(i);
    const auto last =
        samples.begin() + static_cast<std::ptrdiff_t>(std::min(i + group, samples.size()));
    auto [low, high] = std::minmax_element(
        first, last, [](const auto& a, const auto& b) { return a.value < b.value; });
    if (high < low) std::swap(low, high);
    graph.points.push_back({contents.offset_seconds(low->at), 0, low->value});
    if (high != low) graph.points.push_back({contents.offset_seconds(high->at), 0, high->value});
  }
  for (std::size_t i = 0; i < graph.points.size(); ++i) {
    graph.points[i].end = i + 1 < graph.points.size() ? graph.points[i + 1].begin
                                                      : std::max(graph.end, graph.points[i].begin);
  }
}

base::Duration window_for(base::Duration length) {
  constexpr std::array<base::Duration, 9> kWindows = {
      milliseconds(500), seconds(1),  seconds(2),   seconds(5),   seconds(10),
      seconds(30),       seconds(60), seconds(300), seconds(1800)};
  for (const base::Duration window : kWindows) {
    if (window == milliseconds(500) && length > seconds(20)) continue;
    if (length / window <= static_cast<std::int64_t>(kPointsWanted)) return window;
  }
  return std::max<base::Duration>(kWindows.back(), length / static_cast<int>(kPointsWanted));
}

void add_windows(Graph& graph, const Contents& contents, const judge::Evaluator& evaluator,
                 const model::Expression& expression, base::Duration window) {
  const evidence::Timeline& timeline = contents.timeline();
  for (base::Instant begin = evidence::bucket_start(timeline.start); begin < timeline.end;
       begin += window) {
    const judge::Reading reading = evaluator.evaluate(expression, {begin, begin + window});
    const double value = reading.estimate ? reading.estimate->bounded.value : kNoData;
    graph.points.push_back({contents.offset_seconds(begin), contents.offset_seconds(begin + window),
                            std::isfinite(value) ? value : kNoData});
  }
}

}  // namespace

std::optional<Graph> graph_of(const Contents& contents, const judge::PredictionResult& result) {
  const model::Prediction* tree = contents.tree_of(result);
  if (tree == nullptr || !tree->left || !tree->right) return std::nullopt;
  const bool swapped = is_constant(*tree->left) && !is_constant(*tree->right);
  const model::Expression* expression = swapped ? tree->right.get() : tree->left.get();
  const evidence::Timeline& timeline = contents.timeline();
  // A day is more than any run may take; beyond it the record's moments are not to be trusted.
  const double length = contents.offset_seconds(timeline.end);
  if (!(length > 0) || length > 86400) return std::nullopt;

  const judge::Evaluator evaluator(contents.record(), timeline);
  Graph graph;
  graph.end = length;
  graph.comparable = !swapped && !accumulates(*expression);
  if (const evidence::Series* gauge = gauge_of(evaluator, *expression)) {
    graph.what = "every sample of " + gauge->declaration.name;
    graph.dimension = dimension_of(gauge->declaration);
    graph.steps = true;
    graph.comparable = graph.comparable && graph.dimension == expression->dimension &&
                       !std::holds_alternative<model::Share>(expression->node);
    add_samples(graph, contents, *gauge);
  } else {
    base::Duration window = window_for(timeline.end - timeline.start);
    if (const auto* windowed = std::get_if<model::WindowedAggregate>(&expression->node)) {
      window = std::max(window, windowed->each);
      expression = windowed->inner.get();
      graph.comparable =
          graph.comparable && (window == windowed->each || !accumulates(*expression));
    }
    graph.what = model::print(*expression) + " in windows of " + base::format_duration(window);
    graph.dimension = expression->dimension;
    add_windows(graph, contents, evaluator, *expression, window);
  }
  // A count that stayed at nothing has nothing to show either.
  const bool any = std::any_of(graph.points.begin(), graph.points.end(), [&](const auto& point) {
    return !std::isnan(point.value) && (graph.comparable || graph.steps || point.value != 0);
  });
  if (!any) return std::nullopt;
  return graph;
}

}  // namespace squall::report
