#include "cli/console.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/files.h"

namespace squall::cli {

namespace {

bool colour_forbidden = false;

bool colour_allowed(int fd) {
  const char* no_color = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  if (colour_forbidden || (no_color != nullptr && *no_color != '\0')) return false;
  if (term == nullptr || std::string_view(term) == "dumb") return false;
  return isatty(fd) == 1;
}

void write_text(int fd, std::string_view text) {
  if (const auto written = base::write_all(fd, text); !written.ok() && fd == STDOUT_FILENO) {
    // Whoever read us went away; there is nobody left to tell.
    _exit(static_cast<int>(base::ExitStatus::kToolError));
  }
}

}  // namespace

bool colour_on_output() {
  return colour_allowed(STDOUT_FILENO);
}
bool colour_on_error() {
  return colour_allowed(STDERR_FILENO);
}
void forbid_colour() {
  colour_forbidden = true;
}
bool output_is_terminal() {
  return isatty(STDOUT_FILENO) == 1;
}
bool error_is_terminal() {
  return isatty(STDERR_FILENO) == 1;
}

int terminal_width() {
  winsize size{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col >= 40) return size.ws_col;
  return 80;
}

std::string paint(std::string_view text, Colour colour, bool enabled) {
  if (!enabled || colour == Colour::kNone) return std::string(text);
  const char* code = "0";
  switch (colour) {
    case Colour::kNone:
      break;
    case Colour::kBold:
      code = "1";
      break;
    case Colour::kDim:
      code = "2";
      break;
    case Colour::kRed:
      code = "31";
      break;
    case Colour::kGreen:
      code = "32";
      break;
    case Colour::kYellow:
      code = "33";
      break;
    case Colour::kBlue:
      code = "34";
      break;
  }
  return fmt::format("\033[{}m{}\033[0m", code, text);
}

void print(std::string_view text) {
  write_text(STDOUT_FILENO, text);
}
void print_line(std::string_view text) {
  write_text(STDOUT_FILENO, std::string(text) + "\n");
}
void print_json(const base::Json& json) {
  print_line(json.dump(2, ' ', false, base::Json::error_handler_t::replace));
}
void say(std::string_view text) {
  write_text(STDERR_FILENO, std::string(text) + "\n");
}

base::ExitStatus fail(const base::Error& error) {
  const bool colour = colour_on_error();
  if (error.code == base::ErrorCode::kBadFile &&
      error.message.find(": error: ") != std::string::npos) {
    // Diagnostics are rendered with file, line and column already.
    say(error.message);
  } else {
    say(fmt::format("{} {}", paint("error:", Colour::kRed, colour), error.to_string()));
  }
  if (!error.hint.empty()) {
    say(fmt::format("{} {}", paint("hint:", Colour::kBold, colour), error.hint));
  }
  return base::exit_status_of(error.code);
}

}  // namespace squall::cli
