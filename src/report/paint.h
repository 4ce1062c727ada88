#pragma once
// Text for terminals: colour, wrapping, and what a terminal cannot show. Internal.

#include <string>
#include <string_view>

#include "report/report.h"
#include "report/words.h"

namespace squall::report {

class Paint {
 public:
  explicit Paint(const TerminalOptions& options);

  int width() const { return width_; }
  bool unicode() const { return unicode_; }
  std::string bold(std::string_view text) const;
  std::string dim(std::string_view text) const;
  std::string toned(std::string_view text, Tone tone) const;
  std::string banner(std::string_view text, Tone tone) const;  // inverse, with a space around

  // Untrusted text made harmless; without Unicode every other character becomes `?`.
  std::string clean(std::string_view text) const;
  // `text` cleaned and broken into lines at spaces, each behind `indent` spaces; ends with a line
  // feed. Words that are too long stay whole.
  std::string wrapped(std::string_view text, int indent) const;

 private:
  std::string code(std::string_view start, std::string_view text) const;
  bool colour_;
  int width_;
  bool unicode_;
};

// Columns that `text` takes: one for each code point.
int columns(std::string_view text);
// Padded with spaces to `width` columns.
std::string padded(std::string_view text, int width);

}  // namespace squall::report
