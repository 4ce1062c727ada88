#include "base/units.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include "base/text.h"

namespace squall::base {

namespace {

__extension__ typedef __int128 Wide;

struct Unit {
  std::string_view name;
  Dimension dimension;
  std::int64_t factor;  // the unit is factor * 10^exponent / divisor of the base unit
  int exponent;
  std::int64_t divisor;
};

constexpr std::int64_t kMinute = 60;
constexpr std::int64_t kHour = 3600;
constexpr std::int64_t kDay = 86400;

// Larger units first within a dimension: the printer tries them in this order.
constexpr std::array kUnits{
    Unit{"d", Dimension::kDuration, kDay, 0, 1},
    Unit{"h", Dimension::kDuration, kHour, 0, 1},
    Unit{"min", Dimension::kDuration, kMinute, 0, 1},
    Unit{"s", Dimension::kDuration, 1, 0, 1},
    Unit{"ms", Dimension::kDuration, 1, -3, 1},
    Unit{"us", Dimension::kDuration, 1, -6, 1},
    Unit{"ns", Dimension::kDuration, 1, -9, 1},
    Unit{"%", Dimension::kShare, 1, -2, 1},
    Unit{"/s", Dimension::kRate, 1, 0, 1},
    Unit{"/min", Dimension::kRate, 1, 0, kMinute},
    Unit{"/h", Dimension::kRate, 1, 0, kHour},
    Unit{"TiB", Dimension::kSize, std::int64_t{1} << 40, 0, 1},
    Unit{"GiB", Dimension::kSize, 1 << 30, 0, 1},
    Unit{"GB", Dimension::kSize, 1, 9, 1},
    Unit{"MiB", Dimension::kSize, 1 << 20, 0, 1},
    Unit{"MB", Dimension::kSize, 1, 6, 1},
    Unit{"KiB", Dimension::kSize, 1 << 10, 0, 1},
    Unit{"KB", Dimension::kSize, 1, 3, 1},
    Unit{"B", Dimension::kSize, 1, 0, 1},
};

struct Shown {
  std::string_view noun;
  std::string_view example;
};

Shown shown(Dimension dimension) {
  switch (dimension) {
    case Dimension::kNumber:
      return {"a number", "3"};
    case Dimension::kShare:
      return {"a share", "99.5% or 0.995"};
    case Dimension::kDuration:
      return {"a duration", "250ms, 1.5s or 2min"};
    case Dimension::kSize:
      return {"a size", "64KiB or 1.5MB"};
    case Dimension::kRate:
      return {"a rate", "200/s or 10/min"};
  }
  return {"a number", "3"};
}

Error bad_quantity(std::string message, std::string hint) {
  return Error{.code = ErrorCode::kBadFile, .message = std::move(message), .hint = std::move(hint)};
}

struct Split {
  std::string_view number;  // -12.5e3
  const Unit* unit = nullptr;
};

// The length of the number at the start of `text`: [-+] digits [. digits] [e [-+] digits].
std::size_t number_length(std::string_view text) {
  std::size_t at = 0;
  const auto digits = [&] {
    const std::size_t start = at;
    while (at < text.size() && text[at] >= '0' && text[at] <= '9') ++at;
    return at - start;
  };
  if (at < text.size() && (text[at] == '-' || text[at] == '+')) ++at;
  const std::size_t whole = digits();
  std::size_t fraction = 0;
  if (at < text.size() && text[at] == '.') {
    ++at;
    fraction = digits();
    if (fraction == 0) return 0;
  }
  if (whole + fraction == 0) return 0;
  const std::size_t mantissa = at;
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    ++at;
    if (at < text.size() && (text[at] == '-' || text[at] == '+')) ++at;
    if (digits() == 0) at = mantissa;
  }
  return at;
}

std::string unit_hint(std::string_view unit) {
  std::vector<std::string> names;
  names.reserve(kUnits.size());
  for (const Unit& known : kUnits) names.emplace_back(known.name);
  if (unit == "m") return "write `min` for minutes or `ms` for milliseconds";
  if (unit == "sec" || unit == "secs" || unit == "seconds" || unit == "second")
    return "write `s` for seconds";
  const std::string near = nearest(unit, names);
  if (!near.empty()) return fmt::format("did you mean `{}`?", near);
  return fmt::format("the units are {}", enumerate(names));
}

Result<Split> split_quantity(std::string_view text) {
  const std::string_view all = trim(text);
  Split split{.number = all.substr(0, number_length(all))};
  if (split.number.empty()) {
    return bad_quantity(fmt::format("`{}` is not a number with a unit", printable(all)),
                        "write for example 250ms, 99.5%, 200/s, 64KiB or 3");
  }
  const std::string_view unit = trim(all.substr(split.number.size()));
  if (split.number.starts_with('+')) split.number.remove_prefix(1);
  if (unit.empty()) return split;
  for (const Unit& known : kUnits) {
    if (known.name == unit) split.unit = &known;
  }
  if (split.unit == nullptr) {
    return bad_quantity(
        fmt::format("`{}` has an unknown unit `{}`", printable(all), printable(unit)),
        unit_hint(unit));
  }
  return split;
}

// The number times 10^exponent, rounded once: "99.95" and -2 give the double nearest to 0.9995.
Result<double> decimal_value(std::string_view number, int exponent) {
  std::string text(number.substr(0, number.find_first_of("eE")));
  int own = 0;
  if (text.size() < number.size()) {
    std::string_view digits = number.substr(text.size() + 1);
    if (digits.starts_with('+')) digits.remove_prefix(1);
    const auto fault = std::from_chars(digits.data(), digits.data() + digits.size(), own).ec;
    if (fault != std::errc{} || own > 400 || own < -400)
      return bad_quantity(fmt::format("`{}` is out of range", number), "");
  }
  text += fmt::format("e{}", own + exponent);
  double value = 0;
  const auto fault = std::from_chars(text.data(), text.data() + text.size(), value).ec;
  if (fault != std::errc{} || !std::isfinite(value))
    return bad_quantity(fmt::format("`{}` is out of range", number), "");
  return value;
}

Error wrong_dimension(std::string_view text, Dimension expected) {
  const auto [noun, example] = shown(expected);
  return bad_quantity(fmt::format("`{}` is not {}", printable(trim(text)), noun),
                      fmt::format("write {} such as {}", noun, example));
}

// Splits, and checks the dimension; a bare number passes only when it is zero or `bare_allowed`.
Result<Split> split_as(std::string_view text, Dimension expected, bool bare_allowed = false) {
  SQUALL_ASSIGN(Split split, split_quantity(text));
  if (split.unit != nullptr) {
    if (split.unit->dimension != expected) return wrong_dimension(text, expected);
    return split;
  }
  if (bare_allowed) return split;
  SQUALL_ASSIGN(const double bare, decimal_value(split.number, 0));
  if (bare == 0) return split;
  Error error = wrong_dimension(text, expected);
  error.message = fmt::format("`{}` has no unit", printable(trim(text)));
  return error;
}

// The number in the smallest unit (10^-scale of the base unit) without going through a double, so
// that every nanosecond and byte survives. Absent when out of range.
std::optional<std::int64_t> exact_value(const Split& split, int scale) {
  const bool negative = split.number.starts_with('-');
  Wide mantissa = 0;
  int exponent = (split.unit == nullptr ? 0 : split.unit->exponent) + scale;
  bool after_point = false;
  for (const char c : split.number.substr(negative ? 1 : 0)) {
    if (c == '.') {
      after_point = true;
      continue;
    }
    if (c == 'e' || c == 'E') return std::nullopt;  // the caller takes the way through a double
    if (mantissa >= Wide{1'000'000'000'000'000'000}) return std::nullopt;
    mantissa = mantissa * 10 + (c - '0');
    if (after_point) --exponent;
  }
  mantissa *= split.unit == nullptr ? 1 : split.unit->factor;
  for (; exponent > 0; --exponent) {
    if (mantissa > std::numeric_limits<std::int64_t>::max()) return std::nullopt;
    mantissa *= 10;
  }
  Wide divisor = 1;
  for (; exponent < 0; ++exponent) {
    if (divisor > std::numeric_limits<std::int64_t>::max()) return 0;
    divisor *= 10;
  }
  mantissa = (mantissa + divisor / 2) / divisor;
  if (negative) mantissa = -mantissa;
  if (mantissa > std::numeric_limits<std::int64_t>::max() ||
      mantissa < std::numeric_limits<std::int64_t>::min())
    return std::nullopt;
  return static_cast<std::int64_t>(mantissa);
}

Result<double> base_value(const Split& split) {
  if (split.unit == nullptr) return decimal_value(split.number, 0);
  SQUALL_ASSIGN(const double value, decimal_value(split.number, split.unit->exponent));
  const double result =
      value * static_cast<double>(split.unit->factor) / static_cast<double>(split.unit->divisor);
  if (!std::isfinite(result))
    return bad_quantity(fmt::format("`{}` is out of range", split.number), "");
  return result;
}

// As exact_value, and through a double for numbers with an exponent or many digits.
Result<std::int64_t> integer_value(const Split& split, int scale, std::string_view text) {
  if (const auto exact = exact_value(split, scale)) return *exact;
  SQUALL_ASSIGN(const double value, base_value(split));
  const double scaled = std::round(value * std::pow(10.0, scale));
  if (!(std::fabs(scaled) < 9.2e18))
    return bad_quantity(fmt::format("`{}` is out of range", printable(trim(text))), "");
  return static_cast<std::int64_t>(scaled);
}

}  // namespace

Result<Quantity> parse_quantity(std::string_view text) {
  SQUALL_ASSIGN(const Split split, split_quantity(text));
  SQUALL_ASSIGN(const double value, base_value(split));
  return Quantity{.value = value,
                  .dimension = split.unit == nullptr ? Dimension::kNumber : split.unit->dimension};
}

Result<Duration> parse_duration(std::string_view text) {
  SQUALL_ASSIGN(const Split split, split_as(text, Dimension::kDuration));
  SQUALL_ASSIGN(const std::int64_t nanoseconds, integer_value(split, 9, text));
  return Duration{nanoseconds};
}

Result<std::uint64_t> parse_size(std::string_view text) {
  SQUALL_ASSIGN(const Split split, split_as(text, Dimension::kSize));
  SQUALL_ASSIGN(const std::int64_t bytes, integer_value(split, 0, text));
  if (bytes < 0) return wrong_dimension(text, Dimension::kSize);
  return static_cast<std::uint64_t>(bytes);
}

Result<double> parse_rate(std::string_view text) {
  SQUALL_ASSIGN(const Split split, split_as(text, Dimension::kRate));
  SQUALL_ASSIGN(const double rate, base_value(split));
  if (rate < 0) return wrong_dimension(text, Dimension::kRate);
  return rate;
}

Result<double> parse_share(std::string_view text) {
  SQUALL_ASSIGN(const Split split, split_as(text, Dimension::kShare, /*bare_allowed=*/true));
  SQUALL_ASSIGN(const double share, base_value(split));
  if (share < 0 || share > 1) {
    return bad_quantity(fmt::format("`{}` is not between 0% and 100%", printable(trim(text))),
                        split.unit == nullptr && share > 1 && share <= 100
                            ? fmt::format("did you mean `{}%`?", split.number)
                            : "");
  }
  return share;
}

namespace {

// A decimal number: 0.DIGITS * 10^exponent, with no trailing zeros; zero has no digits.
struct Decimal {
  bool negative = false;
  std::string digits;
  int exponent = 0;
};

Decimal decimal_of(std::string_view digits, int exponent, bool negative) {
  Decimal decimal{.negative = negative, .digits = std::string(digits), .exponent = exponent};
  while (decimal.digits.ends_with('0')) decimal.digits.pop_back();
  const auto zeros = std::min(decimal.digits.find_first_not_of('0'), decimal.digits.size());
  decimal.digits.erase(0, zeros);
  decimal.exponent -= static_cast<int>(zeros);
  return decimal;
}

// The shortest decimal that reads back as the same double.
Decimal decimal_of(double value) {
  char buffer[64];
  const auto end =
      std::to_chars(buffer, buffer + sizeof buffer, std::fabs(value), std::chars_format::scientific)
          .ptr;
  const std::string_view text(buffer, static_cast<std::size_t>(end - buffer));
  const auto e = text.find('e');
  std::string digits(text.substr(0, e));
  std::erase(digits, '.');
  int exponent = 0;
  std::string_view power = text.substr(e + 1);
  if (power.starts_with('+')) power.remove_prefix(1);
  std::from_chars(power.data(), power.data() + power.size(), exponent);
  return decimal_of(digits, exponent + 1, std::signbit(value));
}

Decimal decimal_of(std::uint64_t value, bool negative) {
  const std::string digits = std::to_string(value);
  return decimal_of(digits, static_cast<int>(digits.size()), negative);
}

// In fixed notation, moved by `shift` decimal places; scientific where that would be endless zeros.
std::string print(const Decimal& decimal, int shift) {
  if (decimal.digits.empty()) return "0";
  const int point = decimal.exponent + shift;
  const int count = static_cast<int>(decimal.digits.size());
  std::string text = decimal.negative ? "-" : "";
  if (point > 25 || point < -15) {
    text += decimal.digits.substr(0, 1);
    if (count > 1) text += "." + decimal.digits.substr(1);
    return text + fmt::format("e{}", point - 1);
  }
  if (point <= 0) {
    text += "0." + std::string(static_cast<std::size_t>(-point), '0') + decimal.digits;
  } else if (point >= count) {
    text += decimal.digits + std::string(static_cast<std::size_t>(point - count), '0');
  } else {
    const auto whole = static_cast<std::size_t>(point);
    text += decimal.digits.substr(0, whole) + "." + decimal.digits.substr(whole);
  }
  return text;
}

bool at_least_one(const Decimal& decimal, int shift) {
  return decimal.exponent + shift >= 1;
}

// Seconds as text: days, hours and minutes when they come out whole; else the decimal unit (s, ms,
// us, ns) with the shortest text whose number is at least 1.
std::string print_duration(const Decimal& seconds, std::optional<std::int64_t> whole_seconds) {
  if (seconds.digits.empty()) return "0s";
  if (whole_seconds) {
    for (const Unit& unit : kUnits) {
      if (unit.dimension == Dimension::kDuration && unit.factor > 1 &&
          *whole_seconds % unit.factor == 0)
        return fmt::format("{}{}", *whole_seconds / unit.factor, unit.name);
    }
  }
  std::string best;
  for (const Unit& unit : kUnits) {
    if (unit.dimension != Dimension::kDuration || unit.factor > 1) continue;
    if (!at_least_one(seconds, -unit.exponent) && unit.name != "ns") continue;
    std::string text = print(seconds, -unit.exponent) + std::string(unit.name);
    if (best.empty() || text.size() < best.size()) best = std::move(text);
  }
  return best;
}

}  // namespace

std::string format_duration(Duration duration) {
  const std::int64_t count = duration.count();
  const auto magnitude =
      count < 0 ? 0 - static_cast<std::uint64_t>(count) : static_cast<std::uint64_t>(count);
  Decimal seconds = decimal_of(magnitude, count < 0);
  seconds.exponent -= 9;
  const bool whole = count % 1'000'000'000 == 0;
  return print_duration(seconds, whole ? std::optional(count / 1'000'000'000) : std::nullopt);
}

std::string format_size(std::uint64_t bytes) {
  std::string best = fmt::format("{}B", bytes);
  if (bytes == 0) return best;
  for (const Unit& unit : kUnits) {
    if (unit.dimension != Dimension::kSize) continue;
    std::uint64_t factor = static_cast<std::uint64_t>(unit.factor);
    for (int i = 0; i < unit.exponent; ++i) factor *= 10;
    if (bytes % factor != 0) continue;
    std::string text = fmt::format("{}{}", bytes / factor, unit.name);
    if (text.size() < best.size()) best = std::move(text);
  }
  return best;
}

std::string format_rate(double per_second) {
  std::string best = print(decimal_of(per_second), 0);
  std::string_view best_unit = "/s";
  if (best.size() <= 6) return best + std::string(best_unit);
  for (const Unit& unit : kUnits) {
    if (unit.dimension != Dimension::kRate || unit.divisor == 1) continue;
    // Multiplying may leave a last digit too many (10/60*60): round, and see if it reads back.
    const std::string number =
        fmt::format("{:.12g}", per_second * static_cast<double>(unit.divisor));
    const auto back = parse_rate(fmt::format("{}{}", number, unit.name));
    if (number.size() >= best.size() || !back.ok() || *back != per_second) continue;
    best = number;
    best_unit = unit.name;
  }
  return best + std::string(best_unit);
}

std::string format_share(double share) {
  return print(decimal_of(share), 2) + "%";
}

std::string format_quantity(Quantity quantity) {
  const double value = quantity.value;
  switch (quantity.dimension) {
    case Dimension::kNumber:
      return print(decimal_of(value), 0);
    case Dimension::kShare:
      return format_share(value);
    case Dimension::kRate:
      return format_rate(value);
    case Dimension::kSize:
      if (value >= 0 && value < 9e18 && value == std::floor(value))
        return format_size(static_cast<std::uint64_t>(value));
      return print(decimal_of(value), 0) + "B";
    case Dimension::kDuration: {
      const bool whole = std::fabs(value) < 9e15 && value == std::floor(value);
      return print_duration(decimal_of(value),
                            whole ? std::optional(static_cast<std::int64_t>(value)) : std::nullopt);
    }
  }
  return {};
}

namespace {

std::string with_separators(std::string digits) {
  const std::size_t first = digits.starts_with('-') ? 1 : 0;
  const std::size_t point = std::min(digits.find('.'), digits.size());
  for (std::size_t at = point; at > first + 3;) {
    at -= 3;
    digits.insert(at, 1, ',');
  }
  return digits;
}

std::string without_trailing_zeros(std::string text) {
  if (text.find('.') == std::string::npos) return text;
  while (text.ends_with('0')) text.pop_back();
  if (text.ends_with('.')) text.pop_back();
  return text == "-0" ? "0" : text;
}

// Three significant digits, whole numbers from 100 on, separators from 1,000 on.
std::string three_digits(double value) {
  if (std::isnan(value)) return "no value";
  if (std::isinf(value)) return value > 0 ? "infinite" : "-infinite";
  const double magnitude = std::fabs(value);
  if (magnitude == 0) return "0";
  if (magnitude >= 1e15 || magnitude < 1e-6) return fmt::format("{:.3g}", value);
  const int power = static_cast<int>(std::floor(std::log10(magnitude)));
  return with_separators(
      without_trailing_zeros(fmt::format("{:.{}f}", value, std::max(0, 2 - power))));
}

// Near 100 % the distance to it is what counts: 99.95% must not become 100%.
std::string humanize_share(double share) {
  const double percent = share * 100;
  const double distance = std::min(std::fabs(percent), std::fabs(100 - percent));
  if (!std::isfinite(percent)) return three_digits(percent);
  if (distance < 1e-9 || percent > 100 || percent < 0) return three_digits(percent) + "%";
  const int decimals = std::clamp(2 - static_cast<int>(std::floor(std::log10(distance))), 0, 9);
  return without_trailing_zeros(fmt::format("{:.{}f}", percent, decimals)) + "%";
}

struct Step {
  double from;
  double divisor;
  std::string_view unit;
};

std::string humanize_in_steps(double value, std::initializer_list<Step> steps) {
  const double magnitude = std::fabs(value);
  const Step* chosen = steps.begin();
  for (const Step& step : steps) {
    if (magnitude >= step.from) chosen = &step;
  }
  return three_digits(value / chosen->divisor) + std::string(chosen->unit);
}

std::string humanize_seconds(double seconds) {
  if (seconds == 0) return "0s";
  // A value that would round up to 1000 of a unit is shown in the next one.
  return humanize_in_steps(seconds, {{0, 1e-9, "ns"},
                                     {0.9995e-6, 1e-6, "us"},
                                     {0.9995e-3, 1e-3, "ms"},
                                     {0.9995, 1, "s"},
                                     {120, 60, "min"},
                                     {7200, 3600, "h"},
                                     {172800, 86400, "d"}});
}

}  // namespace

std::string humanize(Quantity quantity) {
  switch (quantity.dimension) {
    case Dimension::kNumber:
      return three_digits(quantity.value);
    case Dimension::kShare:
      return humanize_share(quantity.value);
    case Dimension::kRate:
      return three_digits(quantity.value) + "/s";
    case Dimension::kDuration:
      return humanize_seconds(quantity.value);
    case Dimension::kSize:
      return humanize_in_steps(quantity.value, {{0, 1, "B"},
                                                {1023.5, 1024, "KiB"},
                                                {1023.5 * 1024, 1048576, "MiB"},
                                                {1023.5 * 1048576, 1073741824, "GiB"},
                                                {1023.5 * 1073741824, 1099511627776, "TiB"}});
  }
  return {};
}

std::string humanize(Duration duration) {
  return humanize_seconds(to_seconds(duration));
}

std::string humanize_count(std::uint64_t count) {
  return with_separators(std::to_string(count));
}

}  // namespace squall::base
