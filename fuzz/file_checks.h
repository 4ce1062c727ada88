#pragma once
// What must be true of every list of mistakes, whatever the file was.

#include <string_view>

#include "base/check.h"
#include "base/text.h"
#include "model/diagnostic.h"

namespace squall::fuzz {

inline void check_diagnostics(const model::Diagnostics& diagnostics) {
  for (const model::Diagnostic& diagnostic : diagnostics.all()) {
    SQUALL_CHECK(!diagnostic.message.empty());
    SQUALL_CHECK(diagnostic.width >= 1);
    SQUALL_CHECK(diagnostic.location.line >= 0 && diagnostic.location.column >= 0);
  }
  const std::string text = diagnostics.render();
  SQUALL_CHECK(base::is_valid_utf8(text));
  SQUALL_CHECK(text.find('\x1b') == std::string::npos);
}

}  // namespace squall::fuzz
