#include "base/check.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace squall::base {

void check_failed(const char* expression, const char* file, int line) noexcept {
  // A fixed buffer and one write: the heap may be what is broken.
  char text[512];
  const int length = std::snprintf(
      text, sizeof text, "squall: internal error: %s is false (%s:%d). Please report this.\n",
      expression, file, line);
  if (length > 0) {
    const auto size = static_cast<std::size_t>(length);
    [[maybe_unused]] const auto written =
        ::write(STDERR_FILENO, text, size < sizeof text ? size : sizeof text - 1);
  }
  std::abort();
}

}  // namespace squall::base
