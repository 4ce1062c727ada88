#pragma once
// What a plain YAML scalar means, by the core rules of YAML 1.2 (section 10.3.2), and the words and
// numbers that YAML 1.1 reads differently, with the remedy for each.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace squall::model {

std::optional<bool> core_boolean(std::string_view text);          // true True TRUE false ...
std::optional<std::int64_t> core_integer(std::string_view text);  // 10 -3; decimal, fits 64 bits
std::optional<double> core_number(std::string_view text);         // 1.5 1e3; finite, decimal

// Text that some YAML reader takes for a truth value or a number, although we do not: "yes" where a
// truth value is wanted, "010", "0o10", "0x1F", "1_000" or "1:30" where a number is. Returns what
// to write instead ("write 8, or 10 if you meant ten"); empty when it is no such trap.
std::string boolean_trap(std::string_view text);
std::string number_trap(std::string_view text);

}  // namespace squall::model
