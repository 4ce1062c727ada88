#pragma once
// Quantities with units, parsed and printed one way everywhere: files, predictions, flags, reports.

#include <cstdint>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/result.h"

namespace squall::base {

// What a number measures. The base unit, in which values are kept, stands behind it.
enum class Dimension {
  kNumber,    // 1
  kShare,     // 1; 99.5% is 0.995
  kDuration,  // seconds as double in expressions; Duration in parameters
  kSize,      // bytes
  kRate,      // per second
};

struct Quantity {
  double value = 0;  // in the base unit of the dimension
  Dimension dimension = Dimension::kNumber;
};

// "1.5s", "250ms", "2 min", "99.5%", "200/s", "10/min", "64KiB", "3". Units: ns us ms s min h d,
// %, /s /min /h, B KB MB GB KiB MiB GiB TiB. A space before the unit is allowed. Units are
// case-sensitive; an unknown unit is an error whose hint names the nearest one.
Result<Quantity> parse_quantity(std::string_view text);

// As above, but the dimension must be the one named, and the hint shows an example of it.
// A bare 0 is accepted for every dimension.
Result<Duration> parse_duration(std::string_view text);
Result<std::uint64_t> parse_size(std::string_view text);  // bytes
Result<double> parse_rate(std::string_view text);         // per second
Result<double> parse_share(std::string_view text);        // "99.5%" or "0.995": 0.995

// The shortest text that parses back to the same value: "1.5s", "250ms", "2min", "64KiB".
std::string format_duration(Duration duration);
std::string format_size(std::uint64_t bytes);
std::string format_rate(double per_second);
std::string format_share(double share);
std::string format_quantity(Quantity quantity);

// For people, rounded to three significant digits: "1.23s", "99.95%", "4,000".
std::string humanize(Quantity quantity);
std::string humanize(Duration duration);
std::string humanize_count(std::uint64_t count);  // with thousands separators

}  // namespace squall::base
