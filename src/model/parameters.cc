#include "model/parameters.h"

#include <nlohmann/json.hpp>

#include "base/check.h"

namespace squall::model {
namespace {

const base::Json& member(const base::Json& values, std::string_view name) {
  auto found = values.find(std::string(name));
  SQUALL_CHECK(found != values.end());
  return *found;
}

std::string scalar_text(const base::Json& value) {
  SQUALL_CHECK(value.is_string());
  return value.get<std::string>();
}

std::int64_t scalar_integer(const base::Json& value) {
  SQUALL_CHECK(value.is_number_integer());
  return value.get<std::int64_t>();
}

}  // namespace

Parameters::Parameters() : values_(std::make_shared<const base::Json>(base::Json::object())) {}

Parameters::Parameters(base::Json values) {
  SQUALL_CHECK(values.is_object());
  values_ = std::make_shared<const base::Json>(std::move(values));
}

bool Parameters::has(std::string_view name) const {
  return values_->find(std::string(name)) != values_->end();
}

base::Duration Parameters::duration(std::string_view name) const {
  return base::Duration(scalar_integer(member(*values_, name)));
}

std::uint64_t Parameters::size(std::string_view name) const {
  std::int64_t bytes = scalar_integer(member(*values_, name));
  SQUALL_CHECK(bytes >= 0);
  return static_cast<std::uint64_t>(bytes);
}

double Parameters::number(std::string_view name) const {
  const base::Json& value = member(*values_, name);
  SQUALL_CHECK(value.is_number());
  return value.get<double>();
}

std::int64_t Parameters::integer(std::string_view name) const {
  return scalar_integer(member(*values_, name));
}

bool Parameters::boolean(std::string_view name) const {
  const base::Json& value = member(*values_, name);
  SQUALL_CHECK(value.is_boolean());
  return value.get<bool>();
}

std::string Parameters::text(std::string_view name) const {
  return scalar_text(member(*values_, name));
}

std::vector<std::string> Parameters::texts(std::string_view name) const {
  const base::Json& value = member(*values_, name);
  SQUALL_CHECK(value.is_array());
  std::vector<std::string> result;
  for (const base::Json& item : value) result.push_back(scalar_text(item));
  return result;
}

std::optional<std::string> Parameters::optional_text(std::string_view name) const {
  if (!has(name)) return std::nullopt;
  return text(name);
}

std::optional<base::Duration> Parameters::optional_duration(std::string_view name) const {
  if (!has(name)) return std::nullopt;
  return duration(name);
}

std::optional<std::int64_t> Parameters::optional_integer(std::string_view name) const {
  if (!has(name)) return std::nullopt;
  return integer(name);
}

Parameters Parameters::object(std::string_view name) const {
  if (!has(name)) return {};
  return Parameters(member(*values_, name));
}

}  // namespace squall::model
