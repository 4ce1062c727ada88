#pragma once
#include <span>
#include <string_view>

#include "inject/fault.h"

namespace squall::inject {

// All kinds of this build. A new kind is a file, a declaration and a line in kinds.cc.
std::span<const FaultKind* const> all_kinds();
const FaultKind* find_kind(std::string_view name);  // null: no such kind

}  // namespace squall::inject
