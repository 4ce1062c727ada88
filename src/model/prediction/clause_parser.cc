#include "model/prediction/clause_parser.h"

#include <fmt/format.h>

#include "base/text.h"

namespace squall::model {

bool ClauseParser::at_clause() const {
  return peek_word("during") || peek_word("over") || peek_word("for") || peek_word("within") ||
         peek_word("at");
}

void ClauseParser::skip_to_clause() {
  while (peek().kind != TokenKind::kEnd && !at_clause()) advance();
}

void ClauseParser::clause(Syntax& syntax) {
  const Span begin = peek().span;
  if (peek_word("during")) {
    during(syntax);
  } else if (peek_word("over")) {
    over(syntax);
  } else if (peek_word("at")) {
    at_end(syntax);
  } else {
    within(syntax);
  }
  syntax.when_span = {begin.begin, previous().span.end};
}

// Names of faults may have dots, as an unnamed one is called after its kind: `process.kill-2`.
std::string ClauseParser::fault_name(Syntax& syntax) {
  const Span begin = peek().span;
  std::string name = peek().text;
  advance();
  while (peek().kind == TokenKind::kDot && peek(1).kind == TokenKind::kName) {
    advance();
    name += "." + peek().text;
    advance();
  }
  syntax.fault_span = {begin.begin, previous().span.end};
  return name;
}

void ClauseParser::during(Syntax& syntax) {
  advance();
  DuringClause clause;
  if (peek().kind != TokenKind::kName) {
    return unexpected("baseline, fault, recovery or the name of a fault",
                      peek().kind == TokenKind::kNumber
                          ? "for the time after a start write `during fault from 3s`"
                          : std::string());
  }
  if (take_word("baseline")) {
    clause.phase = PhaseKind::kBaseline;
  } else if (take_word("recovery")) {
    clause.phase = PhaseKind::kRecovery;
  } else if (!take_word("fault")) {
    clause.fault_name = fault_name(syntax);
  }
  if (take_word("from")) {
    const auto from = duration("the time after the start of the phase, such as 3s");
    if (!from) return;
    clause.from = *from;
  }
  syntax.when = clause;
}

void ClauseParser::over(Syntax& syntax) {
  advance();
  const auto window = duration("the length of the window, such as 2s");
  if (window) syntax.when = OverClause{*window};
}

void ClauseParser::within(Syntax& syntax) {
  WithinClause clause;
  if (take_word("for")) {
    const Span span = peek().span;
    const auto hold = duration("how long it must hold, such as 5s");
    if (!hold) return;
    clause.hold_for = *hold;
    if (clause.hold_for == base::Duration::zero() && previous().valid) {
      return error(span, "`for` needs a time above zero", "leave it out if one sample is enough");
    }
  }
  if (!take_word("within")) {
    return unexpected("`within`", "write `for 5s within 30s of revert`");
  }
  const auto limit = duration("the time limit, such as 30s");
  if (!limit) return;
  clause.within = *limit;
  if (!take_word("of")) return unexpected("`of inject` or `of revert`", {});
  if (take_word("inject")) {
    clause.anchor = WithinClause::Anchor::kInject;
  } else if (!take_word("revert")) {
    return unexpected("`inject` or `revert`", "a limit counts from one of the two");
  }
  if (peek_word("for")) {
    return unexpected("the end of the prediction",
                      "the time it must hold comes first: for 5s within 30s of revert");
  }
  if (peek().kind == TokenKind::kName) clause.fault_name = fault_name(syntax);
  syntax.when = clause;
}

void ClauseParser::at_end(Syntax& syntax) {
  advance();
  if (!take_word("end")) return unexpected("`end`", "write `at end`");
  syntax.when = AtEndClause{};
}

}  // namespace squall::model
