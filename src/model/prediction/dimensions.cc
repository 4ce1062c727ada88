#include "model/prediction/dimensions.h"

#include "model/prediction_language.h"

namespace squall::model {
namespace {

using base::Dimension;

// A number without a unit that is not a count: a factor, or the quotient of two like things.
bool is_ratio(const Expression& expression) {
  if (expression.dimension != Dimension::kNumber) return false;
  if (std::holds_alternative<Literal>(expression.node)) return true;
  if (const auto* negate = std::get_if<Negate>(&expression.node)) return is_ratio(*negate->inner);
  if (const auto* before = std::get_if<Baseline>(&expression.node)) return is_ratio(*before->inner);
  const auto* binary = std::get_if<Binary>(&expression.node);
  if (binary == nullptr) return false;
  if (binary->operation == Operator::kDivide) {
    return binary->left->dimension == binary->right->dimension ||
           (is_ratio(*binary->left) && binary->right->dimension == Dimension::kShare);
  }
  return is_ratio(*binary->left) && is_ratio(*binary->right);
}

std::optional<Dimension> product(const Expression& left, const Expression& right) {
  const Dimension a = left.dimension;
  const Dimension b = right.dimension;
  const auto scalar = [](Dimension d) { return d == Dimension::kNumber || d == Dimension::kShare; };
  if (scalar(a) && scalar(b)) {
    if (a == b) return a;
    const Expression& number = a == Dimension::kNumber ? left : right;
    return is_ratio(number) ? Dimension::kShare : Dimension::kNumber;
  }
  if (scalar(a)) return b;
  if (scalar(b)) return a;
  const bool events = (a == Dimension::kRate && b == Dimension::kDuration) ||
                      (a == Dimension::kDuration && b == Dimension::kRate);
  return events ? std::optional(Dimension::kNumber) : std::nullopt;
}

std::optional<Dimension> quotient(const Expression& left, const Expression& right) {
  const Dimension a = left.dimension;
  const Dimension b = right.dimension;
  if (a == b) return Dimension::kNumber;
  if (b == Dimension::kNumber || b == Dimension::kShare) return a;
  if (a == Dimension::kNumber && b == Dimension::kDuration) return Dimension::kRate;
  if (a == Dimension::kNumber && b == Dimension::kRate) return Dimension::kDuration;
  return std::nullopt;
}

}  // namespace

std::string_view noun(Dimension dimension) {
  switch (dimension) {
    case Dimension::kNumber:
      return "a number";
    case Dimension::kShare:
      return "a share";
    case Dimension::kDuration:
      return "a duration";
    case Dimension::kSize:
      return "a size";
    case Dimension::kRate:
      return "a rate";
  }
  return "a number";
}

std::string_view noun_with_example(Dimension dimension) {
  switch (dimension) {
    case Dimension::kNumber:
      return "a number such as 3";
    case Dimension::kShare:
      return "a share such as 99.5% or 0.995";
    case Dimension::kDuration:
      return "a duration such as 250ms";
    case Dimension::kSize:
      return "a size such as 64KiB";
    case Dimension::kRate:
      return "a rate such as 200/s";
  }
  return "a number such as 3";
}

std::optional<Dimension> combine(Operator operation, const Expression& left,
                                 const Expression& right) {
  if (operation == Operator::kMultiply) return product(left, right);
  if (operation == Operator::kDivide) return quotient(left, right);
  if (!compatible(left, right)) return std::nullopt;
  if (left.dimension == right.dimension || is_literal_zero(right)) return left.dimension;
  if (is_literal_zero(left)) return right.dimension;
  return Dimension::kShare;
}

bool compatible(const Expression& left, const Expression& right) {
  if (left.dimension == right.dimension) return true;
  if (is_literal_zero(left) || is_literal_zero(right)) return true;
  return (left.dimension == Dimension::kShare && is_ratio(right)) ||
         (right.dimension == Dimension::kShare && is_ratio(left));
}

bool is_literal_zero(const Expression& expression) {
  const auto* literal = std::get_if<Literal>(&expression.node);
  return literal != nullptr && literal->quantity.value == 0;
}

bool is_proper_share(const Expression& expression) {
  if (std::holds_alternative<Share>(expression.node)) return true;
  if (const auto* signal = std::get_if<Signal>(&expression.node)) return is_success_share(*signal);
  if (const auto* before = std::get_if<Baseline>(&expression.node)) {
    return is_proper_share(*before->inner);
  }
  if (const auto* windows = std::get_if<WindowedAggregate>(&expression.node)) {
    return is_proper_share(*windows->inner);
  }
  return false;
}

}  // namespace squall::model
