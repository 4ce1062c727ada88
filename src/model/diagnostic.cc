#include "model/diagnostic.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/text.h"

namespace squall::model {
namespace {

// Enough to see every mistake of a real file; a file of garbage does not flood the terminal.
constexpr std::size_t kShownLimit = 50;
constexpr std::size_t kKeptLimit = 1000;
constexpr int kExcerptWidth = 100;

bool starts_character(char byte) {
  return (static_cast<unsigned char>(byte) & 0xC0) != 0x80;
}

// Characters [begin, begin + count) of a line, counted from 0.
std::string characters(std::string_view line, int begin, int count) {
  std::string result;
  int index = -1;
  for (char byte : line) {
    if (starts_character(byte)) ++index;
    if (index >= begin && index < begin + count) result += byte;
  }
  return result;
}

int length_in_characters(std::string_view line) {
  return static_cast<int>(std::count_if(line.begin(), line.end(), starts_character));
}

// The line with a caret line below; a long line is cut to the part around the mistake.
std::string excerpt_lines(const Diagnostic& diagnostic) {
  std::string line = diagnostic.excerpt;
  std::replace(line.begin(), line.end(), '\t', ' ');
  int column = std::max(diagnostic.location.column, 1) - 1;
  int length = length_in_characters(line);
  if (length > kExcerptWidth) {
    int begin = std::clamp(column - kExcerptWidth / 2, 0, length - kExcerptWidth);
    line = (begin > 0 ? "…" : "") + characters(line, begin, kExcerptWidth) +
           (begin + kExcerptWidth < length ? "…" : "");
    column = column - begin + (begin > 0 ? 1 : 0);
    length = length_in_characters(line);
  }
  std::string number = std::to_string(diagnostic.location.line);
  std::string result = fmt::format("  {} | {}\n", number, base::printable(line));
  if (diagnostic.location.column > 0) {
    int width = std::clamp(diagnostic.width, 1, std::max(1, length - column));
    result += fmt::format("  {} | {}^{}\n", std::string(number.size(), ' '),
                          std::string(static_cast<std::size_t>(column), ' '),
                          std::string(static_cast<std::size_t>(width - 1), '~'));
  }
  return result;
}

std::string render_one(const Diagnostic& diagnostic) {
  std::string place = base::printable(diagnostic.location.file);
  if (diagnostic.location.line > 0) {
    place += fmt::format(":{}", diagnostic.location.line);
    if (diagnostic.location.column > 0) place += fmt::format(":{}", diagnostic.location.column);
  }
  std::string_view severity = diagnostic.severity == Severity::kError ? "error" : "warning";
  std::string result =
      place.empty() ? fmt::format("{}: ", severity) : fmt::format("{}: {}: ", place, severity);
  result += base::printable(diagnostic.message) + "\n";
  if (!diagnostic.excerpt.empty()) result += excerpt_lines(diagnostic);
  if (!diagnostic.hint.empty()) {
    result += fmt::format("  hint: {}\n", base::printable(diagnostic.hint));
  }
  return result;
}

bool same_place(const Diagnostic& a, const Diagnostic& b) {
  return a.location.file == b.location.file && a.location.line == b.location.line &&
         a.location.column == b.location.column && a.message == b.message;
}

}  // namespace

void Diagnostics::add(Diagnostic diagnostic) {
  if (diagnostic.severity == Severity::kError) has_errors_ = true;
  if (full()) return;
  diagnostic.width = std::max(diagnostic.width, 1);  // an empty name is a place too
  for (const auto& [file, lines] : sources_) {
    auto line = static_cast<std::size_t>(std::max(diagnostic.location.line, 0));
    if (file != diagnostic.location.file || line < 1 || line > lines.size()) continue;
    diagnostic.excerpt = lines[line - 1];
  }
  all_.push_back(std::move(diagnostic));
}

void Diagnostics::error(Location location, std::string message, std::string hint, int width) {
  add({Severity::kError, std::move(location), std::move(message), std::move(hint), {}, width});
}

void Diagnostics::warning(Location location, std::string message, std::string hint, int width) {
  add({Severity::kWarning, std::move(location), std::move(message), std::move(hint), {}, width});
}

bool Diagnostics::has_errors() const {
  return has_errors_;
}

bool Diagnostics::full() const {
  return all_.size() >= kKeptLimit;
}

void Diagnostics::set_source(std::string file, std::string_view text) {
  std::vector<std::string> lines = base::split(text, '\n');
  for (std::string& line : lines) {
    if (line.ends_with('\r')) line.pop_back();
  }
  std::erase_if(sources_, [&file](const auto& source) { return source.first == file; });
  sources_.emplace_back(std::move(file), std::move(lines));
}

void Diagnostics::append(const Diagnostics& other) {
  for (const Diagnostic& diagnostic : other.all_) {
    bool known = std::any_of(all_.begin(), all_.end(),
                             [&](const Diagnostic& mine) { return same_place(mine, diagnostic); });
    if (!known && !full()) all_.push_back(diagnostic);
  }
  has_errors_ = has_errors_ || other.has_errors_;
}

std::string Diagnostics::render() const {
  // By file in the order in which files first appear, and within a file from top to bottom.
  std::vector<std::string> files;
  for (const Diagnostic& diagnostic : all_) {
    if (std::find(files.begin(), files.end(), diagnostic.location.file) == files.end()) {
      files.push_back(diagnostic.location.file);
    }
  }
  std::string result;
  std::size_t shown = 0;
  for (const std::string& file : files) {
    std::vector<const Diagnostic*> of_file;
    for (const Diagnostic& diagnostic : all_) {
      if (diagnostic.location.file == file) of_file.push_back(&diagnostic);
    }
    std::stable_sort(of_file.begin(), of_file.end(), [](const Diagnostic* a, const Diagnostic* b) {
      return std::pair(a->location.line, a->location.column) <
             std::pair(b->location.line, b->location.column);
    });
    for (const Diagnostic* diagnostic : of_file) {
      if (++shown <= kShownLimit) result += render_one(*diagnostic);
    }
  }
  if (shown > kShownLimit) result += fmt::format("... and {} more\n", shown - kShownLimit);
  return result;
}

base::Error Diagnostics::to_error() const {
  std::string text = render();
  while (text.ends_with('\n')) text.pop_back();
  return {.code = base::ErrorCode::kBadFile, .message = std::move(text), .hint = {}, .context = {}};
}

}  // namespace squall::model
