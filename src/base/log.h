#pragma once
// The structured log, for what happens beside a run's record: one line an event on standard error,
// as text or JSON. Never log secrets: values that may hold them go through `redacted`.

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

namespace squall::base {

enum class LogLevel { kDebug, kInfo, kWarning, kError };
enum class LogFormat { kText, kJson };

using LogFields = std::initializer_list<std::pair<std::string_view, std::string>>;

// Both take effect at once for all threads. Default: kWarning, kText.
void set_log_level(LogLevel level);
void set_log_format(LogFormat format);

// Thread-safe; one write(2) a line.
void log(LogLevel level, std::string_view message, LogFields fields = {});
inline void log_debug(std::string_view m, LogFields f = {}) {
  log(LogLevel::kDebug, m, f);
}
inline void log_info(std::string_view m, LogFields f = {}) {
  log(LogLevel::kInfo, m, f);
}
inline void log_warning(std::string_view m, LogFields f = {}) {
  log(LogLevel::kWarning, m, f);
}
inline void log_error(std::string_view m, LogFields f = {}) {
  log(LogLevel::kError, m, f);
}

// The text with the passwords of URLs ("postgres://user:***@host") and the values of named secrets
// ("password=***", "token: ***") hidden.
std::string redacted(std::string_view text);

}  // namespace squall::base
