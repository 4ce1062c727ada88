#include "judge/abort_monitor.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "judge/decision.h"
#include "judge/evaluator.h"
#include "judge/live_expression.h"
#include "judge/moments.h"
#include "model/prediction_language.h"

namespace squall::judge {
namespace {

using model::Comparator;
using model::Statistic;

constexpr std::uint64_t kRequestsForNothing = 10;  // with no success among them: enough

base::Duration window_of(const model::Prediction& rule) {
  const auto* over = std::get_if<model::OverClause>(&rule.when);
  return over != nullptr && over->window > base::Duration::zero() ? over->window
                                                                  : model::kDefaultAbortWindow;
}

// What can only grow while a window fills: if it is too high already, so is the full window.
bool only_grows(const model::Prediction& rule) {
  const bool upwards = !rule.right_high && (rule.comparator == Comparator::kGreater ||
                                            rule.comparator == Comparator::kGreaterEqual);
  if (!upwards) return false;
  if (std::holds_alternative<model::TimeTrue>(rule.left->node)) return true;
  const auto* aggregate = std::get_if<model::Aggregate>(&rule.left->node);
  return aggregate != nullptr &&
         (aggregate->statistic == Statistic::kCount || aggregate->statistic == Statistic::kMaximum);
}

}  // namespace

struct AbortMonitor::Rule {
  model::Prediction prediction;
  base::Duration window{};
  bool every_sample = false;  // a bare gauge
  bool grows = false;
  LiveExpression left;
  LiveExpression right;
  std::optional<LiveExpression> high;
  // The left side is one quantile of requests and the limit is fixed: compared by counting.
  RequestWindow* quantile = nullptr;
  double order = 0;
  RequestWindow* success = nullptr;
  std::optional<base::Instant> true_since;
  base::Instant next_scan{};  // for what takes a scan: once a slot

  Rule(model::Prediction rule, const SeriesOf& series_of, const BaselineOf& baseline_of)
      : prediction(std::move(rule)),
        window(window_of(prediction)),
        every_sample(asks_every_sample(prediction)),
        grows(only_grows(prediction)),
        left(*prediction.left, window, series_of, baseline_of),
        right(*prediction.right, window, series_of, baseline_of) {
    if (prediction.right_high) {
      high.emplace(*prediction.right_high, window, series_of, baseline_of);
    }
    const auto* aggregate = std::get_if<model::Aggregate>(&prediction.left->node);
    if (aggregate == nullptr) {
      success = left.sole_window();
    } else if (right.is_fixed() && !high && prediction.comparator != Comparator::kEqual &&
               prediction.comparator != Comparator::kNotEqual) {
      quantile = left.sole_window();
      order = aggregate->quantile;
      if (quantile != nullptr) quantile->set_threshold(right.value({}).value_or(0));
    }
  }

  bool is_blind() const {
    return left.is_blind() || right.is_blind() || (high && high->is_blind());
  }
  bool takes_scan() const {
    if (quantile != nullptr) return false;
    return !left.is_cheap() || !right.is_cheap() || (high && !high->is_cheap());
  }

  // Absent without data.
  std::optional<bool> is_true(base::Instant now) const {
    if (quantile != nullptr) {
      const std::uint64_t count = quantile->count();
      if (count == 0) return std::nullopt;
      const auto rank =
          static_cast<std::uint64_t>(std::max(1.0, std::ceil(order * static_cast<double>(count))));
      const bool above = quantile->above() > count - rank;
      const bool wants_above = prediction.comparator == Comparator::kGreater ||
                               prediction.comparator == Comparator::kGreaterEqual;
      return above == wants_above;
    }
    const auto value = left.value(now);
    const auto limit = right.value(now);
    if (!value || !limit) return std::nullopt;
    if (!high) return satisfies(*value, prediction.comparator, *limit);
    const auto upper = high->value(now);
    if (!upper) return std::nullopt;
    return *value >= *limit && *value <= *upper;
  }

  bool nothing_succeeds(base::Instant now) const {
    return success != nullptr && success->count() >= kRequestsForNothing && success->ok() == 0 &&
           is_true(now).value_or(false);
  }

  std::string reason(base::Instant now) const {
    const base::Dimension dimension = prediction.left->dimension;
    const auto value = left.value(now);
    const auto limit = right.value(now);
    std::string text =
        fmt::format("{} was {}", model::print(*prediction.left),
                    value ? describe_number(*value, dimension) : std::string("without data"));
    if (!every_sample || std::holds_alternative<model::OverClause>(prediction.when)) {
      text += fmt::format(" over the last {} ({} samples)", base::format_duration(window),
                          base::humanize_count(left.samples()));
    }
    if (!limit || high) return text;
    return fmt::format("{}, which is {} {}", text, model::to_string(prediction.comparator),
                       describe_number(*limit, dimension));
  }
};

AbortMonitor::AbortMonitor(
    std::vector<model::Prediction> rules,
    const std::function<std::optional<evidence::SeriesId>(std::string_view)>& series_of,
    const std::function<std::optional<double>(const model::Expression&)>& baseline_of) {
  for (model::Prediction& rule : rules) {
    if (!rule.left || !rule.right) continue;
    rules_.push_back(std::make_unique<Rule>(std::move(rule), series_of, baseline_of));
  }
}

AbortMonitor::~AbortMonitor() = default;

std::vector<evidence::SeriesId> AbortMonitor::series() const {
  std::vector<evidence::SeriesId> all;
  const auto take = [&all](const LiveExpression& side) {
    all.insert(all.end(), side.series().begin(), side.series().end());
  };
  for (const auto& rule : rules_) {
    take(rule->left);
    take(rule->right);
    if (rule->high) take(*rule->high);
  }
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

std::vector<std::string> AbortMonitor::blind_rules() const {
  std::vector<std::string> texts;
  for (const auto& rule : rules_) {
    if (rule->is_blind()) texts.push_back(rule->prediction.text);
  }
  return texts;
}

std::optional<Breach> AbortMonitor::add(const evidence::LiveSample& sample) {
  if (breach_) return breach_;
  const bool request = sample.kind == evidence::SeriesKind::kRequests;
  // Samples of different probes arrive a little out of order; time goes forward all the same.
  latest_ = std::max(latest_, request ? sample.request.done : sample.gauge.at);
  if (!started_) started_ = latest_;
  for (const auto& rule : rules_) {
    bool concerned = rule->left.add(sample, latest_);
    concerned = rule->right.add(sample, latest_) || concerned;
    if (rule->high) concerned = rule->high->add(sample, latest_) || concerned;
    if (!concerned) continue;
    if (rule->takes_scan()) {
      if (latest_ < rule->next_scan) continue;
      rule->next_scan = latest_ + evidence::kBucketWidth;
    }
    check(*rule, latest_);
    if (breach_) break;
  }
  return breach_;
}

std::optional<Breach> AbortMonitor::tick(base::Instant now) {
  if (breach_) return breach_;
  latest_ = std::max(latest_, now);
  if (!started_) started_ = latest_;
  for (const auto& rule : rules_) {
    rule->left.advance(latest_);
    rule->right.advance(latest_);
    if (rule->high) rule->high->advance(latest_);
    check(*rule, latest_);
    if (breach_) break;
  }
  return breach_;
}

void AbortMonitor::check(Rule& rule, base::Instant now) {
  if (!rule.is_true(now).value_or(false)) {
    rule.true_since.reset();
    return;
  }
  if (!rule.true_since) rule.true_since = now;
  bool breached = false;
  if (rule.every_sample) {
    const bool lasting = std::holds_alternative<model::OverClause>(rule.prediction.when);
    breached = !lasting || now - *rule.true_since >= rule.window;
  } else {
    breached = now - *started_ >= rule.window || rule.grows || rule.nothing_succeeds(now);
  }
  if (breached) breach_ = Breach{rule.prediction.text, rule.reason(now), now};
}

}  // namespace squall::judge
