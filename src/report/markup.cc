#include "report/markup.h"

#include "base/check.h"
#include "base/text.h"

namespace squall::report {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// U+FFFE and U+FFFF, which XML 1.0 forbids.
bool is_forbidden_triple(std::string_view text) {
  return text.starts_with("\xEF\xBF\xBE") || text.starts_with("\xEF\xBF\xBF");
}

}  // namespace

std::string escape_markup(std::string_view text) {
  const std::string valid = base::valid_utf8(text);
  std::string out;
  out.reserve(valid.size() + valid.size() / 8);
  for (std::size_t i = 0; i < valid.size(); ++i) {
    const char c = valid[i];
    switch (c) {
      case '&':
        out += "&amp;";
        continue;
      case '<':
        out += "&lt;";
        continue;
      case '>':
        out += "&gt;";
        continue;
      case '"':
        out += "&quot;";
        continue;
      case '\'':
        out += "&#39;";
        continue;
      case '\r':
        out += "&#13;";
        continue;
      case '\t':
      case '\n':
        out += c;
        continue;
      default:
        break;
    }
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7F) {
      out += kReplacement;
    } else if (is_forbidden_triple(std::string_view(valid).substr(i))) {
      out += kReplacement;
      i += 2;
    } else {
      out += c;
    }
  }
  return out;
}

void Markup::begin(std::string_view tag, Attributes attributes) {
  out_ += '<';
  out_ += tag;
  for (const auto& [name, value] : attributes) {
    if (name.empty()) continue;
    out_ += ' ';
    out_ += name;
    out_ += "=\"";
    for (const char c : escape_markup(value)) {
      // As references, because parsers turn bare ones in attributes into spaces.
      if (c == '\n') {
        out_ += "&#10;";
      } else if (c == '\t') {
        out_ += "&#9;";
      } else {
        out_ += c;
      }
    }
    out_ += '"';
  }
}

void Markup::open(std::string_view tag, Attributes attributes) {
  begin(tag, attributes);
  out_ += '>';
  open_.emplace_back(tag);
}

void Markup::close() {
  SQUALL_CHECK(!open_.empty());
  out_ += "</" + open_.back() + ">";
  open_.pop_back();
}

void Markup::text(std::string_view text) {
  out_ += escape_markup(text);
}

void Markup::element(std::string_view tag, std::string_view text, Attributes attributes) {
  open(tag, attributes);
  this->text(text);
  close();
}

void Markup::empty(std::string_view tag, Attributes attributes) {
  begin(tag, attributes);
  out_ += "/>";
}

std::string Markup::take() && {
  SQUALL_CHECK(open_.empty());
  return std::move(out_);
}

}  // namespace squall::report
