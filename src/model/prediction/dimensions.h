#pragma once
// Dimensions in words, and how they combine.

#include <optional>
#include <string_view>

#include "base/units.h"
#include "model/prediction.h"

namespace squall::model {

std::string_view noun(base::Dimension dimension);               // "a duration"
std::string_view noun_with_example(base::Dimension dimension);  // "a duration such as 250ms"

// The dimension of `left operation right`; absent when that means nothing (seconds plus bytes).
// Both expressions have their dimension set.
std::optional<base::Dimension> combine(Operator operation, const Expression& left,
                                       const Expression& right);

// Whether the two can be compared, added or subtracted: the same dimension, a literal zero on one
// side, or a share beside a pure number (0.995, or a quotient of two equal dimensions).
bool compatible(const Expression& left, const Expression& right);

bool is_literal_zero(const Expression& expression);
// A share of requests or of time, which lies between 0 and 1; not a gauge that happens to be in %.
bool is_proper_share(const Expression& expression);

}  // namespace squall::model
