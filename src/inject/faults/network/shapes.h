#pragma once
// The shapes of a partition among the members of one service: which pairs cannot reach each other.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace squall::inject {

enum class Shape { kIsolate, kHalves, kRing };
std::optional<Shape> shape_from(std::string_view text);

// Indices of two members, the smaller first.
using MemberPair = std::pair<std::size_t, std::size_t>;

// One member against all others.
std::vector<MemberPair> isolate(std::size_t members, std::size_t alone);
// Those in `half` against those that are not.
std::vector<MemberPair> split(std::size_t members, const std::vector<std::size_t>& half);
// Everybody against everybody but the two neighbours, in the order of the members.
std::vector<MemberPair> ring(std::size_t members);

// The members of the smaller half, or the one that is isolated: `named` if there are any, else
// drawn by `seed`. kNotFound when a name is none of `members`, kUsage when nothing is left for the
// other side.
base::Result<std::vector<std::size_t>> choose_side(const std::vector<std::string>& members,
                                                   const std::vector<std::string>& named,
                                                   Shape shape, std::uint64_t seed);

}  // namespace squall::inject
