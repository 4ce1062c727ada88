#pragma once
// Conditions: `reads.status == 503 and not reads.faulted`.

#include "model/prediction/token_stream.h"

namespace squall::model {

// Reads a condition as far as it goes. Null after an error.
ConditionPtr parse_condition(TokenStream& tokens);

}  // namespace squall::model
