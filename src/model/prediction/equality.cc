// Equality of trees, node by node, without spans.

#include "model/prediction_language.h"

namespace squall::model {
namespace {

bool same(base::Quantity a, base::Quantity b) {
  return a.value == b.value && a.dimension == b.dimension;
}
bool same(const ExpressionPtr& a, const ExpressionPtr& b) {
  return (!a && !b) || (a && b && equal(*a, *b));
}
bool same(const ConditionPtr& a, const ConditionPtr& b) {
  return (!a && !b) || (a && b && equal(*a, *b));
}
bool same(const std::vector<ConditionPtr>& a, const std::vector<ConditionPtr>& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (!same(a[i], b[i])) return false;
  }
  return true;
}

bool same(const Literal& a, const Literal& b) {
  return same(a.quantity, b.quantity);
}
bool same(const Signal& a, const Signal& b) {
  return a == b;
}
bool same(const Aggregate& a, const Aggregate& b) {
  return a.statistic == b.statistic && a.quantile == b.quantile && a.signal == b.signal &&
         same(a.where, b.where);
}
bool same(const WindowedAggregate& a, const WindowedAggregate& b) {
  return a.statistic == b.statistic && a.quantile == b.quantile && a.each == b.each &&
         same(a.inner, b.inner);
}
bool same(const Share& a, const Share& b) {
  return same(a.condition, b.condition);
}
bool same(const TimeTrue& a, const TimeTrue& b) {
  return same(a.condition, b.condition);
}
bool same(const Lost& a, const Lost& b) {
  return a.probe == b.probe;
}
bool same(const Duplicated& a, const Duplicated& b) {
  return a.probe == b.probe;
}
bool same(const Baseline& a, const Baseline& b) {
  return same(a.inner, b.inner);
}
bool same(const Binary& a, const Binary& b) {
  return a.operation == b.operation && same(a.left, b.left) && same(a.right, b.right);
}
bool same(const Negate& a, const Negate& b) {
  return same(a.inner, b.inner);
}

bool same(const Truth& a, const Truth& b) {
  return a.field == b.field;
}
bool same(const Exists& a, const Exists& b) {
  return a.field == b.field;
}
bool same(const FieldComparison& a, const FieldComparison& b) {
  if (!(a.field == b.field) || a.comparator != b.comparator) return false;
  const auto* quantity = std::get_if<base::Quantity>(&a.value);
  const auto* other = std::get_if<base::Quantity>(&b.value);
  if (quantity && other) return same(*quantity, *other);
  if (quantity || other) return false;
  if (const auto* text = std::get_if<std::string>(&a.value)) {
    const auto* other_text = std::get_if<std::string>(&b.value);
    return other_text && *text == *other_text;
  }
  if (const auto* truth = std::get_if<bool>(&a.value)) {
    const auto* other_truth = std::get_if<bool>(&b.value);
    return other_truth && *truth == *other_truth;
  }
  const auto* other_class = std::get_if<FieldComparison::StatusClass>(&b.value);
  return other_class && std::get<FieldComparison::StatusClass>(a.value) == *other_class;
}
bool same(const All& a, const All& b) {
  return same(a.conditions, b.conditions);
}
bool same(const Any& a, const Any& b) {
  return same(a.conditions, b.conditions);
}
bool same(const Not& a, const Not& b) {
  return same(a.condition, b.condition);
}

bool same(const NoClause&, const NoClause&) {
  return true;
}
bool same(const AtEndClause&, const AtEndClause&) {
  return true;
}
bool same(const OverClause& a, const OverClause& b) {
  return a.window == b.window;
}
bool same(const DuringClause& a, const DuringClause& b) {
  return a.phase == b.phase && a.fault_name == b.fault_name && a.from == b.from;
}
bool same(const WithinClause& a, const WithinClause& b) {
  return a.hold_for == b.hold_for && a.within == b.within && a.anchor == b.anchor &&
         a.fault_name == b.fault_name;
}

template <typename Variant>
bool same_variant(const Variant& a, const Variant& b) {
  return std::visit(
      [&](const auto& left) {
        const auto* right = std::get_if<std::decay_t<decltype(left)>>(&b);
        return right != nullptr && same(left, *right);
      },
      a);
}

}  // namespace

bool equal(const Expression& a, const Expression& b) {
  return a.dimension == b.dimension && same_variant(a.node, b.node);
}

bool equal(const Condition& a, const Condition& b) {
  return same_variant(a.node, b.node);
}

bool equal(const Prediction& a, const Prediction& b) {
  return same(a.left, b.left) && same(a.right, b.right) && same(a.right_high, b.right_high) &&
         (a.right_high || a.comparator == b.comparator) && a.confidence == b.confidence &&
         same_variant(a.when, b.when);
}

}  // namespace squall::model
