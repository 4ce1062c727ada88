#include "model/prediction/condition_parser.h"

#include <fmt/format.h>

#include <limits>
#include <optional>
#include <utility>

namespace squall::model {
namespace {

class ConditionParser {
 public:
  explicit ConditionParser(TokenStream& tokens) : tokens_(tokens) {}
  ConditionPtr condition();

 private:
  ConditionPtr conjunction();
  ConditionPtr negation();
  ConditionPtr test();
  ConditionPtr comparison(Field field, Span begin);
  ConditionPtr missing_field();
  std::optional<Field> field();
  bool field_key(Field& field);
  ConditionPtr make(decltype(Condition::node) node, Span begin) {
    auto made = std::make_shared<Condition>();
    made->node = std::move(node);
    made->span = {begin.begin, tokens_.previous().span.end};
    return made;
  }

  TokenStream& tokens_;
};

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

ConditionPtr ConditionParser::condition() {
  const Span begin = tokens_.peek().span;
  ConditionPtr first = conjunction();
  if (!first || !tokens_.peek_word("or")) return first;
  Any any;
  add_flat(any, first);
  while (tokens_.take_word("or")) {
    ConditionPtr next = conjunction();
    if (!next) return nullptr;
    add_flat(any, next);
  }
  return make(std::move(any), begin);
}

ConditionPtr ConditionParser::conjunction() {
  const Span begin = tokens_.peek().span;
  ConditionPtr first = negation();
  if (!first || !tokens_.peek_word("and")) return first;
  All all;
  add_flat(all, first);
  while (tokens_.take_word("and")) {
    ConditionPtr next = negation();
    if (!next) return nullptr;
    add_flat(all, next);
  }
  return make(std::move(all), begin);
}

ConditionPtr ConditionParser::negation() {
  const TokenStream::Nesting nesting(tokens_);
  const Span begin = tokens_.peek().span;
  if (tokens_.too_deep(begin)) return nullptr;
  const TokenKind next = tokens_.peek(1).kind;
  if (tokens_.peek_word("not") && next != TokenKind::kDot && next != TokenKind::kComparator &&
      next != TokenKind::kLeftBracket) {
    tokens_.advance();
    ConditionPtr inner = negation();
    if (!inner) return nullptr;
    if (const Not* twice = std::get_if<Not>(&inner->node)) return twice->condition;
    return make(Not{std::move(inner)}, begin);
  }
  if (tokens_.take(TokenKind::kLeftParenthesis)) {
    ConditionPtr inner = condition();
    if (inner && !tokens_.take(TokenKind::kRightParenthesis)) {
      tokens_.unexpected("`)`, `and` or `or`", {});
      return nullptr;
    }
    return inner;
  }
  return test();
}

ConditionPtr ConditionParser::test() {
  const Span begin = tokens_.peek().span;
  if (tokens_.peek().kind != TokenKind::kName) return missing_field();
  auto tested = field();
  if (!tested) return nullptr;
  if (tokens_.take_word("exists")) return make(Exists{std::move(*tested)}, begin);
  if (tokens_.peek().kind == TokenKind::kComparator) return comparison(std::move(*tested), begin);
  for (std::string_view word : {"in", "between", "contains", "matches", "is", "equals", "has"}) {
    if (!tokens_.peek_word(word)) continue;
    std::string hint = "a condition compares with < <= > >= == !=, or ends in `exists`";
    if (word == "in") hint = "write the alternatives: reads.status == 200 or reads.status == 404";
    if (word == "between") hint = "write both ends: reads.latency >= 1s and reads.latency <= 2s";
    tokens_.error(tokens_.peek().span, fmt::format("`{}` is not part of conditions", word), hint);
    return nullptr;
  }
  return make(Truth{std::move(*tested)}, begin);
}

ConditionPtr ConditionParser::missing_field() {
  std::string hint;
  if (tokens_.peek().kind == TokenKind::kNumber || tokens_.peek().kind == TokenKind::kText ||
      tokens_.peek().kind == TokenKind::kStatusClass) {
    hint = "the field comes first: reads.status == 200";
  }
  tokens_.unexpected("a field such as reads.status", hint);
  return nullptr;
}

std::optional<Field> ConditionParser::field() {
  Field result;
  result.name = tokens_.peek().text;
  tokens_.advance();
  if (tokens_.take(TokenKind::kDot)) {
    if (tokens_.peek().kind != TokenKind::kName) {
      tokens_.unexpected(fmt::format("a field of `{}`", result.name), {});
      return std::nullopt;
    }
    result.probe = std::exchange(result.name, tokens_.peek().text);
    tokens_.advance();
  }
  if (tokens_.peek().kind == TokenKind::kLeftParenthesis) {
    tokens_.unexpected("a comparison",
                       "a condition speaks of single requests or samples and has no "
                       "functions");
    return std::nullopt;
  }
  if (tokens_.take(TokenKind::kLeftBracket) && !field_key(result)) return std::nullopt;
  return result;
}

bool ConditionParser::field_key(Field& field) {
  if (tokens_.peek().kind != TokenKind::kText) {
    tokens_.unexpected("a text in double quotes",
                       "write header[\"Retry-After\"] or json[\"$.path\"]");
    return false;
  }
  if (tokens_.peek().text.empty()) {
    tokens_.error(tokens_.peek().span, "an empty key",
                  "write header[\"Retry-After\"] or json[\"$.path\"]");
    return false;
  }
  field.key = tokens_.peek().text;
  tokens_.advance();
  if (tokens_.take(TokenKind::kRightBracket)) return true;
  tokens_.unexpected("`]`", {});
  return false;
}

ConditionPtr ConditionParser::comparison(Field field, Span begin) {
  FieldComparison result;
  result.field = std::move(field);
  result.comparator = tokens_.peek().comparator;
  tokens_.advance();
  const bool negative = tokens_.take(TokenKind::kMinus);
  const Token& value = tokens_.peek();
  if (value.kind == TokenKind::kNumber) {
    base::Quantity quantity = value.quantity;
    if (negative) quantity.value = -quantity.value;
    if (!value.valid) quantity.value = std::numeric_limits<double>::quiet_NaN();
    result.value = quantity;
  } else if (!negative && value.kind == TokenKind::kText) {
    result.value = value.text;
  } else if (!negative && value.kind == TokenKind::kStatusClass) {
    result.value = FieldComparison::StatusClass{value.hundreds};
  } else if (!negative && (tokens_.peek_word("true") || tokens_.peek_word("false"))) {
    result.value = value.text == "true";
  } else {
    tokens_.unexpected(
        "a value: a number, a text in double quotes, true, false or a class such as 2xx",
        value.kind == TokenKind::kName
            ? fmt::format("a text stands in double quotes: \"{}\"", value.text)
            : std::string());
    return nullptr;
  }
  tokens_.advance();
  return make(std::move(result), begin);
}

}  // namespace

ConditionPtr parse_condition(TokenStream& tokens) {
  return ConditionParser(tokens).condition();
}

}  // namespace squall::model
