// Canonical text: one way to write each tree, and parsing it gives the tree back.

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <string>

#include "model/prediction_language.h"

namespace squall::model {
namespace {

// 0.999 as "99.9": the decimal point is moved in the text, where multiplying would round.
std::string percent_digits(double quantile) {
  char buffer[40];
  const auto end =
      std::to_chars(buffer, buffer + sizeof buffer, quantile, std::chars_format::fixed).ptr;
  std::string text(buffer, end);
  const std::size_t point = text.find('.');
  std::string digits = point == std::string::npos ? std::string() : text.substr(point + 1);
  while (digits.size() < 2) digits += '0';
  std::string whole = digits.substr(0, 2);
  whole.erase(0, std::min(whole.find_first_not_of('0'), std::size_t{1}));
  return digits.size() > 2 ? whole + "." + digits.substr(2) : whole;
}

std::string statistic_name(Statistic statistic, double quantile) {
  switch (statistic) {
    case Statistic::kQuantile:
      return "p" + percent_digits(quantile);
    case Statistic::kMean:
      return "mean";
    case Statistic::kMaximum:
      return "max";
    case Statistic::kMinimum:
      return "min";
    case Statistic::kCount:
      return "count";
    case Statistic::kRate:
      return "rate";
  }
  return "mean";
}

std::string quoted(std::string_view text) {
  std::string result = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    result += c;
  }
  return result + "\"";
}

std::string print_field(const Field& field) {
  std::string result = field.probe.empty() ? field.name : field.probe + "." + field.name;
  if (!field.key.empty()) result += "[" + quoted(field.key) + "]";
  return result;
}

std::string print_signal(const Signal& signal) {
  return signal.field.empty() ? signal.source : signal.source + "." + signal.field;
}

std::string print_number(base::Quantity quantity) {
  if (quantity.value == 0) quantity.value = 0;  // also of -0
  const bool negative = quantity.value < 0;
  quantity.value = std::fabs(quantity.value);
  return (negative ? "-" : "") + base::format_quantity(quantity);
}

// How tightly a node holds together; a looser child stands in parentheses.
enum Tightness { kSum = 1, kProduct, kNegation, kPrimary };

Tightness tightness(const Expression& expression) {
  if (const auto* binary = std::get_if<Binary>(&expression.node)) {
    const bool sum =
        binary->operation == Operator::kAdd || binary->operation == Operator::kSubtract;
    return sum ? kSum : kProduct;
  }
  return std::holds_alternative<Negate>(expression.node) ? kNegation : kPrimary;
}

std::string within(const Expression& expression, Tightness least) {
  std::string text = print(expression);
  return tightness(expression) < least ? "(" + text + ")" : text;
}

struct ExpressionPrinter {
  std::string operator()(const Literal& node) const { return print_number(node.quantity); }
  std::string operator()(const Signal& node) const { return print_signal(node); }
  std::string operator()(const Aggregate& node) const {
    std::string text =
        statistic_name(node.statistic, node.quantile) + "(" + print_signal(node.signal);
    if (node.where) text += " where " + print(*node.where);
    return text + ")";
  }
  std::string operator()(const WindowedAggregate& node) const {
    return fmt::format("{}({} each {})", statistic_name(node.statistic, node.quantile),
                       print(*node.inner), base::format_duration(node.each));
  }
  std::string operator()(const Share& node) const {
    return "share(" + print(*node.condition) + ")";
  }
  std::string operator()(const TimeTrue& node) const {
    return "time(" + print(*node.condition) + ")";
  }
  std::string operator()(const Lost& node) const { return "lost(" + node.probe + ")"; }
  std::string operator()(const Duplicated& node) const { return "duplicated(" + node.probe + ")"; }
  std::string operator()(const Baseline& node) const {
    return "baseline(" + print(*node.inner) + ")";
  }
  std::string operator()(const Binary& node) const {
    constexpr std::string_view kSigns[] = {" + ", " - ", " * ", " / "};
    const bool sum = node.operation == Operator::kAdd || node.operation == Operator::kSubtract;
    // Equal operators group to the left, so the right side needs to be tighter.
    std::string text = within(*node.left, sum ? kSum : kProduct);
    text += kSigns[static_cast<int>(node.operation)];
    return text + within(*node.right, sum ? kProduct : kNegation);
  }
  std::string operator()(const Negate& node) const { return "-" + within(*node.inner, kNegation); }
};

enum ConditionTightness { kAny = 1, kAll, kNot };

std::string within(const Condition& condition, ConditionTightness least) {
  ConditionTightness own = kNot;
  if (std::holds_alternative<Any>(condition.node)) own = kAny;
  if (std::holds_alternative<All>(condition.node)) own = kAll;
  std::string text = print(condition);
  return own < least ? "(" + text + ")" : text;
}

std::string joined(const std::vector<ConditionPtr>& conditions, std::string_view word,
                   ConditionTightness least) {
  std::string text;
  for (const ConditionPtr& condition : conditions) {
    if (!text.empty()) text += word;
    text += within(*condition, least);
  }
  return text;
}

struct ConditionPrinter {
  std::string operator()(const Truth& node) const { return print_field(node.field); }
  std::string operator()(const Exists& node) const { return print_field(node.field) + " exists"; }
  std::string operator()(const FieldComparison& node) const {
    std::string value;
    if (const auto* quantity = std::get_if<base::Quantity>(&node.value)) {
      value = print_number(*quantity);
    } else if (const auto* text = std::get_if<std::string>(&node.value)) {
      value = quoted(*text);
    } else if (const auto* truth = std::get_if<bool>(&node.value)) {
      value = *truth ? "true" : "false";
    } else {
      value = fmt::format("{}xx", std::get<FieldComparison::StatusClass>(node.value).hundreds);
    }
    return fmt::format("{} {} {}", print_field(node.field), to_string(node.comparator), value);
  }
  std::string operator()(const All& node) const { return joined(node.conditions, " and ", kNot); }
  std::string operator()(const Any& node) const { return joined(node.conditions, " or ", kAll); }
  std::string operator()(const Not& node) const { return "not " + within(*node.condition, kNot); }
};

struct ClausePrinter {
  std::string operator()(const NoClause&) const { return {}; }
  std::string operator()(const DuringClause& clause) const {
    std::string text = " during ";
    text += clause.fault_name.empty() ? std::string(to_string(clause.phase)) : clause.fault_name;
    if (clause.from != base::Duration::zero()) {
      text += " from " + base::format_duration(clause.from);
    }
    return text;
  }
  std::string operator()(const OverClause& clause) const {
    return " over " + base::format_duration(clause.window);
  }
  std::string operator()(const WithinClause& clause) const {
    std::string text;
    if (clause.hold_for != base::Duration::zero()) {
      text += " for " + base::format_duration(clause.hold_for);
    }
    text += " within " + base::format_duration(clause.within);
    text += clause.anchor == WithinClause::Anchor::kInject ? " of inject" : " of revert";
    if (!clause.fault_name.empty()) text += " " + clause.fault_name;
    return text;
  }
  std::string operator()(const AtEndClause&) const { return " at end"; }
};

}  // namespace

std::string_view to_string(Comparator comparator) {
  switch (comparator) {
    case Comparator::kLess:
      return "<";
    case Comparator::kLessEqual:
      return "<=";
    case Comparator::kGreater:
      return ">";
    case Comparator::kGreaterEqual:
      return ">=";
    case Comparator::kEqual:
      return "==";
    case Comparator::kNotEqual:
      return "!=";
  }
  return "==";
}

std::string_view to_string(PhaseKind phase) {
  switch (phase) {
    case PhaseKind::kBaseline:
      return "baseline";
    case PhaseKind::kFault:
      return "fault";
    case PhaseKind::kRecovery:
      return "recovery";
  }
  return "fault";
}

std::string print(const Expression& expression) {
  return std::visit(ExpressionPrinter{}, expression.node);
}

std::string print(const Condition& condition) {
  return std::visit(ConditionPrinter{}, condition.node);
}

std::string print(const Prediction& prediction) {
  std::string text = print(*prediction.left);
  if (prediction.right_high) {
    text +=
        fmt::format(" between {} and {}", print(*prediction.right), print(*prediction.right_high));
  } else {
    text += fmt::format(" {} {}", to_string(prediction.comparator), print(*prediction.right));
  }
  return text + std::visit(ClausePrinter{}, prediction.when);
}

}  // namespace squall::model
