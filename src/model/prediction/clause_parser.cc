#include "model/prediction/clause_parser.h"

#include <string>

namespace squall::model {
namespace {

class ClauseParser {
 public:
  ClauseParser(TokenStream& tokens, Syntax& syntax) : tokens_(tokens), syntax_(syntax) {}
  void during();
  void over();
  void within();
  void at_end();

 private:
  std::string fault_name();

  TokenStream& tokens_;
  Syntax& syntax_;
};

// Names of faults may have dots, as an unnamed one is called after its kind: `process.kill-2`.
std::string ClauseParser::fault_name() {
  const Span begin = tokens_.peek().span;
  std::string name = tokens_.peek().text;
  tokens_.advance();
  while (tokens_.peek().kind == TokenKind::kDot && tokens_.peek(1).kind == TokenKind::kName) {
    tokens_.advance();
    name += "." + tokens_.peek().text;
    tokens_.advance();
  }
  syntax_.fault_span = {begin.begin, tokens_.previous().span.end};
  return name;
}

void ClauseParser::during() {
  tokens_.advance();
  DuringClause clause;
  if (tokens_.peek().kind != TokenKind::kName) {
    return tokens_.unexpected("baseline, fault, recovery or the name of a fault",
                              tokens_.peek().kind == TokenKind::kNumber
                                  ? "for the time after a start write `during fault from 3s`"
                                  : std::string());
  }
  if (tokens_.take_word("baseline")) {
    clause.phase = PhaseKind::kBaseline;
  } else if (tokens_.take_word("recovery")) {
    clause.phase = PhaseKind::kRecovery;
  } else if (!tokens_.take_word("fault")) {
    clause.fault_name = fault_name();
  }
  if (tokens_.take_word("from")) {
    const auto from = tokens_.duration("the time after the start of the phase, such as 3s");
    if (!from) return;
    clause.from = *from;
  }
  syntax_.when = clause;
}

void ClauseParser::over() {
  tokens_.advance();
  const auto window = tokens_.duration("the length of the window, such as 2s");
  if (window) syntax_.when = OverClause{*window};
}

void ClauseParser::within() {
  WithinClause clause;
  if (tokens_.take_word("for")) {
    const Span span = tokens_.peek().span;
    const auto hold = tokens_.duration("how long it must hold, such as 5s");
    if (!hold) return;
    clause.hold_for = *hold;
    if (clause.hold_for == base::Duration::zero() && tokens_.previous().valid) {
      return tokens_.error(span, "`for` needs a time above zero",
                           "leave it out if one sample is enough");
    }
  }
  if (!tokens_.take_word("within")) {
    return tokens_.unexpected("`within`", "write `for 5s within 30s of revert`");
  }
  const auto limit = tokens_.duration("the time limit, such as 30s");
  if (!limit) return;
  clause.within = *limit;
  if (!tokens_.take_word("of")) return tokens_.unexpected("`of inject` or `of revert`", {});
  if (tokens_.take_word("inject")) {
    clause.anchor = WithinClause::Anchor::kInject;
  } else if (!tokens_.take_word("revert")) {
    return tokens_.unexpected("`inject` or `revert`", "a limit counts from one of the two");
  }
  if (tokens_.peek_word("for")) {
    return tokens_.unexpected("the end of the prediction",
                              "the time it must hold comes first: for 5s within 30s of revert");
  }
  if (tokens_.peek().kind == TokenKind::kName) clause.fault_name = fault_name();
  syntax_.when = clause;
}

void ClauseParser::at_end() {
  tokens_.advance();
  if (!tokens_.take_word("end")) return tokens_.unexpected("`end`", "write `at end`");
  syntax_.when = AtEndClause{};
}

}  // namespace

bool at_clause(const TokenStream& tokens) {
  return tokens.peek_word("during") || tokens.peek_word("over") || tokens.peek_word("for") ||
         tokens.peek_word("within") || tokens.peek_word("at");
}

void skip_to_clause(TokenStream& tokens) {
  while (tokens.peek().kind != TokenKind::kEnd && !at_clause(tokens)) tokens.advance();
}

bool parse_clause(TokenStream& tokens, Syntax& syntax) {
  const Span begin = tokens.peek().span;
  ClauseParser parser(tokens, syntax);
  if (tokens.peek_word("during")) {
    parser.during();
  } else if (tokens.peek_word("over")) {
    parser.over();
  } else if (tokens.peek_word("at")) {
    parser.at_end();
  } else {
    parser.within();
  }
  syntax.when_span = {begin.begin, tokens.previous().span.end};
  return !std::holds_alternative<NoClause>(syntax.when);
}

}  // namespace squall::model
