#pragma once
// Reading JSON that came over a socket or from a journal: a missing field or one of another type
// reads as empty, and never throws. For .cc files: includes the JSON library.

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/json.h"

namespace squall::inject {

const base::Json& field(const base::Json& object, const char* name);  // null when missing
std::string text_field(const base::Json& object, const char* name);
std::int64_t integer_field(const base::Json& object, const char* name);
std::uint64_t unsigned_field(const base::Json& object, const char* name);
bool boolean_field(const base::Json& object, const char* name);
std::vector<std::string> texts_field(const base::Json& object, const char* name);
std::vector<std::string> texts_of(const base::Json& array);
base::ProcessIdentity identity_field(const base::Json& object, const char* name);
base::ProcessIdentity identity_of(const base::Json& object);
base::Json to_json(const base::ProcessIdentity& identity);

}  // namespace squall::inject
