#include "inject/json_fields.h"

#include <limits>

namespace squall::inject {

const base::Json& field(const base::Json& object, const char* name) {
  static const base::Json kNull;
  if (!object.is_object()) return kNull;
  const auto found = object.find(name);
  return found == object.end() ? kNull : *found;
}

std::string text_field(const base::Json& object, const char* name) {
  const base::Json& value = field(object, name);
  return value.is_string() ? value.get<std::string>() : std::string{};
}

std::int64_t integer_field(const base::Json& object, const char* name) {
  const base::Json& value = field(object, name);
  if (value.is_number_unsigned()) {
    const auto number = value.get<std::uint64_t>();
    constexpr auto kMost = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    return number > kMost ? 0 : static_cast<std::int64_t>(number);
  }
  return value.is_number_integer() ? value.get<std::int64_t>() : 0;
}

std::uint64_t unsigned_field(const base::Json& object, const char* name) {
  const base::Json& value = field(object, name);
  if (value.is_number_unsigned()) return value.get<std::uint64_t>();
  if (!value.is_number_integer()) return 0;
  const auto number = value.get<std::int64_t>();
  return number < 0 ? 0 : static_cast<std::uint64_t>(number);
}

bool boolean_field(const base::Json& object, const char* name) {
  const base::Json& value = field(object, name);
  return value.is_boolean() && value.get<bool>();
}

std::vector<std::string> texts_of(const base::Json& array) {
  std::vector<std::string> texts;
  if (!array.is_array()) return texts;
  for (const base::Json& item : array) {
    if (item.is_string()) texts.push_back(item.get<std::string>());
  }
  return texts;
}

std::vector<std::string> texts_field(const base::Json& object, const char* name) {
  return texts_of(field(object, name));
}

base::ProcessIdentity identity_of(const base::Json& object) {
  const std::int64_t pid = integer_field(object, "pid");
  if (pid < 0 || pid > std::numeric_limits<pid_t>::max()) return {};
  return {.pid = static_cast<pid_t>(pid), .start_time = unsigned_field(object, "start_time")};
}

base::ProcessIdentity identity_field(const base::Json& object, const char* name) {
  return identity_of(field(object, name));
}

base::Json to_json(const base::ProcessIdentity& identity) {
  return {{"pid", identity.pid}, {"start_time", identity.start_time}};
}

}  // namespace squall::inject
