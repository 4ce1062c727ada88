#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/json.h"

namespace squall::model {

// Validated parameters of a fault or probe, defaults filled in, quantities in base units (see
// ValueType). Asking for a parameter that the descriptor does not have, or as another type, is a
// defect and ends the process; use the optional forms for parameters without default. Immutable,
// cheap to copy.
class Parameters {
 public:
  Parameters();
  explicit Parameters(base::Json values);

  bool has(std::string_view name) const;
  base::Duration duration(std::string_view name) const;
  std::uint64_t size(std::string_view name) const;
  double number(std::string_view name) const;  // also rate and share
  std::int64_t integer(std::string_view name) const;
  bool boolean(std::string_view name) const;
  std::string text(std::string_view name) const;  // also choice, service, member, signal, url, path
  std::vector<std::string> texts(std::string_view name) const;  // argv
  std::optional<std::string> optional_text(std::string_view name) const;
  std::optional<base::Duration> optional_duration(std::string_view name) const;
  std::optional<std::int64_t> optional_integer(std::string_view name) const;
  Parameters object(std::string_view name) const;  // nested; empty when absent
  const base::Json& json() const { return *values_; }

 private:
  std::shared_ptr<const base::Json> values_;
};

}  // namespace squall::model
