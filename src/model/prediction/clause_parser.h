#pragma once
// The clause that says when a prediction is asked: during, over, within, at end.

#include "model/prediction/parser.h"
#include "model/prediction/token_stream.h"

namespace squall::model {

// Whether the current token begins a clause.
bool at_clause(const TokenStream& tokens);
// Advances to the next word that begins a clause, or to the end.
void skip_to_clause(TokenStream& tokens);
// Reads the clause into `syntax`; at_clause() holds. False, and `syntax.when` is left empty, after
// an error.
bool parse_clause(TokenStream& tokens, Syntax& syntax);

}  // namespace squall::model
