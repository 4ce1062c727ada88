#include "judge/live_view.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "judge/decision.h"
#include "judge/evaluator.h"
#include "judge/live_expression.h"
#include "model/prediction_language.h"

namespace squall::judge {
namespace {

constexpr std::size_t kMostRecent = 30;
constexpr base::Duration kWindow = std::chrono::seconds(2);
constexpr base::Duration kStep = std::chrono::seconds(1);

// Long enough for the windows that the prediction itself speaks of.
base::Duration window_of(const model::Prediction& prediction) {
  const auto* windowed = std::get_if<model::WindowedAggregate>(&prediction.left->node);
  return windowed == nullptr ? kWindow : std::max(kWindow, windowed->each);
}

}  // namespace

struct LiveView::Row {
  model::Prediction prediction;
  LiveExpression left;
  LiveExpression right;
  std::optional<LiveExpression> high;
  std::vector<double> recent;
  std::optional<base::Instant> next_step;

  Row(model::Prediction asked, const SeriesOf& series_of)
      : prediction(std::move(asked)),
        left(*prediction.left, window_of(prediction), series_of, nullptr),
        right(*prediction.right, window_of(prediction), series_of, nullptr) {
    if (prediction.right_high) {
      high.emplace(*prediction.right_high, window_of(prediction), series_of, nullptr);
    }
    recent.reserve(kMostRecent + 1);
  }

  void set_baseline(const SeriesOf& series_of, const BaselineOf& baseline_of) {
    const auto rebuild = [&](LiveExpression& side, const model::Expression& expression) {
      if (side.is_blind()) {
        side = LiveExpression(expression, window_of(prediction), series_of, baseline_of);
      }
    };
    rebuild(left, *prediction.left);
    rebuild(right, *prediction.right);
    if (high) rebuild(*high, *prediction.right_high);
  }

  LiveRow::State state(std::optional<double> value, base::Instant now) const {
    const auto limit = right.value(now);
    const auto upper = high ? high->value(now) : std::nullopt;
    if (!value || !limit || (high && !upper)) return LiveRow::State::kNoData;
    const bool within = high ? *value >= *limit && *value <= *upper
                             : satisfies(*value, prediction.comparator, *limit);
    return within ? LiveRow::State::kWithin : LiveRow::State::kBeyond;
  }

  // One value a second, whenever we are asked.
  void keep(std::optional<double> value, base::Instant now) {
    if (!next_step) next_step = now;
    if (now < *next_step) return;
    next_step = std::max(*next_step + kStep, now - kStep);
    if (recent.size() == kMostRecent) recent.erase(recent.begin());
    recent.push_back(value.value_or(std::numeric_limits<double>::quiet_NaN()));
  }
};

LiveView::LiveView(
    std::vector<model::Prediction> predictions,
    const std::function<std::optional<evidence::SeriesId>(std::string_view)>& series_of)
    : series_of_(series_of) {
  for (model::Prediction& prediction : predictions) {
    if (!prediction.left || !prediction.right) continue;
    rows_.push_back(std::make_unique<Row>(std::move(prediction), series_of));
  }
}

LiveView::~LiveView() = default;

void LiveView::set_baseline(
    const std::function<std::optional<double>(const model::Expression&)>& baseline_of) {
  for (const auto& row : rows_) row->set_baseline(series_of_, baseline_of);
}

std::vector<evidence::SeriesId> LiveView::series() const {
  std::vector<evidence::SeriesId> all;
  for (const auto& row : rows_) {
    all.insert(all.end(), row->left.series().begin(), row->left.series().end());
    all.insert(all.end(), row->right.series().begin(), row->right.series().end());
    if (row->high) all.insert(all.end(), row->high->series().begin(), row->high->series().end());
  }
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

void LiveView::add(const evidence::LiveSample& sample) {
  const bool request = sample.kind == evidence::SeriesKind::kRequests;
  const base::Instant now = request ? sample.request.done : sample.gauge.at;
  for (const auto& row : rows_) {
    row->left.add(sample, now);
    row->right.add(sample, now);
    if (row->high) row->high->add(sample, now);
  }
}

std::vector<LiveRow> LiveView::rows(base::Instant now) {
  std::vector<LiveRow> rows;
  rows.reserve(rows_.size());
  for (const auto& row : rows_) {
    row->left.advance(now);
    row->right.advance(now);
    if (row->high) row->high->advance(now);
    const auto value = row->left.value(now);
    row->keep(value, now);
    rows.push_back({row->prediction.name, row->prediction.text,
                    value ? describe_number(*value, row->prediction.left->dimension) : "-",
                    row->state(value, now), row->recent});
  }
  return rows;
}

}  // namespace squall::judge
