#include "observe/number_text.h"

#include <charconv>
#include <cmath>

#include "base/text.h"

namespace squall::observe {

std::optional<double> value_of_text(std::string_view text) {
  text = base::trim(text);
  if (text == "t" || text == "true") return 1;
  if (text == "f" || text == "false") return 0;
  if (text.starts_with('+')) text.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) {
    return std::nullopt;
  }
  return value;
}

std::optional<double> first_number_in(std::string_view text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool digit = text[i] >= '0' && text[i] <= '9';
    const bool sign =
        text[i] == '-' && i + 1 < text.size() && text[i + 1] >= '0' && text[i + 1] <= '9';
    if (!digit && !sign) continue;
    double value = 0;
    const auto [end, error] = std::from_chars(text.data() + i, text.data() + text.size(), value);
    if (error == std::errc() && std::isfinite(value)) return value;
  }
  return std::nullopt;
}

}  // namespace squall::observe
