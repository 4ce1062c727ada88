#pragma once
// Going through trees. Their depth is limited (kPredictionDepthMax), so recursion is safe.

#include "model/prediction.h"

namespace squall::model {

// Calls `callable` with the expression and every expression in it, outer ones first.
template <typename Callable>
void visit_expressions(const Expression& expression, const Callable& callable) {
  callable(expression);
  if (const auto* windowed = std::get_if<WindowedAggregate>(&expression.node)) {
    visit_expressions(*windowed->inner, callable);
  } else if (const auto* baseline = std::get_if<Baseline>(&expression.node)) {
    visit_expressions(*baseline->inner, callable);
  } else if (const auto* negate = std::get_if<Negate>(&expression.node)) {
    visit_expressions(*negate->inner, callable);
  } else if (const auto* binary = std::get_if<Binary>(&expression.node)) {
    visit_expressions(*binary->left, callable);
    visit_expressions(*binary->right, callable);
  }
}

// As above, for all sides of a prediction.
template <typename Callable>
void visit_expressions(const Prediction& prediction, const Callable& callable) {
  visit_expressions(*prediction.left, callable);
  visit_expressions(*prediction.right, callable);
  if (prediction.right_high) visit_expressions(*prediction.right_high, callable);
}

}  // namespace squall::model
