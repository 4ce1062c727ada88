#pragma once
// From words to a tree. The parser knows the grammar and no names: which probe exists and what may
// be compared with what is the checker's.

#include <optional>
#include <string_view>
#include <vector>

#include "model/prediction.h"
#include "model/prediction_language.h"

namespace squall::model {

// A prediction as written. A literal that was refused (an unknown unit, say) has the value NaN, so
// that no second message follows from the first.
struct Syntax {
  ExpressionPtr left;  // null: could not be read, and an error says why
  ExpressionPtr right;
  ExpressionPtr right_high;
  bool complete = false;  // all parts that were begun were read
  Comparator comparator = Comparator::kLess;
  Span comparator_span;
  WhenClause when;
  Span when_span;   // empty when there is no clause
  Span fault_span;  // of the fault's name in the clause
};

Syntax parse_prediction_syntax(std::string_view text, std::vector<LanguageError>& errors);

// Null when there were errors.
ConditionPtr parse_condition_syntax(std::string_view text, std::vector<LanguageError>& errors);

}  // namespace squall::model
