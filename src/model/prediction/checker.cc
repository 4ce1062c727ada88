#include "model/prediction/checker.h"

#include <fmt/format.h>

#include <cmath>
#include <utility>

#include "model/prediction/dimensions.h"
#include "model/prediction/expression_checker.h"
#include "model/prediction/walk.h"

namespace squall::model {
namespace {

using base::Dimension;

template <typename Node>
bool contains(const Expression& expression) {
  bool found = false;
  visit_expressions(expression, [&](const Expression& part) {
    if (std::holds_alternative<Node>(part.node)) found = true;
  });
  return found;
}

// Whether a value exists only over a stretch of time. What stands in baseline() was settled before.
bool needs_window(const Expression& expression) {
  if (std::holds_alternative<Baseline>(expression.node)) return false;
  if (const auto* signal = std::get_if<Signal>(&expression.node)) return is_success_share(*signal);
  if (const auto* binary = std::get_if<Binary>(&expression.node)) {
    return needs_window(*binary->left) || needs_window(*binary->right);
  }
  if (const auto* negate = std::get_if<Negate>(&expression.node)) {
    return needs_window(*negate->inner);
  }
  return !std::holds_alternative<Literal>(expression.node);
}

class Checker {
 public:
  Checker(const Syntax& syntax, int text_length, const SignalTable& signals, ClauseRule rule,
          std::vector<LanguageError>& errors)
      : syntax_(syntax),
        text_length_(text_length),
        names_(signals, errors),
        rule_(rule),
        errors_(errors) {}

  std::optional<Prediction> run();

 private:
  void check_clause();
  void check_hypothesis_clause();
  void check_during(const DuringClause& during);
  void check_within(const WithinClause& within);
  void check_abort_clause();
  void check_window(const OverClause& over);
  void compare(const Expression& left, const Expression& right);
  void check_share_limit(const Expression& share, const Expression& limit);
  void check_whole(const Prediction& prediction);
  void check_writes(const Prediction& prediction);
  void check_times(const Prediction& prediction);
  void check_each(const Prediction& prediction);
  template <typename Callable>
  void each_side(const Prediction& prediction, Callable callable) {
    callable(*prediction.left);
    callable(*prediction.right);
    if (prediction.right_high) callable(*prediction.right_high);
  }
  bool baseline_allowed() const {
    const auto* during = std::get_if<DuringClause>(&syntax_.when);
    return rule_ != ClauseRule::kSteadyState &&
           !(during != nullptr && during->phase == PhaseKind::kBaseline);
  }
  Span clause_span() const {
    return syntax_.when_span.end > 0 ? syntax_.when_span : Span{text_length_, text_length_};
  }
  void error(Span span, std::string message, std::string hint) {
    errors_.push_back({span, std::move(message), std::move(hint)});
  }

  const Syntax& syntax_;
  int text_length_;
  Names names_;
  ClauseRule rule_;
  std::vector<LanguageError>& errors_;
};

std::optional<Prediction> Checker::run() {
  ExpressionChecker expressions(names_, baseline_allowed(), errors_);
  Prediction prediction;
  prediction.comparator = syntax_.comparator;
  prediction.when = syntax_.when;
  prediction.left = expressions.check(syntax_.left);
  prediction.right = expressions.check(syntax_.right);
  prediction.right_high = expressions.check(syntax_.right_high);
  if (prediction.left && prediction.right) compare(*prediction.left, *prediction.right);
  if (prediction.left && prediction.right_high) compare(*prediction.left, *prediction.right_high);
  if (syntax_.complete || syntax_.when_span.end > 0) check_clause();
  const bool whole = syntax_.complete && prediction.left && prediction.right &&
                     (prediction.right_high != nullptr) == (syntax_.right_high != nullptr);
  if (whole) check_whole(prediction);
  if (!whole || !errors_.empty()) return std::nullopt;
  if (rule_ == ClauseRule::kAbortRule && std::holds_alternative<NoClause>(prediction.when) &&
      (needs_window(*prediction.left) || needs_window(*prediction.right) ||
       (prediction.right_high && needs_window(*prediction.right_high)))) {
    prediction.when = OverClause{kDefaultAbortWindow};
  }
  return prediction;
}

// ---- Clauses -----------------------------------------------------------------------------------

void Checker::check_clause() {
  switch (rule_) {
    case ClauseRule::kSteadyState:
      if (syntax_.when_span.end > 0) {
        error(clause_span(), "a steady-state prediction has no clause",
              "it is asked in the baseline and in the recovery; leave the clause out");
      }
      return;
    case ClauseRule::kHypothesis:
      return check_hypothesis_clause();
    case ClauseRule::kAbortRule:
      return check_abort_clause();
  }
}

void Checker::check_hypothesis_clause() {
  if (const auto* during = std::get_if<DuringClause>(&syntax_.when)) return check_during(*during);
  if (const auto* within = std::get_if<WithinClause>(&syntax_.when)) return check_within(*within);
  if (std::holds_alternative<AtEndClause>(syntax_.when)) return;
  if (std::holds_alternative<OverClause>(syntax_.when)) {
    return error(clause_span(), "`over` belongs to abort rules", "write `during fault`");
  }
  if (syntax_.when_span.end > 0) return;  // a clause that could not be read
  error(clause_span(), "this prediction does not say when it is asked",
        "add `during fault`, `within 30s of revert` or `at end`");
}

void Checker::check_during(const DuringClause& during) {
  names_.check_fault(during.fault_name, syntax_.fault_span);
}

void Checker::check_within(const WithinClause& within) {
  names_.check_fault(within.fault_name, syntax_.fault_span);
  if (within.within <= base::Duration::zero()) {
    error(clause_span(), "the limit of `within` is zero",
          "write for example `within 30s of revert`");
  } else if (within.hold_for > within.within) {
    error(clause_span(),
          fmt::format("it cannot hold for {} within {}", base::format_duration(within.hold_for),
                      base::format_duration(within.within)),
          "the time it must hold is part of the limit; make the limit longer");
  }
}

void Checker::check_abort_clause() {
  if (const auto* over = std::get_if<OverClause>(&syntax_.when)) return check_window(*over);
  if (std::holds_alternative<NoClause>(syntax_.when)) return;
  error(clause_span(), "an abort rule is asked all the time from the first fault on",
        "write `over 2s`, or no clause for over 1s");
}

void Checker::check_window(const OverClause& over) {
  if (over.window > base::Duration::zero() && over.window % kWindowStep == base::Duration::zero()) {
    return;
  }
  error(clause_span(), "the window of `over` is a multiple of 100ms",
        "write for example `over 2s`");
}

// ---- Comparison --------------------------------------------------------------------------------

void Checker::compare(const Expression& left, const Expression& right) {
  if (compatible(left, right)) {
    check_share_limit(left, right);
    check_share_limit(right, left);
    return;
  }
  std::string hint = fmt::format("compare it with {}", noun_with_example(left.dimension));
  const auto* literal = std::get_if<Literal>(&right.node);
  if (literal != nullptr && literal->quantity.dimension == Dimension::kNumber) {
    const std::string number = print(right);
    if (left.dimension == Dimension::kDuration) {
      hint = fmt::format("write a unit: `{0}ms`, `{0}s`", number);
    } else if (left.dimension == Dimension::kRate) {
      hint = fmt::format("write a unit: `{}/s`", number);
    } else if (left.dimension == Dimension::kSize) {
      hint = fmt::format("write a unit: `{0}B`, `{0}MiB`", number);
    }
  }
  error(syntax_.comparator_span,
        fmt::format("`{}` is {} and cannot be compared with `{}`, {}", print(left),
                    noun(left.dimension), print(right), noun(right.dimension)),
        std::move(hint));
}

// A share lies between 0 and 1: `success >= 99` can never be.
void Checker::check_share_limit(const Expression& share, const Expression& limit) {
  const auto* literal = std::get_if<Literal>(&limit.node);
  if (literal == nullptr || !is_proper_share(share)) return;
  const double value = literal->quantity.value;
  if (value <= 1) return;
  const bool percent = literal->quantity.dimension == Dimension::kNumber && value <= 100;
  error(limit.span, fmt::format("`{}` is beyond 100%, which no share can reach", print(limit)),
        percent ? fmt::format("did you mean `{}%`?", print(limit)) : std::string());
}

// ---- The whole ---------------------------------------------------------------------------------

void Checker::check_whole(const Prediction& prediction) {
  const Span all{0, text_length_};
  if (sources_of(prediction).empty()) {
    return error(all, "this compares numbers and says nothing about the system",
                 "name a signal: reads.success >= 99.5%");
  }
  const bool equality = !prediction.right_high && (prediction.comparator == Comparator::kEqual ||
                                                   prediction.comparator == Comparator::kNotEqual);
  if (equality && decided_by(prediction) == DecidedBy::kInterval) {
    error(syntax_.comparator_span,
          fmt::format("`{}` is estimated from samples, and an estimate never shows equality",
                      print(*prediction.left)),
          "write <=, >= or `between`");
  }
  if (prediction.right_high) {
    const auto* low = std::get_if<Literal>(&prediction.right->node);
    const auto* high = std::get_if<Literal>(&prediction.right_high->node);
    if (low && high && low->quantity.value > high->quantity.value) {
      error({prediction.right->span.begin, prediction.right_high->span.end},
            "the lower limit is above the upper one",
            fmt::format("write `between {} and {}`", print(*prediction.right_high),
                        print(*prediction.right)));
    }
  }
  check_writes(prediction);
  check_times(prediction);
  check_each(prediction);
}

// lost() and duplicated() are known after the read-back, at the end of the run.
void Checker::check_writes(const Prediction& prediction) {
  const bool late =
      rule_ == ClauseRule::kHypothesis && (std::holds_alternative<AtEndClause>(prediction.when) ||
                                           std::holds_alternative<DuringClause>(prediction.when));
  if (late) return;
  each_side(prediction, [&](const Expression& side) {
    if (!contains<Lost>(side) && !contains<Duplicated>(side)) return;
    error(side.span, "what was lost or duplicated is known only after the read-back, at the end",
          rule_ == ClauseRule::kHypothesis ? "write `at end`" : "ask it in a hypothesis, `at end`");
  });
}

// A second of time() in a window of one second says nothing: the window must be chosen.
void Checker::check_times(const Prediction& prediction) {
  const auto* within = std::get_if<WithinClause>(&prediction.when);
  const bool default_window =
      (rule_ == ClauseRule::kAbortRule && std::holds_alternative<NoClause>(prediction.when)) ||
      (within != nullptr && within->hold_for == base::Duration::zero());
  if (!default_window) return;
  each_side(prediction, [&](const Expression& side) {
    if (!contains<TimeTrue>(side)) return;
    error(side.span, "time() needs the length of the window it is taken over",
          within != nullptr ? "write `for 10s within 30s of revert`" : "write `over 10s`");
  });
}

void Checker::check_each(const Prediction& prediction) {
  base::Duration window = base::Duration::max();
  if (rule_ == ClauseRule::kAbortRule) window = kDefaultAbortWindow;
  if (const auto* over = std::get_if<OverClause>(&prediction.when)) window = over->window;
  if (const auto* within = std::get_if<WithinClause>(&prediction.when)) {
    window = within->hold_for > base::Duration::zero() ? within->hold_for : kDefaultAbortWindow;
  }
  each_side(prediction, [&](const Expression& side) {
    visit_expressions(side, [&](const Expression& part) {
      const auto* windows = std::get_if<WindowedAggregate>(&part.node);
      if (windows == nullptr || windows->each <= window) return;
      error(part.span,
            fmt::format("windows of {} do not fit into {}", base::format_duration(windows->each),
                        base::format_duration(window)),
            rule_ == ClauseRule::kAbortRule ? "make `over` longer" : "make `for` longer");
    });
  });
}

}  // namespace

std::optional<Prediction> check_prediction(const Syntax& syntax, int text_length,
                                           const SignalTable& signals, ClauseRule rule,
                                           std::vector<LanguageError>& errors) {
  return Checker(syntax, text_length, signals, rule, errors).run();
}

}  // namespace squall::model
