#include "model/prediction/expression_checker.h"

#include <fmt/format.h>

#include <cmath>
#include <utility>

#include "model/prediction/dimensions.h"

namespace squall::model {
namespace {

using base::Dimension;

ExpressionPtr made(decltype(Expression::node) node, Dimension dimension, Span span) {
  auto result = std::make_shared<Expression>();
  result->node = std::move(node);
  result->dimension = dimension;
  result->span = span;
  return result;
}

bool counts(Statistic statistic) {
  return statistic == Statistic::kCount || statistic == Statistic::kRate;
}

Dimension dimension_of_count(Statistic statistic) {
  return statistic == Statistic::kRate ? Dimension::kRate : Dimension::kNumber;
}

std::string shown(decltype(Expression::node) node) {
  return print(*made(std::move(node), Dimension::kNumber, {}));
}

// "count", "p99"
std::string function_name(const Aggregate& aggregate) {
  const std::string text = shown(Aggregate{aggregate.statistic, aggregate.quantile, {}, nullptr});
  return text.substr(0, text.find('('));
}

}  // namespace

ExpressionPtr ExpressionChecker::check(const ExpressionPtr& expression) {
  place_ = Place::kTop;
  return expression ? walk(*expression) : nullptr;
}

ExpressionPtr ExpressionChecker::walk(const Expression& expression) {
  const Span span = expression.span;
  const auto& node = expression.node;
  if (const auto* it = std::get_if<Literal>(&node)) return literal(*it, span);
  if (const auto* it = std::get_if<Signal>(&node)) return signal(*it, span);
  if (const auto* it = std::get_if<Aggregate>(&node)) return aggregate(*it, span);
  if (const auto* it = std::get_if<WindowedAggregate>(&node)) return windowed(*it, span);
  if (const auto* it = std::get_if<Share>(&node)) return share(*it, span);
  if (const auto* it = std::get_if<TimeTrue>(&node)) return time_true(*it, span);
  if (const auto* it = std::get_if<Lost>(&node)) return writes("lost", expression, it->probe);
  if (const auto* it = std::get_if<Duplicated>(&node)) {
    return writes("duplicated", expression, it->probe);
  }
  if (const auto* it = std::get_if<Baseline>(&node)) return baseline(*it, span);
  if (const auto* it = std::get_if<Binary>(&node)) return binary(*it, span);
  return negate(std::get<Negate>(node), span);
}

ExpressionPtr ExpressionChecker::literal(const Literal& literal, Span span) {
  if (std::isnan(literal.quantity.value)) return nullptr;  // reported by the lexer
  return made(literal, literal.quantity.dimension, span);
}

ExpressionPtr ExpressionChecker::signal(const Signal& signal, Span span) {
  if (!names_.check_source(signal.source, span)) return nullptr;
  if (is_request_field(signal.field) && names_.has_requests(signal.source)) {
    if (signal.field == "success") return made(signal, Dimension::kShare, span);
    if (signal.field == "latency") {
      error(span, fmt::format("`{}` is many values, one a request", shown(signal)),
            fmt::format("say which: p99({0}), mean({0}), max({0})", shown(signal)));
    } else {
      error(span, fmt::format("`{}` can stand only in a condition", shown(signal)),
            fmt::format("write for example share({})",
                        signal.field == "faulted" ? shown(signal) : shown(signal) + " == 503"));
    }
    return nullptr;
  }
  const SignalTable::Entry* entry = names_.series(signal.source, signal.field, span);
  if (entry == nullptr) return nullptr;
  if (entry->type == SignalType::kCounter) {
    error(span, fmt::format("`{}` counts events and has no value at a moment", shown(signal)),
          fmt::format("write count({0}) or rate({0})", shown(signal)));
    return nullptr;
  }
  return bare_gauge(signal, *entry, span);
}

ExpressionPtr ExpressionChecker::bare_gauge(const Signal& signal, const SignalTable::Entry& entry,
                                            Span span) {
  if (place_ == Place::kBaseline) {
    error(span, fmt::format("baseline({}) is many values, one a sample", shown(signal)),
          fmt::format("say which: baseline(mean({0})), baseline(max({0}))", shown(signal)));
    return nullptr;
  }
  if (place_ == Place::kWindow) {
    error(span, fmt::format("`{}` needs a statistic for each window", shown(signal)),
          fmt::format("write max(mean({0}) each 1s), or max({0}) without `each`", shown(signal)));
    return nullptr;
  }
  return made(signal, entry.dimension, span);
}

ExpressionPtr ExpressionChecker::aggregate(const Aggregate& aggregate, Span span) {
  const std::string& source = aggregate.signal.source;
  if (!names_.check_source(source, span)) return nullptr;
  const std::string& field = aggregate.signal.field;
  const bool requests = names_.has_requests(source);
  if (requests && (field.empty() || is_request_field(field))) {
    return request_aggregate(aggregate, span);
  }
  return series_aggregate(aggregate, span);
}

ExpressionPtr ExpressionChecker::request_aggregate(const Aggregate& aggregate, Span span) {
  const std::string& source = aggregate.signal.source;
  const std::string& field = aggregate.signal.field;
  const std::string function = function_name(aggregate);
  if (counts(aggregate.statistic) && !field.empty()) {
    error(span, fmt::format("{}() counts requests, not a field of them", function),
          field == "latency" ? fmt::format("write {}({})", function, source)
                             : fmt::format("write {0}({1}), or {0}({1} where {1}.{2} ...)",
                                           function, source, field));
    return nullptr;
  }
  if (!counts(aggregate.statistic) && field != "latency") {
    std::string hint = fmt::format("write {}({}.latency)", function, source);
    if (field == "success") hint = fmt::format("the share of successes is `{}.success`", source);
    if (field == "status") hint = fmt::format("write share({}.status == 503)", source);
    error(span,
          field.empty() ? fmt::format("{}() needs a signal of `{}`", function, source)
                        : fmt::format("`{}.{}` has no {}", source, field, function),
          hint);
    return nullptr;
  }
  Aggregate result = aggregate;
  if (result.where) {
    ConditionChecker conditions(&names_, errors_);
    result.where = conditions.check(result.where, source).condition;
    if (!result.where) return nullptr;
  }
  const Dimension dimension =
      counts(result.statistic) ? dimension_of_count(result.statistic) : Dimension::kDuration;
  return made(std::move(result), dimension, span);
}

ExpressionPtr ExpressionChecker::series_aggregate(const Aggregate& aggregate, Span span) {
  Aggregate result = aggregate;
  const std::string function = function_name(aggregate);
  if (result.signal.field.empty()) {
    const auto counters = names_.counters(result.signal.source);
    if (!counts(result.statistic) || counters.size() != 1) {
      error(span, fmt::format("{}() needs a signal of `{}`", function, result.signal.source),
            counters.empty() ? fmt::format("write {}({}.value)", function, result.signal.source)
                             : fmt::format("write {}({}.{})", function, result.signal.source,
                                           counters.front()->field));
      return nullptr;
    }
    result.signal.field = counters.front()->field;
  }
  const SignalTable::Entry* entry = names_.series(result.signal.source, result.signal.field, span);
  if (entry == nullptr) return nullptr;
  if (result.where) {
    error(result.where->span, "`where` picks requests, and this signal has none",
          fmt::format("for the time a gauge was high write time({} > 3)", shown(result.signal)));
    return nullptr;
  }
  const bool counter = entry->type == SignalType::kCounter;
  if (counter != counts(result.statistic)) {
    error(span,
          counter ? fmt::format("`{}` counts events and has no {}", shown(result.signal), function)
                  : fmt::format("`{}` is a gauge: {}() counts requests or events",
                                shown(result.signal), function),
          counter
              ? fmt::format("write count({0}) or rate({0})", shown(result.signal))
              : fmt::format("write mean({0}), max({0}) or time({0} > 3)", shown(result.signal)));
    return nullptr;
  }
  const Dimension dimension = counter ? dimension_of_count(result.statistic) : entry->dimension;
  return made(std::move(result), dimension, span);
}

ExpressionPtr ExpressionChecker::windowed(const WindowedAggregate& windowed, Span span) {
  const auto& node = windowed.inner->node;
  const bool statistic =
      std::holds_alternative<Aggregate>(node) || std::holds_alternative<Share>(node) ||
      std::holds_alternative<TimeTrue>(node) || std::holds_alternative<Signal>(node);
  if (!statistic) {
    error(windowed.inner->span, "`each` repeats one statistic",
          "write max(p99(reads.latency) each 1s), and put arithmetic outside");
    return nullptr;
  }
  if (counts(windowed.statistic)) {
    error(span, "windows are not counted", "the outer statistic is max, min, mean or a quantile");
    return nullptr;
  }
  const Place before = std::exchange(place_, Place::kWindow);
  ExpressionPtr inner = walk(*windowed.inner);
  place_ = before;
  if (windowed.each <= base::Duration::zero() ||
      windowed.each % kWindowStep != base::Duration::zero()) {
    error(span, "the windows of `each` are multiples of 100ms", "write for example `each 1s`");
    return nullptr;
  }
  if (!inner) return nullptr;
  const Dimension dimension = inner->dimension;
  return made(
      WindowedAggregate{windowed.statistic, windowed.quantile, std::move(inner), windowed.each},
      dimension, span);
}

ExpressionPtr ExpressionChecker::share(const Share& share, Span span) {
  ConditionChecker conditions(&names_, errors_);
  CheckedCondition checked = conditions.check(share.condition, {});
  if (!checked.condition) return nullptr;
  return made(Share{std::move(checked.condition)}, Dimension::kShare, span);
}

ExpressionPtr ExpressionChecker::time_true(const TimeTrue& time, Span span) {
  ConditionChecker conditions(&names_, errors_);
  CheckedCondition checked = conditions.check(time.condition, {});
  if (!checked.condition) return nullptr;
  if (checked.requests) {
    error(span, "time() follows a gauge, and requests are moments",
          fmt::format("write share({})", print(*checked.condition)));
    return nullptr;
  }
  return made(TimeTrue{std::move(checked.condition)}, Dimension::kDuration, span);
}

// lost(probe) and duplicated(probe).
ExpressionPtr ExpressionChecker::writes(std::string_view function, const Expression& expression,
                                        const std::string& probe) {
  if (!names_.check_sequenced(function, probe, expression.span)) return nullptr;
  return made(expression.node, Dimension::kNumber, expression.span);
}

ExpressionPtr ExpressionChecker::baseline(const Baseline& baseline, Span span) {
  if (!baseline_allowed_) {
    error(span, "baseline() compares with the baseline, and this is asked in the baseline itself",
          "write the limit as a number, or ask it during fault or recovery");
    return nullptr;
  }
  if (place_ == Place::kBaseline) {
    error(span, "baseline() within baseline()", "one is enough");
    return nullptr;
  }
  const Place before = std::exchange(place_, Place::kBaseline);
  ExpressionPtr inner = walk(*baseline.inner);
  place_ = before;
  if (!inner) return nullptr;
  if (std::holds_alternative<Literal>(inner->node)) {
    error(span, "a number has no baseline", "write it without baseline()");
    return nullptr;
  }
  const Dimension dimension = inner->dimension;
  return made(Baseline{std::move(inner)}, dimension, span);
}

ExpressionPtr ExpressionChecker::binary(const Binary& binary, Span span) {
  ExpressionPtr left = walk(*binary.left);
  ExpressionPtr right = walk(*binary.right);
  if (!left || !right) return nullptr;
  if (binary.operation == Operator::kDivide && is_literal_zero(*right)) {
    error(span, "division by zero", {});
    return nullptr;
  }
  const auto dimension = combine(binary.operation, *left, *right);
  if (!dimension) {
    constexpr std::string_view kVerbs[] = {"added to", "subtracted from", "multiplied by",
                                           "divided by"};
    const bool swapped =
        binary.operation == Operator::kAdd || binary.operation == Operator::kSubtract;
    const Expression& first = swapped ? *right : *left;
    const Expression& second = swapped ? *left : *right;
    error(span,
          fmt::format("{} (`{}`) cannot be {} {} (`{}`)", noun(first.dimension), print(first),
                      kVerbs[static_cast<int>(binary.operation)], noun(second.dimension),
                      print(second)),
          {});
    return nullptr;
  }
  return made(Binary{binary.operation, std::move(left), std::move(right)}, *dimension, span);
}

ExpressionPtr ExpressionChecker::negate(const Negate& negate, Span span) {
  ExpressionPtr inner = walk(*negate.inner);
  if (!inner) return nullptr;
  const Dimension dimension = inner->dimension;
  return made(Negate{std::move(inner)}, dimension, span);
}

}  // namespace squall::model
