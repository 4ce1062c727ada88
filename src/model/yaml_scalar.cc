#include "model/yaml_scalar.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

namespace squall::model {
namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

std::string_view without_sign(std::string_view text) {
  if (text.starts_with('-') || text.starts_with('+')) text.remove_prefix(1);
  return text;
}

// "0" or digits that do not start with 0, so that 010 is never a number.
bool plain_digits(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), is_digit) &&
         (text.size() == 1 || text[0] != '0');
}

std::optional<unsigned long long> from_digits(std::string_view digits, int base) {
  unsigned long long value = 0;
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
  if (error != std::errc{} || end != digits.data() + digits.size()) return std::nullopt;
  return value;
}

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return result;
}

// 1:30 and 1:30:00: base 60 in YAML 1.1, a time of day or a duration to people.
std::string sexagesimal_trap(std::string_view text) {
  unsigned long long seconds = 0;
  std::size_t parts = 0;
  while (true) {
    std::size_t colon = text.find(':');
    std::string_view part = text.substr(0, colon);
    auto value = from_digits(part, 10);
    if (!value || part.size() > 4) return {};
    seconds = seconds * 60 + *value;
    ++parts;
    if (colon == std::string_view::npos) break;
    text.remove_prefix(colon + 1);
  }
  if (parts < 2 || parts > 3) return {};
  return fmt::format("write one number with a unit: {}s, or {}min if you meant hours and minutes",
                     seconds, seconds);
}

}  // namespace

std::optional<bool> core_boolean(std::string_view text) {
  if (text == "true" || text == "True" || text == "TRUE") return true;
  if (text == "false" || text == "False" || text == "FALSE") return false;
  return std::nullopt;
}

std::optional<std::int64_t> core_integer(std::string_view text) {
  if (!plain_digits(without_sign(text))) return std::nullopt;
  if (text.starts_with('+')) text.remove_prefix(1);
  std::int64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<double> core_number(std::string_view text) {
  std::string_view mantissa = without_sign(text);
  std::size_t exponent = mantissa.find_first_of("eE");
  if (exponent != std::string_view::npos) {
    std::string_view power = without_sign(mantissa.substr(exponent + 1));
    if (power.empty() || !std::all_of(power.begin(), power.end(), is_digit)) return std::nullopt;
    mantissa = mantissa.substr(0, exponent);
  }
  std::size_t point = mantissa.find('.');
  std::string_view whole = mantissa.substr(0, point);
  std::string_view fraction =
      point == std::string_view::npos ? std::string_view() : mantissa.substr(point + 1);
  if (whole.empty() && fraction.empty()) return std::nullopt;
  if (!whole.empty() && !plain_digits(whole)) return std::nullopt;
  if (!std::all_of(fraction.begin(), fraction.end(), is_digit)) return std::nullopt;
  if (text.starts_with('+')) text.remove_prefix(1);
  double value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || !std::isfinite(value)) {
    return std::nullopt;
  }
  return value;
}

std::string boolean_trap(std::string_view text) {
  std::string word = lower(text);
  if (word == "yes" || word == "on" || word == "y" || word == "1") return "write true";
  if (word == "no" || word == "off" || word == "n" || word == "0") return "write false";
  return {};
}

std::string number_trap(std::string_view text) {
  std::string_view sign = text.starts_with('-') ? "-" : "";
  std::string_view digits = without_sign(text);
  if (digits.size() > 2 && digits[0] == '0' && (digits[1] == 'x' || digits[1] == 'X')) {
    auto value = from_digits(digits.substr(2), 16);
    return value ? fmt::format("write {}{}", sign, *value) : std::string();
  }
  if (digits.size() > 2 && digits[0] == '0' && (digits[1] == 'o' || digits[1] == 'b')) {
    auto value = from_digits(digits.substr(2), digits[1] == 'o' ? 8 : 2);
    return value ? fmt::format("write {}{}", sign, *value) : std::string();
  }
  if (digits.size() > 1 && digits[0] == '0' &&
      std::all_of(digits.begin(), digits.end(), is_digit)) {
    auto decimal = from_digits(digits, 10);
    auto octal = from_digits(digits, 8);
    if (octal && decimal && *octal != *decimal) {
      return fmt::format("write {}{} or {}{}: with the leading 0 some readers take it as octal",
                         sign, *decimal, sign, *octal);
    }
    return decimal ? fmt::format("write {}{}", sign, *decimal) : std::string();
  }
  if (digits.find('_') != std::string_view::npos) {
    std::string bare;
    for (char c : digits) {
      if (c != '_') bare += c;
    }
    if (core_number(bare)) return fmt::format("write {}{}", sign, bare);
  }
  return sexagesimal_trap(digits);
}

}  // namespace squall::model
