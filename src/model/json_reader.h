#pragma once
// Reading our own JSON (plans, bindings) back: the first key that is missing or of another type
// ends in one error, and reading goes on with empty values until the caller asks.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/json.h"
#include "base/result.h"
#include "model/parameters.h"
#include "model/vocabulary.h"

namespace squall::model {

// One object. Readers of inner objects share the error of the outermost. Not thread-safe.
class JsonReader {
 public:
  JsonReader(const base::Json& object, std::string what, std::optional<base::Error>& error);

  std::string text(std::string_view key);
  bool boolean(std::string_view key);
  bool flag(std::string_view key);  // false when it is not there
  double number(std::string_view key);
  std::int64_t integer(std::string_view key, std::int64_t minimum, std::int64_t maximum);
  std::uint64_t unsigned_integer(std::string_view key);
  std::uint64_t decimal_text(std::string_view key);  // 64 bits, kept as text
  base::Duration duration(std::string_view key);     // nanoseconds
  std::vector<std::string> texts(std::string_view key);
  Parameters parameters(std::string_view key);
  LifetimeClass lifetime(std::string_view key);
  // An inner object, or a list of them; empty after a mistake.
  JsonReader object(std::string_view key);
  std::vector<JsonReader> objects(std::string_view key);

 private:
  const base::Json* find(std::string_view key);
  void fail(std::string_view key, std::string_view wanted);

  const base::Json* object_;  // null after a mistake
  std::string what_;
  std::optional<base::Error>* error_;
};

}  // namespace squall::model
