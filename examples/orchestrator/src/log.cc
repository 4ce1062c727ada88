#include "log.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/time.h>
#include <unistd.h>

#include <ctime>
#include <string>

namespace orchestrator {
namespace {

std::string& log_name() {
  static std::string name = "orchestrator";
  return name;
}

// A single write of a short line is not torn by other writers of the same file.
void write_line(std::string_view level, std::string_view message) {
  timeval now{};
  gettimeofday(&now, nullptr);
  std::tm calendar{};
  gmtime_r(&now.tv_sec, &calendar);
  const std::string line = fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z {} {}: {}\n", calendar,
                                       now.tv_usec / 1000, level, log_name(), message);
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace

void set_log_name(std::string_view name) {
  log_name() = name;
}
void log_info(std::string_view message) {
  write_line("info", message);
}
void log_warning(std::string_view message) {
  write_line("warning", message);
}

}  // namespace orchestrator
