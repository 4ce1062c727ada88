#include "report/paint.h"

#include <algorithm>

#include "base/text.h"

namespace squall::report {
namespace {

constexpr int kNarrowest = 40;

}  // namespace

Paint::Paint(const TerminalOptions& options)
    : colour_(options.colour),
      width_(std::max(options.width, kNarrowest)),
      unicode_(options.unicode) {}

std::string Paint::code(std::string_view start, std::string_view text) const {
  if (!colour_) return std::string(text);
  return "\x1b[" + std::string(start) + "m" + std::string(text) + "\x1b[0m";
}

std::string Paint::bold(std::string_view text) const {
  return code("1", text);
}

std::string Paint::dim(std::string_view text) const {
  return code("2", text);
}

std::string Paint::toned(std::string_view text, Tone tone) const {
  switch (tone) {
    case Tone::kGood:
      return code("32", text);
    case Tone::kBad:
      return code("31", text);
    case Tone::kUnsure:
      return code("33", text);
    case Tone::kPlain:
      break;
  }
  return std::string(text);
}

std::string Paint::banner(std::string_view text, Tone tone) const {
  if (!colour_) return "[" + std::string(text) + "]";
  const std::string spaced = " " + std::string(text) + " ";
  switch (tone) {
    case Tone::kGood:
      return code("1;7;32", spaced);
    case Tone::kBad:
      return code("1;7;31", spaced);
    case Tone::kUnsure:
      return code("1;7;33", spaced);
    case Tone::kPlain:
      break;
  }
  return code("1;7", spaced);
}

std::string Paint::clean(std::string_view text) const {
  std::string safe = base::printable(text);
  if (unicode_) return safe;
  std::string ascii;
  for (const char c : safe) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80) {
      ascii += c;
    } else if (byte >= 0xC0) {  // the first byte of a character stands for all of it
      ascii += '?';
    }
  }
  return ascii;
}

std::string Paint::wrapped(std::string_view text, int indent) const {
  const std::string margin(static_cast<std::size_t>(indent), ' ');
  const int room = std::max(width_ - indent, 20);
  std::string out;
  std::string line;
  const auto flush = [&] {
    if (!line.empty()) out += margin + line + "\n";
    line.clear();
  };
  for (const std::string& word : base::split(clean(text), ' ')) {
    if (word.empty()) continue;
    if (!line.empty() && columns(line) + 1 + columns(word) > room) flush();
    if (!line.empty()) line += ' ';
    line += word;
  }
  flush();
  return out;
}

int columns(std::string_view text) {
  return static_cast<int>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

std::string padded(std::string_view text, int width) {
  const int missing = width - columns(text);
  return std::string(text) + std::string(static_cast<std::size_t>(std::max(missing, 0)), ' ');
}

}  // namespace squall::report
