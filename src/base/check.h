#pragma once
// Impossible states end the process, in release builds too: a fault of ours that is still active is
// then reverted by whoever outlives us (holder, kernel, journal replay). Never use this on input.

namespace squall::base {

[[noreturn]] void check_failed(const char* expression, const char* file, int line) noexcept;

}  // namespace squall::base

#define SQUALL_CHECK(condition)       \
  ((condition) ? static_cast<void>(0) \
               : ::squall::base::check_failed(#condition, __FILE__, __LINE__))
