#include "base/log.h"

#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/files.h"
#include "base/json.h"
#include "base/text.h"

namespace squall::base {

namespace {

std::atomic<LogLevel> g_level{LogLevel::kWarning};
std::atomic<LogFormat> g_format{LogFormat::kText};

std::string_view name_of(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarning:
      return "warning";
    case LogLevel::kError:
      return "error";
  }
  return "error";
}

std::string text_line(LogLevel level, std::string_view message, LogFields fields) {
  std::string line = fmt::format("{} {}: {}", format_wall_time(real_clock().wall_now()),
                                 name_of(level), printable(message));
  for (const auto& [key, value] : fields) {
    const std::string shown = printable(value);
    const bool quoted = shown.empty() || shown.find_first_of(" =\"") != std::string::npos;
    line += quoted ? fmt::format(" {}=\"{}\"", key, shown) : fmt::format(" {}={}", key, shown);
  }
  line += '\n';
  return line;
}

std::string json_line(LogLevel level, std::string_view message, LogFields fields) {
  Json object = Json::object();
  for (const auto& [key, value] : fields) object[std::string(key)] = value;
  object["time"] = format_wall_time(real_clock().wall_now());
  object["level"] = name_of(level);
  object["message"] = message;
  return canonical_json(object) + "\n";
}

bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

// Hides the password of URLs: what stands between the first colon after "://" and the last "@"
// before the path.
void hide_url_passwords(std::string& text) {
  for (std::size_t at = text.find("://"); at != std::string::npos; at = text.find("://", at + 3)) {
    const std::size_t authority = at + 3;
    const std::size_t end = std::min(text.find_first_of("/?# \t\n\"'", authority), text.size());
    const std::size_t sign = text.rfind('@', end);
    const std::size_t colon = text.find(':', authority);
    if (sign == std::string::npos || sign < authority || sign >= end || colon >= sign) continue;
    text.replace(colon + 1, sign - colon - 1, "***");
  }
}

// Hides the value after `name` and "=" or ":" ("password=x", "password='x y'", "Token: x").
void hide_named_values(std::string& text, std::string_view name) {
  const auto same = [](char a, char b) { return (a | 0x20) == b; };
  for (auto from = text.begin();;) {
    const auto found = std::search(from, text.end(), name.begin(), name.end(), same);
    if (found == text.end()) return;
    std::size_t at = static_cast<std::size_t>(found - text.begin()) + name.size();
    while (at < text.size() && (text[at] == ' ' || text[at] == '"')) ++at;
    const bool named = at < text.size() && (text[at] == '=' || text[at] == ':');
    if (named) {
      ++at;
      while (at < text.size() && text[at] == ' ') ++at;
      const char quote = at < text.size() && (text[at] == '\'' || text[at] == '"') ? text[at] : 0;
      if (quote != 0) ++at;
      std::size_t end = quote != 0 ? text.find(quote, at) : text.find_first_of(" \t\n&;,\"'", at);
      end = std::min(end, text.size());
      text.replace(at, end - at, "***");
      at += 3;
    }
    from = text.begin() + static_cast<std::ptrdiff_t>(std::min(at, text.size()));
    while (!named && from != text.end() && is_word(*from)) ++from;
  }
}

}  // namespace

void set_log_level(LogLevel level) {
  g_level = level;
}
void set_log_format(LogFormat format) {
  g_format = format;
}

void log(LogLevel level, std::string_view message, LogFields fields) {
  if (level < g_level.load(std::memory_order_relaxed)) return;
  const std::string line = g_format.load(std::memory_order_relaxed) == LogFormat::kJson
                               ? json_line(level, message, fields)
                               : text_line(level, message, fields);
  // Standard error may be closed or full; there is nowhere left to say so.
  [[maybe_unused]] const Status written = write_all(STDERR_FILENO, line);
}

std::string redacted(std::string_view text) {
  std::string shown(text);
  hide_url_passwords(shown);
  for (const std::string_view name :
       {"password", "passwd", "pwd", "secret", "token", "api_key", "apikey", "authorization"}) {
    hide_named_values(shown, name);
  }
  return shown;
}

}  // namespace squall::base
