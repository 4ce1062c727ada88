#include "model/json_reader.h"

#include <fmt/format.h>

#include <charconv>
#include <limits>
#include <nlohmann/json.hpp>

namespace squall::model {

JsonReader::JsonReader(const base::Json& object, std::string what,
                       std::optional<base::Error>& error)
    : object_(object.is_object() ? &object : nullptr), what_(std::move(what)), error_(&error) {
  if (object_ == nullptr && !error_->has_value()) {
    *error_ = base::Error{.code = base::ErrorCode::kCorrupt,
                          .message = fmt::format("{} is not a JSON object", what_),
                          .hint = "was it written by this version of Squall?"};
  }
}

const base::Json* JsonReader::find(std::string_view key) {
  if (object_ == nullptr) return nullptr;
  auto found = object_->find(std::string(key));
  return found == object_->end() ? nullptr : &*found;
}

void JsonReader::fail(std::string_view key, std::string_view wanted) {
  if (error_->has_value()) return;
  *error_ = base::Error{.code = base::ErrorCode::kCorrupt,
                        .message = fmt::format("`{}` of {} is not {}", key, what_, wanted),
                        .hint = "was it written by this version of Squall?"};
}

std::string JsonReader::text(std::string_view key) {
  const base::Json* value = find(key);
  if (value != nullptr && value->is_string()) return value->get<std::string>();
  fail(key, "a text");
  return {};
}

bool JsonReader::flag(std::string_view key) {
  return object_ != nullptr && object_->contains(key) && boolean(key);
}

bool JsonReader::boolean(std::string_view key) {
  const base::Json* value = find(key);
  if (value != nullptr && value->is_boolean()) return value->get<bool>();
  fail(key, "true or false");
  return false;
}

double JsonReader::number(std::string_view key) {
  const base::Json* value = find(key);
  if (value != nullptr && value->is_number()) return value->get<double>();
  fail(key, "a number");
  return 0;
}

std::int64_t JsonReader::integer(std::string_view key, std::int64_t minimum, std::int64_t maximum) {
  const base::Json* value = find(key);
  bool fits = value != nullptr && value->is_number_integer();
  if (fits && value->is_number_unsigned()) {
    fits = value->get<std::uint64_t>() <= std::numeric_limits<std::int64_t>::max();
  }
  if (fits) {
    auto number = value->get<std::int64_t>();
    if (number >= minimum && number <= maximum) return number;
  }
  fail(key, fmt::format("a whole number from {} to {}", minimum, maximum));
  return minimum;
}

std::uint64_t JsonReader::unsigned_integer(std::string_view key) {
  const base::Json* value = find(key);
  if (value != nullptr && value->is_number_integer() &&
      (value->is_number_unsigned() || value->get<std::int64_t>() >= 0)) {
    return value->get<std::uint64_t>();
  }
  fail(key, "a whole number from 0");
  return 0;
}

std::uint64_t JsonReader::decimal_text(std::string_view key) {
  std::string digits = text(key);
  std::uint64_t value = 0;
  auto [end, problem] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (problem != std::errc{} || end != digits.data() + digits.size()) {
    fail(key, "a whole number as text");
  }
  return value;
}

base::Duration JsonReader::duration(std::string_view key) {
  return base::Duration(integer(key, 0, std::numeric_limits<std::int64_t>::max()));
}

std::vector<std::string> JsonReader::texts(std::string_view key) {
  const base::Json* value = find(key);
  std::vector<std::string> result;
  bool right = value != nullptr && value->is_array();
  if (right) {
    for (const base::Json& item : *value) {
      right = right && item.is_string();
      if (item.is_string()) result.push_back(item.get<std::string>());
    }
  }
  if (!right) fail(key, "a list of texts");
  return result;
}

Parameters JsonReader::parameters(std::string_view key) {
  const base::Json* value = find(key);
  if (value != nullptr && value->is_object()) return Parameters(*value);
  fail(key, "an object");
  return {};
}

LifetimeClass JsonReader::lifetime(std::string_view key) {
  std::string name = text(key);
  for (LifetimeClass candidate :
       {LifetimeClass::kKernelHeld, LifetimeClass::kJournaled, LifetimeClass::kOneWay}) {
    if (name == to_string(candidate)) return candidate;
  }
  fail(key, "a lifetime class");
  return LifetimeClass::kOneWay;
}

JsonReader JsonReader::object(std::string_view key) {
  static const base::Json kNothing;
  const base::Json* value = find(key);
  return {value == nullptr ? kNothing : *value, fmt::format("`{}` of {}", key, what_), *error_};
}

std::vector<JsonReader> JsonReader::objects(std::string_view key) {
  const base::Json* value = find(key);
  std::vector<JsonReader> result;
  if (value == nullptr || !value->is_array()) {
    fail(key, "a list");
    return result;
  }
  for (const base::Json& item : *value) {
    result.emplace_back(item, fmt::format("an entry of `{}`", key), *error_);
  }
  return result;
}

}  // namespace squall::model
