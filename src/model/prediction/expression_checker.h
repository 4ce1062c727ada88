#pragma once
// Names, types and dimensions within an expression.

#include <string>
#include <vector>

#include "model/prediction/condition_checker.h"
#include "model/prediction/names.h"

namespace squall::model {

class ExpressionChecker {
 public:
  ExpressionChecker(Names& names, bool baseline_allowed, std::vector<LanguageError>& errors)
      : names_(names), baseline_allowed_(baseline_allowed), errors_(errors) {}

  // A copy in normal form with dimensions; null after an error or for what was refused before.
  ExpressionPtr check(const ExpressionPtr& expression);

 private:
  // What surrounds the expression.
  enum class Place { kTop, kBaseline, kWindow };

  ExpressionPtr walk(const Expression& expression);
  ExpressionPtr literal(const Literal& literal, Span span);
  ExpressionPtr signal(const Signal& signal, Span span);
  ExpressionPtr bare_gauge(const Signal& signal, const SignalTable::Entry& entry, Span span);
  ExpressionPtr aggregate(const Aggregate& aggregate, Span span);
  ExpressionPtr request_aggregate(const Aggregate& aggregate, Span span);
  ExpressionPtr series_aggregate(const Aggregate& aggregate, Span span);
  ExpressionPtr windowed(const WindowedAggregate& windowed, Span span);
  ExpressionPtr share(const Share& share, Span span);
  ExpressionPtr time_true(const TimeTrue& time, Span span);
  ExpressionPtr writes(std::string_view function, const Expression& expression,
                       const std::string& probe);
  ExpressionPtr baseline(const Baseline& baseline, Span span);
  ExpressionPtr binary(const Binary& binary, Span span);
  ExpressionPtr negate(const Negate& negate, Span span);
  void error(Span span, std::string message, std::string hint) {
    errors_.push_back({span, std::move(message), std::move(hint)});
  }

  Names& names_;
  bool baseline_allowed_;
  std::vector<LanguageError>& errors_;
  Place place_ = Place::kTop;
};

}  // namespace squall::model
