// Printing and parsing are inverse: for random well-typed predictions, and for whatever the parser
// accepts.

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "unit/model/prediction_support.h"

namespace squall::model {
namespace {

using base::Dimension;
using base::Quantity;
using testing::messages;
using testing::table;

int below(int limit) {
  return *rc::gen::inRange(0, limit);
}
bool coin() {
  return below(2) == 0;
}

template <typename Value>
Value one_of(const std::vector<Value>& values) {
  return values[below(static_cast<int>(values.size()))];
}

ExpressionPtr make(decltype(Expression::node) node, Dimension dimension) {
  auto result = std::make_shared<Expression>();
  result->node = std::move(node);
  result->dimension = dimension;
  return result;
}
ConditionPtr make(decltype(Condition::node) node) {
  auto result = std::make_shared<Condition>();
  result->node = std::move(node);
  return result;
}

// Grows trees that the checker accepts, in the normal form in which it leaves them.
class Grower {
 public:
  static double value(Dimension dimension) {
    // Tenths and odd fractions alike; never 0, which is of every dimension.
    const double number = coin() ? (1 + below(100000)) / 10.0 : (1 + below(1 << 30)) / 3.0e5;
    return dimension == Dimension::kShare ? std::min(0.99, number / 1e4) : number;
  }
  static ExpressionPtr literal(Dimension dimension) {
    return make(Literal{Quantity{value(dimension), dimension}}, dimension);
  }

  static Field content_field(const std::string& probe) {
    return coin()
               ? Field{probe, "header", one_of<std::string>({"Retry-After", "a\"b\\c", "\u00e4"})}
               : Field{probe, "json", one_of<std::string>({"$.a", "$['b c'][0]", "$"})};
  }
  static ConditionPtr request_test(const std::string& probe) {
    const auto comparator =
        one_of<Comparator>({Comparator::kLess, Comparator::kLessEqual, Comparator::kGreater,
                            Comparator::kGreaterEqual, Comparator::kEqual, Comparator::kNotEqual});
    const auto equality = one_of<Comparator>({Comparator::kEqual, Comparator::kNotEqual});
    switch (below(9)) {
      case 0:
        return make(Truth{{probe, coin() ? "success" : "faulted", ""}});
      case 1:
        return make(Exists{{probe, "status", ""}});
      case 2:
        return make(Exists{content_field(probe)});
      case 3:
        return make(FieldComparison{
            {probe, "status", ""}, comparator, Quantity{100.0 + below(500), Dimension::kNumber}});
      case 4:
        return make(FieldComparison{
            {probe, "status", ""}, equality, FieldComparison::StatusClass{1 + below(5)}});
      case 5:
        return make(FieldComparison{{probe, "latency", ""},
                                    comparator,
                                    Quantity{value(Dimension::kDuration), Dimension::kDuration}});
      case 6:
        return make(FieldComparison{
            {probe, "outcome", ""}, equality, std::string(outcome_names()[below(8)])});
      case 7:
        return make(FieldComparison{content_field(probe), equality,
                                    one_of<std::string>({"", "text", "\"quoted\\\"", "2xx"})});
      default:
        return make(FieldComparison{
            content_field(probe), comparator,
            Quantity{coin() ? value(Dimension::kNumber) : -value(Dimension::kNumber),
                     Dimension::kNumber}});
    }
  }
  static ConditionPtr gauge_test() {
    return make(FieldComparison{
        {"stuck", "value", ""},
        one_of<Comparator>({Comparator::kLess, Comparator::kEqual, Comparator::kGreaterEqual}),
        Quantity{value(Dimension::kNumber), Dimension::kNumber}});
  }
  static ConditionPtr condition(const std::string& probe, int depth) {
    if (depth <= 0 || below(3) == 0) return probe.empty() ? gauge_test() : request_test(probe);
    const int kind = below(3);
    if (kind == 0) {
      ConditionPtr inner = condition(probe, depth - 1);
      return std::holds_alternative<Not>(inner->node) ? inner : make(Not{inner});
    }
    std::vector<ConditionPtr> parts;
    for (int i = 2 + below(2); i > 0; --i) {
      ConditionPtr part = condition(probe, depth - 1);
      const bool nested = kind == 1 ? std::holds_alternative<All>(part->node)
                                    : std::holds_alternative<Any>(part->node);
      parts.push_back(nested ? make(Not{part}) : part);
    }
    return kind == 1 ? make(All{parts}) : make(Any{parts});
  }

  static double quantile() { return one_of<double>({0.5, 0.07, 0.9, 0.99, 0.999, 0.9995, 0.075}); }
  static std::string probe() { return one_of<std::string>({"reads", "writes", "no-visible"}); }
  static ConditionPtr maybe_where(const std::string& probe) {
    return coin() ? condition(probe, 3) : nullptr;
  }

  // One value of the dimension, as a window of `each` may hold.
  static ExpressionPtr statistic(Dimension dimension) {
    const auto kind = one_of<Statistic>(
        {Statistic::kQuantile, Statistic::kMean, Statistic::kMaximum, Statistic::kMinimum});
    const double rank = kind == Statistic::kQuantile ? quantile() : 0;
    const std::string source = probe();
    switch (dimension) {
      case Dimension::kDuration:
        if (below(4) == 0) return make(TimeTrue{condition("", 2)}, dimension);
        return make(Aggregate{kind, rank, {source, "latency"}, maybe_where(source)}, dimension);
      case Dimension::kShare:
        if (coin()) return make(Signal{source, "success"}, dimension);
        return make(Share{condition(coin() ? source : "", 3)}, dimension);
      case Dimension::kRate:
        return make(Aggregate{Statistic::kRate, 0, {source, ""}, maybe_where(source)}, dimension);
      case Dimension::kSize:
        return make(Aggregate{kind, rank, {"worker", "memory"}, nullptr}, dimension);
      case Dimension::kNumber:
        break;
    }
    if (coin()) {
      return make(Aggregate{Statistic::kCount, 0, {"api-log", "matches"}, nullptr}, dimension);
    }
    return make(Aggregate{Statistic::kCount, 0, {source, ""}, maybe_where(source)}, dimension);
  }

  static ExpressionPtr leaf(Dimension dimension, bool bare_gauges) {
    switch (below(bare_gauges ? 4 : 3)) {
      case 0:
        return literal(dimension);
      case 1:
        return statistic(dimension);
      case 2: {
        const bool quantiles = coin();
        return make(WindowedAggregate{quantiles ? Statistic::kQuantile : Statistic::kMaximum,
                                      quantiles ? quantile() : 0, statistic(dimension),
                                      std::chrono::milliseconds(100 * (1 + below(30)))},
                    dimension);
      }
      default:
        break;
    }
    switch (dimension) {
      case Dimension::kNumber:
        return make(Signal{"stuck", "value"}, dimension);
      case Dimension::kShare:
        return make(Signal{"pool", "used"}, dimension);
      case Dimension::kDuration:
        return make(Signal{"replica", "lag"}, dimension);
      case Dimension::kSize:
        return make(Signal{"worker", "memory"}, dimension);
      case Dimension::kRate:
        break;
    }
    return make(Signal{"disk", "written"}, dimension);
  }

  static ExpressionPtr expression(Dimension dimension, int depth, bool bare_gauges = true) {
    if (depth <= 0 || below(3) == 0) return leaf(dimension, bare_gauges);
    const auto next = [&](Dimension of) { return expression(of, depth - 1, bare_gauges); };
    switch (below(6)) {
      case 0:
        return make(Negate{next(dimension)}, dimension);
      case 1:
        return make(Binary{Operator::kAdd, next(dimension), next(dimension)}, dimension);
      case 2:
        return make(Binary{Operator::kSubtract, next(dimension), next(dimension)}, dimension);
      case 3:
        return make(Binary{Operator::kMultiply, literal(Dimension::kNumber), next(dimension)},
                    dimension);
      case 4:
        return make(Binary{Operator::kDivide, next(dimension), literal(Dimension::kNumber)},
                    dimension);
      default:
        break;
    }
    if (!bare_gauges) return leaf(dimension, false);
    ExpressionPtr inner = expression(dimension, depth - 1, false);
    if (std::holds_alternative<Literal>(inner->node)) return inner;
    return make(Baseline{inner}, dimension);
  }

  static WhenClause clause() {
    const auto seconds = [](int limit) {
      return std::chrono::milliseconds(1 + below(limit * 1000));
    };
    switch (below(4)) {
      case 0:
        return DuringClause{coin() ? PhaseKind::kFault : PhaseKind::kRecovery, "",
                            coin() ? base::Duration{} : base::Duration(seconds(100))};
      case 1:
        return DuringClause{PhaseKind::kFault,
                            one_of<std::string>({"outage", "slow-db", "process.kill-2"}),
                            base::Duration(below(2000000000))};
      case 2: {
        // Long enough for every window that leaf() makes.
        const auto hold = base::Duration(std::chrono::seconds(3)) + seconds(20);
        return WithinClause{hold, hold + seconds(100),
                            coin() ? WithinClause::Anchor::kInject : WithinClause::Anchor::kRevert,
                            coin() ? "outage" : ""};
      }
      default:
        return AtEndClause{};
    }
  }
};

TEST(PredictionRoundTrip, RandomPredictions) {
  const SignalTable signals = table();
  rc::check("parse(print(tree)) == tree", [&] {
    const auto dimension =
        one_of<Dimension>({Dimension::kNumber, Dimension::kShare, Dimension::kDuration,
                           Dimension::kSize, Dimension::kRate});
    Prediction prediction;
    prediction.comparator = one_of<Comparator>({Comparator::kLess, Comparator::kLessEqual,
                                                Comparator::kGreater, Comparator::kGreaterEqual});
    // Something of the system must stand in it.
    prediction.left =
        make(Binary{Operator::kAdd, Grower::statistic(dimension), Grower::expression(dimension, 4)},
             dimension);
    prediction.right = Grower::expression(dimension, 4);
    prediction.when = Grower::clause();
    const std::string text = print(prediction);
    RC_PRE(text.size() <= kPredictionLengthMax);
    const auto parsed = parse_prediction("random", text, signals, ClauseRule::kHypothesis);
    if (!parsed.prediction) RC_FAIL(text + "\n" + messages(parsed.errors));
    RC_ASSERT(parsed.prediction->text == text);
    RC_ASSERT(equal(*parsed.prediction, prediction));
  });
}

// Mutations of good predictions: nearly all are refused, and whatever is accepted reads back.
TEST(PredictionRoundTrip, WhateverIsAccepted) {
  const SignalTable signals = table();
  const std::vector<std::string> seeds = {
      "p99.9(reads.latency where reads.status == 200) < 2 * baseline(p99(reads.latency)) during "
      "fault from 3s",
      "max(p99(reads.latency) each 1s) between 1ms and 2s for 5s within 30s of revert outage",
      "share(not (reads.status == 5xx or reads.json[\"$.a\"] == \"b\")) >= 99.5% at end",
      "count(api-log) / 2 - -3 < stuck.value + 10% * queue.depth during outage",
      "reads.success < 90% over 2s"};
  const std::vector<std::string> pieces = {"(",   ")",  " ",  "-",      "not ",  "0",
                                           "9.5", "%",  "ms", " each ", "1s",    "reads",
                                           ".",   "\"", "==", "min(",   " and ", "/"};
  rc::check("parse(print(parse(x))) == parse(x)", [&] {
    std::string text = one_of(seeds);
    for (int i = below(4); i > 0; --i) {
      const std::size_t at = below(static_cast<int>(text.size()));
      if (coin()) text.erase(at, 1 + below(4));
      if (coin()) text.insert(at < text.size() ? at : text.size(), one_of(pieces));
      if (text.empty()) return;
    }
    const auto rule = one_of<ClauseRule>(
        {ClauseRule::kSteadyState, ClauseRule::kHypothesis, ClauseRule::kAbortRule});
    const auto first = parse_prediction("mutant", text, signals, rule);
    RC_ASSERT(first.prediction.has_value() == first.errors.empty());
    if (!first.prediction) return;
    const auto second = parse_prediction("mutant", first.prediction->text, signals, rule);
    if (!second.prediction) RC_FAIL(text + "\n" + messages(second.errors));
    RC_ASSERT(equal(*first.prediction, *second.prediction));
    RC_ASSERT(second.prediction->text == first.prediction->text);
  });
}

}  // namespace
}  // namespace squall::model
