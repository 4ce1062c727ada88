#include "inject/faults/network/shapes.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/random.h"
#include "base/text.h"

namespace squall::inject {

std::optional<Shape> shape_from(std::string_view text) {
  if (text == "isolate") return Shape::kIsolate;
  if (text == "halves") return Shape::kHalves;
  if (text == "ring") return Shape::kRing;
  return std::nullopt;
}

std::vector<MemberPair> isolate(std::size_t members, std::size_t alone) {
  return split(members, {alone});
}

std::vector<MemberPair> split(std::size_t members, const std::vector<std::size_t>& half) {
  const auto inside = [&](std::size_t member) {
    return std::find(half.begin(), half.end(), member) != half.end();
  };
  std::vector<MemberPair> pairs;
  for (std::size_t a = 0; a < members; ++a) {
    for (std::size_t b = a + 1; b < members; ++b) {
      if (inside(a) != inside(b)) pairs.emplace_back(a, b);
    }
  }
  return pairs;
}

std::vector<MemberPair> ring(std::size_t members) {
  std::vector<MemberPair> pairs;
  for (std::size_t a = 0; a < members; ++a) {
    for (std::size_t b = a + 2; b < members; ++b) {
      if (a != 0 || b != members - 1) pairs.emplace_back(a, b);
    }
  }
  return pairs;
}

base::Result<std::vector<std::size_t>> choose_side(const std::vector<std::string>& members,
                                                   const std::vector<std::string>& named,
                                                   Shape shape, std::uint64_t seed) {
  std::vector<std::size_t> side;
  for (const std::string& name : named) {
    const auto found = std::find(members.begin(), members.end(), name);
    if (found == members.end()) {
      return base::Error{.code = base::ErrorCode::kNotFound,
                         .message = fmt::format("there is no member {}", name),
                         .hint = "there is " + base::enumerate(members)};
    }
    const auto index = static_cast<std::size_t>(found - members.begin());
    if (std::find(side.begin(), side.end(), index) == side.end()) side.push_back(index);
  }
  if (named.empty()) {
    std::vector<std::size_t> order(members.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    base::Random generator{seed};
    for (std::size_t i = 0; i + 1 < order.size(); ++i)
      std::swap(order[i], order[i + generator.below(order.size() - i)]);
    order.resize(shape == Shape::kIsolate ? std::min<std::size_t>(1, order.size())
                                          : order.size() / 2);
    side = std::move(order);
  }
  if (side.empty() || side.size() >= members.size()) {
    return base::Error{
        .code = base::ErrorCode::kUsage,
        .message = fmt::format("{} of {} members on one side leave nobody to be cut from",
                               side.size(), members.size()),
        .hint = "name fewer members in `half`, or start more of them"};
  }
  std::sort(side.begin(), side.end());
  return side;
}

}  // namespace squall::inject
