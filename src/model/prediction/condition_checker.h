#pragma once
// Names and types within a condition.

#include <optional>
#include <string>
#include <vector>

#include "model/prediction/names.h"

namespace squall::model {

// A condition in normal form with what it speaks of: one probe's requests (`field` empty) or one
// gauge. `condition` is null when there were errors.
struct CheckedCondition {
  ConditionPtr condition;
  Signal subject;
  bool requests = true;
};

class ConditionChecker {
 public:
  // `names` null: fields are bare, as in a probe's own `expect`.
  ConditionChecker(Names* names, std::vector<LanguageError>& errors)
      : names_(names), errors_(errors) {}

  // `owner` is the probe whose `where` this is; empty in share() and time().
  CheckedCondition check(const ConditionPtr& condition, const std::string& owner);

 private:
  struct Subject {
    Signal signal;
    bool requests = true;
    Span span;
  };

  ConditionPtr walk(const Condition& condition);
  template <typename List>
  ConditionPtr walk_list(const List& list, Span span);
  ConditionPtr truth(const Truth& truth, Span span);
  ConditionPtr exists(const Exists& exists, Span span);
  ConditionPtr comparison(const FieldComparison& comparison, Span span);
  bool check_field(const Field& field, Span span);
  bool check_value(const FieldComparison& comparison, Span span);
  bool check_status(const FieldComparison& comparison, Span span);
  bool check_outcome(const FieldComparison& comparison, Span span);
  bool check_content(const FieldComparison& comparison, Span span);
  bool check_gauge(const FieldComparison& comparison, Span span);
  bool one_subject();
  void error(Span span, std::string message, std::string hint) {
    errors_.push_back({span, std::move(message), std::move(hint)});
  }

  Names* names_;
  std::vector<LanguageError>& errors_;
  std::string owner_;
  std::vector<Subject> subjects_;
};

}  // namespace squall::model
