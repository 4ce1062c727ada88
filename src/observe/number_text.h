#pragma once
#include <optional>
#include <string_view>

namespace squall::observe {

// The whole text as a number: "42", "-1.5e3", and t, f, true, false as 1 and 0. Absent for anything
// else, infinities and NaN included.
std::optional<double> value_of_text(std::string_view text);
// The first number that stands in `text`: 12.5 in "load average: 12.5, 3".
std::optional<double> first_number_in(std::string_view text);

}  // namespace squall::observe
