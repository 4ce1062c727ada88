#pragma once
// The style sheet of the HTML report: light, dark and print. Internal.

#include <string_view>

namespace squall::report {

extern const std::string_view kStyleSheet;

}  // namespace squall::report
