#pragma once
// Parameters of which one excludes the other.

#include <fmt/format.h>

#include <string_view>

#include "base/result.h"
#include "model/parameters.h"

namespace squall::inject {

// kBadFile unless exactly one of the two is given.
inline base::Status check_exactly_one(const model::Parameters& parameters, std::string_view first,
                                      std::string_view second) {
  if (parameters.has(first) != parameters.has(second)) return {};
  return base::Error{
      .code = base::ErrorCode::kBadFile,
      .message = fmt::format("exactly one of `{}` and `{}` is needed", first, second),
      .hint =
          parameters.has(first) ? "take one of them away" : fmt::format("write `{}: ...`", first)};
}

}  // namespace squall::inject
