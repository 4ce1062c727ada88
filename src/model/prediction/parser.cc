#include "model/prediction/parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <utility>

#include "base/text.h"
#include "model/prediction/clause_parser.h"
#include "model/prediction/condition_parser.h"
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
    {"mean", Statistic::kMean},   {"max", Statistic::kMaximum}, {"min", Statistic::kMinimum},
    {"count", Statistic::kCount}, {"rate", Statistic::kRate},
};

struct Synonym {
  std::string_view written;
  std::string_view meant;
};
constexpr Synonym kSynonyms[] = {
    {"median", "p50"},  {"avg", "mean"},         {"average", "mean"}, {"maximum", "max"},
    {"minimum", "min"}, {"percentage", "share"}, {"ratio", "share"},  {"total", "count"},
    {"sum", "count"},   {"duration", "time"},    {"p100", "max"},     {"p0", "min"},
};

// p50, p99.9: the number behind the p. Decimal digits are shifted, not divided, so that p99.9 is
// the double nearest to 0.999 and prints as p99.9 again.
std::optional<double> quantile_of(std::string_view name) {
  if (name.size() < 2 || name[0] != 'p' ||
      name.find_first_not_of("0123456789.", 1) != std::string_view::npos) {
    return std::nullopt;
  }
  const std::string number = std::string(name.substr(1)) + "e-2";
  return std::strtod(number.c_str(), nullptr);
}

class Parser {
 public:
  Parser(std::vector<Token> tokens, std::vector<LanguageError>& errors)
      : tokens_(std::move(tokens), errors) {}

  Syntax prediction();
  ConditionPtr condition();

 private:
  bool sides(Syntax& syntax);
  bool limits(Syntax& syntax);
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
    const Span span{begin.begin, tokens_.previous().span.end};
    if (tokens_.too_deep(height, span)) return {};
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

  TokenStream tokens_;
};

// ---- The whole ---------------------------------------------------------------------------------

Syntax Parser::prediction() {
  Syntax syntax;
  const bool sides_read = sides(syntax);
  // After a mistake the clause is looked for, so that a second mistake in it is found too.
  if (!sides_read) skip_to_clause(tokens_);
  const bool clause_read = !at_clause(tokens_) || parse_clause(tokens_, syntax);
  syntax.complete = sides_read && clause_read;
  if (syntax.complete && tokens_.peek().kind != TokenKind::kEnd) {
    trailing();
    syntax.complete = false;
  }
  return syntax;
}

// Both sides of the comparison. False after a mistake, which was reported.
bool Parser::sides(Syntax& syntax) {
  syntax.left = side();
  if (!syntax.left) return false;
  syntax.comparator_span = tokens_.peek().span;
  if (tokens_.take_word("between")) return limits(syntax);
  if (tokens_.peek().kind != TokenKind::kComparator) {
    std::string hint = "a prediction compares: reads.success >= 99.5% during fault";
    if (tokens_.peek_word("is") || tokens_.peek_word("equals")) hint = "write `==`";
    if (tokens_.peek_word("each")) {
      hint = "`each` stands inside an outer statistic: max(p99(reads.latency) each 1s)";
    }
    if (tokens_.peek_word("where")) {
      hint = "`where` stands inside: p99(reads.latency where reads.faulted)";
    }
    tokens_.unexpected("a comparison (< <= > >= == != between)", hint);
    return false;
  }
  syntax.comparator = tokens_.peek().comparator;
  tokens_.advance();
  syntax.right = side();
  return syntax.right != nullptr;
}

bool Parser::limits(Syntax& syntax) {
  syntax.right = side();
  if (!syntax.right) return false;
  if (!tokens_.take_word("and")) {
    tokens_.unexpected("`and` with the upper limit", "write `between 1 and 5`");
    return false;
  }
  syntax.right_high = side();
  return syntax.right_high != nullptr;
}

void Parser::trailing() {
  std::string hint = "write during, within or at end behind the comparison";
  if (tokens_.peek().kind == TokenKind::kComparator) {
    hint = "compare once; for a range write `between 1 and 5`";
  } else if (tokens_.peek_word("and") || tokens_.peek_word("or")) {
    hint = "each prediction is judged on its own: write two";
  } else if (tokens_.peek_word("each")) {
    hint = "`each` stands inside an outer statistic: max(p99(reads.latency) each 1s)";
  } else if (tokens_.peek().kind == TokenKind::kRightParenthesis) {
    hint = "this parenthesis was never opened";
  } else if (tokens_.peek().kind == TokenKind::kName) {
    const std::string suggestion = base::did_you_mean(
        tokens_.peek().text, {"during", "over", "for", "within", "at", "from", "of"});
    if (!suggestion.empty()) hint = std::string(base::trim(suggestion));
  }
  tokens_.unexpected("the end of the prediction", hint);
}

// A condition and nothing behind it.
ConditionPtr Parser::condition() {
  ConditionPtr result = parse_condition(tokens_);
  if (result && tokens_.peek().kind != TokenKind::kEnd) {
    tokens_.unexpected("`and`, `or` or the end of the condition", {});
    return nullptr;
  }
  return result;
}

// ---- Expressions -------------------------------------------------------------------------------

ExpressionPtr Parser::side() {
  return sum().expression;
}

Built Parser::sum() {
  Built left = product();
  while (left &&
         (tokens_.peek().kind == TokenKind::kPlus || tokens_.peek().kind == TokenKind::kMinus)) {
    const auto operation =
        tokens_.peek().kind == TokenKind::kPlus ? Operator::kAdd : Operator::kSubtract;
    tokens_.advance();
    Built right = product();
    if (!right) return {};
    left = binary(operation, std::move(left), std::move(right));
  }
  return left;
}

Built Parser::product() {
  Built left = factor();
  while (left &&
         (tokens_.peek().kind == TokenKind::kTimes || tokens_.peek().kind == TokenKind::kDivide)) {
    const auto operation =
        tokens_.peek().kind == TokenKind::kTimes ? Operator::kMultiply : Operator::kDivide;
    tokens_.advance();
    Built right = factor();
    if (!right) return {};
    left = binary(operation, std::move(left), std::move(right));
  }
  return left;
}

Built Parser::factor() {
  if (tokens_.peek().kind != TokenKind::kMinus) return primary();
  const TokenStream::Nesting nesting(tokens_);
  const Span begin = tokens_.peek().span;
  if (tokens_.too_deep(begin)) return {};
  tokens_.advance();
  Built inner = factor();
  if (!inner) return {};
  return make(Negate{std::move(inner.expression)}, inner.height + 1, begin);
}

Built Parser::primary() {
  const Token& token = tokens_.peek();
  switch (token.kind) {
    case TokenKind::kNumber: {
      tokens_.advance();
      Literal literal{token.quantity};
      if (!token.valid) literal.quantity.value = std::numeric_limits<double>::quiet_NaN();
      return make(literal, 1, token.span);
    }
    case TokenKind::kLeftParenthesis:
      return parenthesized();
    case TokenKind::kName:
      if (tokens_.peek(1).kind == TokenKind::kLeftParenthesis) return call();
      if (tokens_.peek(1).kind == TokenKind::kDot) return signal();
      tokens_.unexpected("a signal such as reads.latency", tokens_.quoted_name_hint());
      return {};
    case TokenKind::kStatusClass:
      tokens_.unexpected("a number or a signal",
                         "a status class stands in a condition: share(reads.status == 2xx)");
      return {};
    case TokenKind::kText:
      tokens_.unexpected("a number or a signal",
                         "a text stands in a condition: share(reads.outcome == \"timeout\")");
      return {};
    case TokenKind::kDot:
      tokens_.unexpected("a number or a signal", "write a fraction with its zero: 0.5");
      return {};
    default:
      tokens_.unexpected("a number or a signal", {});
      return {};
  }
}

Built Parser::parenthesized() {
  const TokenStream::Nesting nesting(tokens_);
  if (tokens_.too_deep(tokens_.peek().span)) return {};
  tokens_.advance();
  Built inner = sum();
  if (!inner) return {};
  if (!tokens_.take(TokenKind::kRightParenthesis)) {
    tokens_.unexpected("`)`", {});
    return {};
  }
  return inner;
}

Built Parser::signal() {
  const Span begin = tokens_.peek().span;
  const auto name = signal_name();
  if (!name) return {};
  if (tokens_.peek().kind == TokenKind::kLeftBracket) {
    tokens_.error(
        tokens_.peek().span,
        fmt::format("`{}.{}[...]` can stand only in a condition", name->source, name->field),
        fmt::format("write share({}.{}[\"...\"] == \"...\")", name->source, name->field));
    return {};
  }
  return make(*name, 1, begin);
}

// `reads` or `reads.latency`; the field is empty in the first.
std::optional<Signal> Parser::signal_name() {
  Signal result;
  result.source = tokens_.peek().text;
  tokens_.advance();
  if (!tokens_.take(TokenKind::kDot)) return result;
  if (tokens_.peek().kind != TokenKind::kName) {
    tokens_.unexpected(fmt::format("a signal of `{}`", result.source), {});
    return std::nullopt;
  }
  result.field = tokens_.peek().text;
  tokens_.advance();
  return result;
}

Built Parser::call() {
  const TokenStream::Nesting nesting(tokens_);
  const Token& name = tokens_.peek();
  if (tokens_.too_deep(name.span)) return {};
  const std::string_view function = name.text;
  for (const auto& candidate : kStatistics) {
    if (function == candidate.name) return statistic_call(candidate.statistic, 0, name.span);
  }
  const auto quantile = quantile_of(function);
  if (quantile && *quantile > 0 && *quantile < 1) {
    const std::size_t point = function.find('.');
    if (point != std::string_view::npos && function.size() - point > 4) {
      tokens_.error(name.span, fmt::format("`{}` is finer than any measurement", function),
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

  std::string hint = std::string(base::trim(
      base::did_you_mean(function, {"mean", "max", "min", "count", "rate", "share", "time", "lost",
                                    "duplicated", "baseline", "p50", "p90", "p95", "p99"})));
  for (const auto& synonym : kSynonyms) {
    if (function == synonym.written) hint = fmt::format("write `{}(...)`", synonym.meant);
  }
  if (quantile && hint.empty()) hint = "quantiles lie between p0 and p100: p50, p99, p99.9";
  if (hint.empty()) {
    hint =
        "there are p50 .. p99.9, mean, max, min, count, rate, share, time, lost, duplicated and "
        "baseline";
  }
  tokens_.error(name.span, fmt::format("there is no function `{}`", function), hint);
  return {};
}

bool Parser::close(std::string_view function) {
  if (tokens_.take(TokenKind::kRightParenthesis)) return true;
  std::string hint;
  if (tokens_.peek_word("each")) {
    hint = "`each` needs a statistic inside: max(p99(reads.latency) each 1s)";
  }
  if (tokens_.peek_word("where")) hint = "`where` stands behind the signal of a statistic";
  tokens_.unexpected(fmt::format("`)` of {}(", function), hint);
  return false;
}

// max(reads.latency where ...), count(reads), or max(inner each 1s).
Built Parser::statistic_call(Statistic statistic, double quantile, Span begin) {
  const std::string function = tokens_.peek().text;
  tokens_.advance();
  tokens_.advance();
  const bool name = tokens_.peek().kind == TokenKind::kName;
  const bool plain = name && tokens_.peek(1).kind != TokenKind::kLeftParenthesis;
  Built inner;
  if (plain) {
    const Span signal_begin = tokens_.peek().span;
    auto found = signal_name();
    if (!found) return {};
    inner = make(*found, 1, signal_begin);
  } else {
    inner = sum();
  }
  if (!inner) return {};
  if (tokens_.take_word("each")) return windowed(statistic, quantile, std::move(inner), begin);
  const Signal* signal = std::get_if<Signal>(&inner.expression->node);
  if (!signal) {
    tokens_.error(
        inner.expression->span,
        fmt::format("{}() takes one signal, or a statistic with `each`", function),
        fmt::format("write {0}(reads.latency), or {0}(p99(reads.latency) each 1s)", function));
    return {};
  }
  Aggregate aggregate{statistic, quantile, *signal, nullptr};
  if (tokens_.take_word("where")) {
    aggregate.where = parse_condition(tokens_);
    if (!aggregate.where) return {};
  }
  if (!close(function)) return {};
  return make(std::move(aggregate), inner.height + 1, begin);
}

Built Parser::windowed(Statistic statistic, double quantile, Built inner, Span begin) {
  const auto each = tokens_.duration("the length of the windows, such as 1s");
  if (!each || !close("the windows")) return {};
  const int height = inner.height + 1;
  return make(WindowedAggregate{statistic, quantile, std::move(inner.expression), *each}, height,
              begin);
}

Built Parser::condition_call(bool share, Span begin) {
  tokens_.advance();
  tokens_.advance();
  ConditionPtr inner = parse_condition(tokens_);
  if (!inner || !close(share ? "share" : "time")) return {};
  if (share) return make(Share{std::move(inner)}, 2, begin);
  return make(TimeTrue{std::move(inner)}, 2, begin);
}

Built Parser::probe_call(bool lost, Span begin) {
  const std::string_view function = lost ? "lost" : "duplicated";
  tokens_.advance();
  tokens_.advance();
  if (tokens_.peek().kind != TokenKind::kName) {
    tokens_.unexpected("the name of a probe", fmt::format("write {}(writes)", function));
    return {};
  }
  std::string probe = tokens_.peek().text;
  tokens_.advance();
  if (tokens_.peek().kind == TokenKind::kDot) {
    tokens_.unexpected(
        fmt::format("`)` of {}(", function),
        fmt::format("it takes the probe, not a signal of it: {}({})", function, probe));
    return {};
  }
  if (!close(function)) return {};
  if (lost) return make(Lost{std::move(probe)}, 1, begin);
  return make(Duplicated{std::move(probe)}, 1, begin);
}

Built Parser::baseline_call(Span begin) {
  tokens_.advance();
  tokens_.advance();
  Built inner = sum();
  if (!inner || !close("baseline")) return {};
  return make(Baseline{std::move(inner.expression)}, inner.height + 1, begin);
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
  ConditionPtr result = Parser(std::move(tokens), errors).condition();
  return errors.size() == before ? result : nullptr;
}

}  // namespace squall::model
