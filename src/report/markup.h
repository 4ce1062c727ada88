#pragma once
// Writes HTML, SVG and XML. Text and attribute values are escaped here and nowhere else, so nothing
// unescaped can slip in. Internal.

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace squall::report {

class Markup {
 public:
  using Attributes = std::initializer_list<std::pair<std::string_view, std::string_view>>;

  // Attributes with an empty name are left out.
  void open(std::string_view tag, Attributes attributes = {});
  void close();  // the innermost open tag
  void text(std::string_view text);
  void element(std::string_view tag, std::string_view text, Attributes attributes = {});
  void empty(std::string_view tag, Attributes attributes = {});  // <tag .../>
  void line_break() { out_ += '\n'; }
  // For constants of ours only: doctype, style sheet.
  void constant(std::string_view markup) { out_ += markup; }
  // Takes over what another Markup has written and closed.
  void append(Markup part) { out_ += std::move(part).take(); }
  std::string take() &&;  // all tags must be closed

 private:
  void begin(std::string_view tag, Attributes attributes);
  std::string out_;
  std::vector<std::string> open_;
};

// Escapes & < > " ' ; control characters that XML 1.0 forbids and invalid UTF-8 become U+FFFD.
std::string escape_markup(std::string_view text);

}  // namespace squall::report
