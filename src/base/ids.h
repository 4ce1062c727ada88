#pragma once
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/result.h"

namespace squall::base {

// A run's id: UUID version 7 (RFC 9562), so that ids sort by time. Text form, 36 characters.
class RunId {
 public:
  RunId() = default;
  static RunId generate(WallTime now);
  static Result<RunId> parse(std::string_view text);
  const std::string& text() const { return text_; }
  // The last 8 hex digits (random part): what people type. Commands accept any unique part.
  std::string short_text() const;
  bool empty() const { return text_.empty(); }
  auto operator<=>(const RunId&) const = default;

 private:
  std::string text_;
};

// 64 random bits, printed as 16 hex digits.
struct LeaseId {
  std::uint64_t value = 0;
  static LeaseId generate();
  std::string text() const;
  auto operator<=>(const LeaseId&) const = default;
};

// Bytes from getrandom(2).
std::uint64_t random_u64();

}  // namespace squall::base
