#pragma once
// nlohmann::json, forward-declared here so that headers stay light; include <nlohmann/json.hpp> in
// .cc files only.

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "base/result.h"

namespace squall::base {

using Json = nlohmann::json;

// Depth at most 64, size at most `limit` bytes; the error says line and column.
Result<Json> parse_json(std::string_view text, std::size_t limit = 64u << 20);

// RFC 8785 in the parts that we use: keys sorted, no white space, numbers in shortest form. The
// same value gives the same bytes, so that hashes compare.
std::string canonical_json(const Json& value);

// The dot-and-bracket subset of JSONPath that expectations use: $.a.b[0]["c d"]. kUsage when the
// path does not parse; a null pointer when nothing is there.
class JsonPath {
 public:
  static Result<JsonPath> parse(std::string_view path);
  const Json* find(const Json& document) const;
  Json* find(Json& document) const;
  const std::string& text() const { return text_; }

 private:
  std::string text_;
  std::string encoded_;  // the steps: kind, then a length-prefixed key or an index
};

}  // namespace squall::base
