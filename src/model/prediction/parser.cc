#include "model/prediction/parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <utility>

#include "base/text.h"
#include "model/prediction/clause_parser.h"
#include "model/prediction/token_stream.h"

namespace squall::model {
namespace {

// An expression with its height, so that no tree is deeper than the walks over it can bear.
struct Built {
  ExpressionPtr expression;
  int height = 0;
  explicit operator bool() const { return expression != nullptr; }
};

struct FunctionName {
  std::string_view name;
  Statistic statistic;
};
constexpr FunctionName kStatistics[] = {
    {"mean", Statistic::kMean},     {"max", Statistic::kMaximum}, {"min", Statistic::kMinimum},
    {"count", Statistic::kCount}, {"rate", Statistic::kRate},
};

struct Synonym {
  std::string_view written;
  std::string_view meant;
};
constexpr Synonym kSynonyms[] = {
    {"median", "p50"}, {"avg", "mean"},     {"average", "mean"},  {"maximum", "max"},
    {"minimum", "min"}, {"percentage", "share"}, {"ratio", "share"}, {"total", "count"},
    {"sum", "count"},  {"duration", "time"}, {"p100", "max"},      {"p0", "min"},
};

// p50, p99.9: the number behind the p. Decimal digits are shifted, not divided, so that p99.9 is the
// double nearest to 0.999 and prints as p99.9 again.
std::optional<double> quantile_of(std::string_view name) {
  if (name.size() < 2 || name[0] != 'p' ||
      name.find_first_not_of("0123456789.", 1) != std::string_view::npos) {
    return std::nullopt;
  }
  const std::string number = std::string(name.substr(1)) + "e-2";
  return std::strtod(number.c_str(), nullptr);
}

class Parser : public ClauseParser {
 public:
  using ClauseParser::ClauseParser;

  Syntax prediction();
  ConditionPtr whole_condition();

 private:
  // Counts nesting for as long as it lives.
  struct Nesting {
    explicit Nesting(Parser& owner) : parser(owner) { ++parser.depth_; }
    ~Nesting() { --parser.depth_; }
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;
    Parser& parser;
  };
  bool too_deep(int depth, Span span) {
    if (depth <= kPredictionDepthMax) return false;
    if (!depth_reported_) {
      error(span, fmt::format("nested deeper than {} levels", kPredictionDepthMax),
            "split it into several predictions");
    }
    depth_reported_ = true;
    return true;
  }

  void sides(Syntax& syntax);
  void trailing();
  ExpressionPtr side();
  Built sum();
  Built product();
  Built factor();
  Built primary();
  Built parenthesized();
  Built signal();
  Built call();
  Built statistic_call(Statistic statistic, double quantile, Span begin);
  Built windowed(Statistic statistic, double quantile, Built inner, Span begin);
  Built condition_call(bool share, Span begin);
  Built probe_call(bool lost, Span begin);
  Built baseline_call(Span begin);
  std::optional<Signal> signal_name();
  bool close(std::string_view function);

  Built make(decltype(Expression::node) node, int height, Span begin) {
    const Span span{begin.begin, previous().span.end};
    if (too_deep(height, span)) return {};
    auto expression = std::make_shared<Expression>();
    expression->node = std::move(node);
    expression->span = span;
    return {std::move(expression), height};
  }
  Built binary(Operator operation, Built left, Built right) {
    const int height = std::max(left.height, right.height) + 1;
    const Span begin = left.expression->span;
    return make(Binary{operation, std::move(left.expression), std::move(right.expression)}, height,
                begin);
  }

  ConditionPtr condition();
  ConditionPtr conjunction();
  ConditionPtr negation();
  ConditionPtr test();
  ConditionPtr comparison(Field field, Span begin);
  ConditionPtr missing_field();
  std::optional<Field> field();
  bool field_key(Field& field);
  ConditionPtr make_condition(decltype(Condition::node) node, Span begin) {
    auto made = std::make_shared<Condition>();
    made->node = std::move(node);
    made->span = {begin.begin, previous().span.end};
    return made;
  }

  int depth_ = 0;
  bool depth_reported_ = false;
};

// ---- The whole ---------------------------------------------------------------------------------

Syntax Parser::prediction() {
  Syntax syntax;
  const std::size_t before = error_count();
  sides(syntax);
  const bool sides_read = error_count() == before;
  // After a mistake the clause is looked for, so that a second mistake in it is found too.
  if (!sides_read) skip_to_clause();
  if (at_clause()) {
    clause(syntax);
  }
  if (sides_read && error_count() == before && peek().kind != TokenKind::kEnd) trailing();
  syntax.complete = sides_read && error_count() == before;
  return syntax;
}

void Parser::sides(Syntax& syntax) {
  syntax.left = side();
  if (!syntax.left) return;
  syntax.comparator_span = peek().span;
  if (take_word("between")) {
    syntax.right = side();
    if (!syntax.right) return;
    if (!take_word("and")) {
      return unexpected("`and` with the upper limit", "write `between 1 and 5`");
    }
    syntax.right_high = side();
    return;
  }
  if (peek().kind != TokenKind::kComparator) {
    std::string hint = "a prediction compares: reads.success >= 99.5% during fault";
    if (peek_word("is") || peek_word("equals")) hint = "write `==`";
    if (peek_word("each")) {
      hint = "`each` stands inside an outer statistic: max(p99(reads.latency) each 1s)";
    }
    if (peek_word("where")) hint = "`where` stands inside: p99(reads.latency where reads.faulted)";
    return unexpected("a comparison (< <= > >= == != between)", hint);
  }
  syntax.comparator = peek().comparator;
  advance();
  syntax.right = side();
}

void Parser::trailing() {
  std::string hint = "write during, within or at end behind the comparison";
  if (peek().kind == TokenKind::kComparator) {
    hint = "compare once; for a range write `between 1 and 5`";
  } else if (peek_word("and") || peek_word("or")) {
    hint = "each prediction is judged on its own: write two";
  } else if (peek_word("each")) {
    hint = "`each` stands inside an outer statistic: max(p99(reads.latency) each 1s)";
  } else if (peek().kind == TokenKind::kRightParenthesis) {
    hint = "this parenthesis was never opened";
  } else if (peek().kind == TokenKind::kName) {
    const std::string suggestion = base::did_you_mean(
        peek().text, {"during", "over", "for", "within", "at", "from", "of"});
    if (!suggestion.empty()) hint = std::string(base::trim(suggestion));
  }
  unexpected("the end of the prediction", hint);
}

ConditionPtr Parser::whole_condition() {
  ConditionPtr result = condition();
  if (result && peek().kind != TokenKind::kEnd) {
    unexpected("`and`, `or` or the end of the condition", {});
    return nullptr;
  }
  return result;
}

// ---- Expressions -------------------------------------------------------------------------------

ExpressionPtr Parser::side() { return sum().expression; }

Built Parser::sum() {
  Built left = product();
  while (left && (peek().kind == TokenKind::kPlus || peek().kind == TokenKind::kMinus)) {
    const auto operation =
        peek().kind == TokenKind::kPlus ? Operator::kAdd : Operator::kSubtract;
    advance();
    Built right = product();
    if (!right) return {};
    left = binary(operation, std::move(left), std::move(right));
  }
  return left;
}

Built Parser::product() {
  Built left = factor();
  while (left && (peek().kind == TokenKind::kTimes || peek().kind == TokenKind::kDivide)) {
    const auto operation =
        peek().kind == TokenKind::kTimes ? Operator::kMultiply : Operator::kDivide;
    advance();
    Built right = factor();
    if (!right) return {};
    left = binary(operation, std::move(left), std::move(right));
  }
  return left;
}

Built Parser::factor() {
  if (peek().kind != TokenKind::kMinus) return primary();
  const Nesting nesting(*this);
  const Span begin = peek().span;
  if (too_deep(depth_, begin)) return {};
  advance();
  Built inner = factor();
  if (!inner) return {};
  return make(Negate{std::move(inner.expression)}, inner.height + 1, begin);
}

Built Parser::primary() {
  const Token& token = peek();
  switch (token.kind) {
    case TokenKind::kNumber: {
      advance();
      Literal literal{token.quantity};
      if (!token.valid) literal.quantity.value = std::numeric_limits<double>::quiet_NaN();
      return make(literal, 1, token.span);
    }
    case TokenKind::kLeftParenthesis:
      return parenthesized();
    case TokenKind::kName:
      if (peek(1).kind == TokenKind::kLeftParenthesis) return call();
      if (peek(1).kind == TokenKind::kDot) return signal();
      unexpected("a signal such as reads.latency", quoted_name_hint());
      return {};
    case TokenKind::kStatusClass:
      unexpected("a number or a signal",
                 "a status class stands in a condition: share(reads.status == 2xx)");
      return {};
    case TokenKind::kText:
      unexpected("a number or a signal",
                 "a text stands in a condition: share(reads.outcome == \"timeout\")");
      return {};
    case TokenKind::kDot:
      unexpected("a number or a signal", "write a fraction with its zero: 0.5");
      return {};
    default:
      unexpected("a number or a signal", {});
      return {};
  }
}

Built Parser::parenthesized() {
  const Nesting nesting(*this);
  if (too_deep(depth_, peek().span)) return {};
  advance();
  Built inner = sum();
  if (!inner) return {};
  if (!take(TokenKind::kRightParenthesis)) {
    unexpected("`)`", {});
    return {};
  }
  return inner;
}

Built Parser::signal() {
  const Span begin = peek().span;
  const auto name = signal_name();
  if (!name) return {};
  if (peek().kind == TokenKind::kLeftBracket) {
    error(peek().span, fmt::format("`{}.{}[...]` can stand only in a condition", name->source,
                                   name->field),
          fmt::format("write share({}.{}[\"...\"] == \"...\")", name->source, name->field));
    return {};
  }
  return make(*name, 1, begin);
}

// `reads` or `reads.latency`; the field is empty in the first.
std::optional<Signal> Parser::signal_name() {
  Signal result;
  result.source = peek().text;
  advance();
  if (!take(TokenKind::kDot)) return result;
  if (peek().kind != TokenKind::kName) {
    unexpected(fmt::format("a signal of `{}`", result.source), {});
    return std::nullopt;
  }
  result.field = peek().text;
  advance();
  return result;
}

Built Parser::call() {
  const Nesting nesting(*this);
  const Token& name = peek();
  if (too_deep(depth_, name.span)) return {};
  const std::string_view function = name.text;
  for (const auto& candidate : kStatistics) {
    if (function == candidate.name) return statistic_call(candidate.statistic, 0, name.span);
  }
  const auto quantile = quantile_of(function);
  if (quantile && *quantile > 0 && *quantile < 1) {
    const std::size_t point = function.find('.');
    if (point != std::string_view::npos && function.size() - point > 4) {
      error(name.span, fmt::format("`{}` is finer than any measurement", function),
            "at most three digits behind the point: p99.999");
      return {};
    }
    return statistic_call(Statistic::kQuantile, *quantile, name.span);
  }
  if (function == "share" || function == "time") {
    return condition_call(function == "share", name.span);
  }
  if (function == "lost" || function == "duplicated") {
    return probe_call(function == "lost", name.span);
  }
  if (function == "baseline") return baseline_call(name.span);

  std::string hint = std::string(base::trim(base::did_you_mean(
      function, {"mean", "max", "min", "count", "rate", "share", "time", "lost", "duplicated",
                 "baseline", "p50", "p90", "p95", "p99"})));
  for (const auto& synonym : kSynonyms) {
    if (function == synonym.written) hint = fmt::format("write `{}(...)`", synonym.meant);
  }
  if (quantile && hint.empty()) hint = "quantiles lie between p0 and p100: p50, p99, p99.9";
  if (hint.empty()) {
    hint = "there are p50 .. p99.9, mean, max, min, count, rate, share, time, lost, duplicated and "
           "baseline";
  }
  error(name.span, fmt::format("there is no function `{}`", function), hint);
  return {};
}

bool Parser::close(std::string_view function) {
  if (take(TokenKind::kRightParenthesis)) return true;
  std::string hint;
  if (peek_word("each")) {
    hint = "`each` needs a statistic inside: max(p99(reads.latency) each 1s)";
  }
  if (peek_word("where")) hint = "`where` stands behind the signal of a statistic";
  unexpected(fmt::format("`)` of {}(", function), hint);
  return false;
}

// max(reads.latency where ...), count(reads), or max(inner each 1s).
Built Parser::statistic_call(Statistic statistic, double quantile, Span begin) {
  const std::string function = peek().text;
  advance();
  advance();
  const bool name = peek().kind == TokenKind::kName;
  const bool plain = name && peek(1).kind != TokenKind::kLeftParenthesis;
  Built inner;
  if (plain) {
    const Span signal_begin = peek().span;
    auto found = signal_name();
    if (!found) return {};
    inner = make(*found, 1, signal_begin);
  } else {
    inner = sum();
  }
  if (!inner) return {};
  if (take_word("each")) return windowed(statistic, quantile, std::move(inner), begin);
  const Signal* signal = std::get_if<Signal>(&inner.expression->node);
  if (!signal) {
    error(inner.expression->span,
          fmt::format("{}() takes one signal, or a statistic with `each`", function),
          fmt::format("write {0}(reads.latency), or {0}(p99(reads.latency) each 1s)", function));
    return {};
  }
  Aggregate aggregate{statistic, quantile, *signal, nullptr};
  if (take_word("where")) {
    aggregate.where = condition();
    if (!aggregate.where) return {};
  }
  if (!close(function)) return {};
  return make(std::move(aggregate), inner.height + 1, begin);
}

Built Parser::windowed(Statistic statistic, double quantile, Built inner, Span begin) {
  const auto each = duration("the length of the windows, such as 1s");
  if (!each || !close("the windows")) return {};
  const int height = inner.height + 1;
  return make(WindowedAggregate{statistic, quantile, std::move(inner.expression), *each}, height,
              begin);
}

Built Parser::condition_call(bool share, Span begin) {
  advance();
  advance();
  ConditionPtr inner = condition();
  if (!inner || !close(share ? "share" : "time")) return {};
  if (share) return make(Share{std::move(inner)}, 2, begin);
  return make(TimeTrue{std::move(inner)}, 2, begin);
}

Built Parser::probe_call(bool lost, Span begin) {
  const std::string_view function = lost ? "lost" : "duplicated";
  advance();
  advance();
  if (peek().kind != TokenKind::kName) {
    unexpected("the name of a probe", fmt::format("write {}(writes)", function));
    return {};
  }
  std::string probe = peek().text;
  advance();
  if (peek().kind == TokenKind::kDot) {
    unexpected(fmt::format("`)` of {}(", function),
               fmt::format("it takes the probe, not a signal of it: {}({})", function, probe));
    return {};
  }
  if (!close(function)) return {};
  if (lost) return make(Lost{std::move(probe)}, 1, begin);
  return make(Duplicated{std::move(probe)}, 1, begin);
}

Built Parser::baseline_call(Span begin) {
  advance();
  advance();
  Built inner = sum();
  if (!inner || !close("baseline")) return {};
  return make(Baseline{std::move(inner.expression)}, inner.height + 1, begin);
}

// ---- Conditions --------------------------------------------------------------------------------

// Nested `and` in `and` is one list, so that equal conditions have equal trees and names.
template <typename List>
void add_flat(List& list, const ConditionPtr& condition) {
  if (const List* nested = std::get_if<List>(&condition->node)) {
    list.conditions.insert(list.conditions.end(), nested->conditions.begin(),
                           nested->conditions.end());
  } else {
    list.conditions.push_back(condition);
  }
}

ConditionPtr Parser::condition() {
  const Span begin = peek().span;
  ConditionPtr first = conjunction();
  if (!first || !peek_word("or")) return first;
  Any any;
  add_flat(any, first);
  while (take_word("or")) {
    ConditionPtr next = conjunction();
    if (!next) return nullptr;
    add_flat(any, next);
  }
  return make_condition(std::move(any), begin);
}

ConditionPtr Parser::conjunction() {
  const Span begin = peek().span;
  ConditionPtr first = negation();
  if (!first || !peek_word("and")) return first;
  All all;
  add_flat(all, first);
  while (take_word("and")) {
    ConditionPtr next = negation();
    if (!next) return nullptr;
    add_flat(all, next);
  }
  return make_condition(std::move(all), begin);
}

ConditionPtr Parser::negation() {
  const Nesting nesting(*this);
  const Span begin = peek().span;
  if (too_deep(depth_, begin)) return nullptr;
  const TokenKind next = peek(1).kind;
  if (peek_word("not") && next != TokenKind::kDot && next != TokenKind::kComparator &&
      next != TokenKind::kLeftBracket) {
    advance();
    ConditionPtr inner = negation();
    if (!inner) return nullptr;
    if (const Not* twice = std::get_if<Not>(&inner->node)) return twice->condition;
    return make_condition(Not{std::move(inner)}, begin);
  }
  if (take(TokenKind::kLeftParenthesis)) {
    ConditionPtr inner = condition();
    if (inner && !take(TokenKind::kRightParenthesis)) {
      unexpected("`)`, `and` or `or`", {});
      return nullptr;
    }
    return inner;
  }
  return test();
}

ConditionPtr Parser::test() {
  const Span begin = peek().span;
  if (peek().kind != TokenKind::kName) return missing_field();
  auto tested = field();
  if (!tested) return nullptr;
  if (take_word("exists")) return make_condition(Exists{std::move(*tested)}, begin);
  if (peek().kind == TokenKind::kComparator) return comparison(std::move(*tested), begin);
  for (std::string_view word : {"in", "between", "contains", "matches", "is", "equals", "has"}) {
    if (!peek_word(word)) continue;
    std::string hint = "a condition compares with < <= > >= == !=, or ends in `exists`";
    if (word == "in") hint = "write the alternatives: reads.status == 200 or reads.status == 404";
    if (word == "between") hint = "write both ends: reads.latency >= 1s and reads.latency <= 2s";
    error(peek().span, fmt::format("`{}` is not part of conditions", word), hint);
    return nullptr;
  }
  return make_condition(Truth{std::move(*tested)}, begin);
}

ConditionPtr Parser::missing_field() {
  std::string hint;
  if (peek().kind == TokenKind::kNumber || peek().kind == TokenKind::kText ||
      peek().kind == TokenKind::kStatusClass) {
    hint = "the field comes first: reads.status == 200";
  }
  unexpected("a field such as reads.status", hint);
  return nullptr;
}

std::optional<Field> Parser::field() {
  Field result;
  result.name = peek().text;
  advance();
  if (take(TokenKind::kDot)) {
    if (peek().kind != TokenKind::kName) {
      unexpected(fmt::format("a field of `{}`", result.name), {});
      return std::nullopt;
    }
    result.probe = std::exchange(result.name, peek().text);
    advance();
  }
  if (peek().kind == TokenKind::kLeftParenthesis) {
    unexpected("a comparison", "a condition speaks of single requests or samples and has no "
                               "functions");
    return std::nullopt;
  }
  if (take(TokenKind::kLeftBracket) && !field_key(result)) return std::nullopt;
  return result;
}

bool Parser::field_key(Field& field) {
  if (peek().kind != TokenKind::kText) {
    unexpected("a text in double quotes", "write header[\"Retry-After\"] or json[\"$.path\"]");
    return false;
  }
  if (peek().text.empty()) {
    error(peek().span, "an empty key", "write header[\"Retry-After\"] or json[\"$.path\"]");
    return false;
  }
  field.key = peek().text;
  advance();
  if (take(TokenKind::kRightBracket)) return true;
  unexpected("`]`", {});
  return false;
}

ConditionPtr Parser::comparison(Field field, Span begin) {
  FieldComparison result;
  result.field = std::move(field);
  result.comparator = peek().comparator;
  advance();
  const bool negative = take(TokenKind::kMinus);
  const Token& value = peek();
  if (value.kind == TokenKind::kNumber) {
    base::Quantity quantity = value.quantity;
    if (negative) quantity.value = -quantity.value;
    if (!value.valid) quantity.value = std::numeric_limits<double>::quiet_NaN();
    result.value = quantity;
  } else if (!negative && value.kind == TokenKind::kText) {
    result.value = value.text;
  } else if (!negative && value.kind == TokenKind::kStatusClass) {
    result.value = FieldComparison::StatusClass{value.hundreds};
  } else if (!negative && (peek_word("true") || peek_word("false"))) {
    result.value = value.text == "true";
  } else {
    unexpected("a value: a number, a text in double quotes, true, false or a class such as 2xx",
               value.kind == TokenKind::kName
                   ? fmt::format("a text stands in double quotes: \"{}\"", value.text)
                   : std::string());
    return nullptr;
  }
  advance();
  return make_condition(std::move(result), begin);
}

bool swallowed(const std::vector<Token>& tokens) {
  return std::any_of(tokens.begin(), tokens.end(), [](const Token& token) {
    return token.kind == TokenKind::kText && !token.valid;
  });
}

}  // namespace

Syntax parse_prediction_syntax(std::string_view text, std::vector<LanguageError>& errors) {
  std::vector<Token> tokens = lex(text, errors);
  // A text without its end has swallowed the rest: nothing more can be said about it.
  if (swallowed(tokens)) return {};
  return Parser(std::move(tokens), errors).prediction();
}

ConditionPtr parse_condition_syntax(std::string_view text, std::vector<LanguageError>& errors) {
  const std::size_t before = errors.size();
  std::vector<Token> tokens = lex(text, errors);
  if (swallowed(tokens)) return nullptr;
  ConditionPtr result = Parser(std::move(tokens), errors).whole_condition();
  return errors.size() == before ? result : nullptr;
}

}  // namespace squall::model
