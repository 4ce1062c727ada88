#pragma once
// Names, types, dimensions and clauses of a prediction that was read.

#include <optional>
#include <string_view>
#include <vector>

#include "model/prediction/parser.h"

namespace squall::model {

// The prediction in normal form, dimensions set; absent after errors. `text_length` is the length
// of the prediction's text: what is missing is missing there.
std::optional<Prediction> check_prediction(const Syntax& syntax, int text_length,
                                           const SignalTable& signals, ClauseRule rule,
                                           std::vector<LanguageError>& errors);

}  // namespace squall::model
