#include "base/json.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/frame.h"
#include "base/text.h"

namespace squall::base {

namespace {

constexpr int kDepthLimit = 64;

Error json_error(std::string_view text, std::size_t offset, std::string_view what) {
  const std::string_view before = text.substr(0, std::min(offset, text.size()));
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const auto newline = before.rfind('\n');
  const std::size_t column = before.size() - (newline == std::string_view::npos ? 0 : newline + 1);
  return Error{.code = ErrorCode::kBadFile,
               .message = fmt::format("not valid JSON at line {}, column {}: {}", line,
                                      std::max<std::size_t>(column, 1), what)};
}

// The offset at which the nesting becomes too deep. Checked before parsing, because code that walks
// a document (ours and the library's) recurses.
std::size_t too_deep_at(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kDepthLimit) return i + 1;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return std::string_view::npos;
}

void append_string(std::string& out, std::string_view raw) {
  const std::string text = is_valid_utf8(raw) ? std::string(raw) : valid_utf8(raw);
  out += '"';
  for (const char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20)
          out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
        else
          out += c;
    }
  }
  out += '"';
}

// As JavaScript prints numbers (RFC 8785, 3.2.2.3): fixed from 1e-6 to below 1e21, else scientific.
void append_double(std::string& out, double value) {
  if (!std::isfinite(value)) {  // JSON has no such numbers
    out += "null";
    return;
  }
  if (value == 0) {
    out += '0';
    return;
  }
  // The shortest digits that read back, as "d.ddde+XX"; `point` is where the decimal point belongs.
  char buffer[64];
  const auto end =
      std::to_chars(buffer, buffer + sizeof buffer, std::fabs(value), std::chars_format::scientific)
          .ptr;
  const std::string_view text(buffer, static_cast<std::size_t>(end - buffer));
  const auto e = text.find('e');
  std::string digits(text.substr(0, e));
  std::erase(digits, '.');
  int point = 0;
  std::from_chars(text.data() + e + (text[e + 1] == '+' ? 2 : 1), end, point);
  ++point;
  const int count = static_cast<int>(digits.size());
  if (value < 0) out += '-';
  if (point > 21 || point < -5) {
    out += digits.substr(0, 1);
    if (count > 1) out += "." + digits.substr(1);
    out += fmt::format("e{:+}", point - 1);
  } else if (point <= 0) {
    out += "0." + std::string(static_cast<std::size_t>(-point), '0') + digits;
  } else if (point >= count) {
    out += digits + std::string(static_cast<std::size_t>(point - count), '0');
  } else {
    out += digits.insert(static_cast<std::size_t>(point), ".");
  }
}

void append_canonical(std::string& out, const Json& value) {
  switch (value.type()) {
    case Json::value_t::object: {
      out += '{';
      bool first = true;
      for (const auto& [key, item] : value.items()) {  // a std::map: sorted
        if (!first) out += ',';
        first = false;
        append_string(out, key);
        out += ':';
        append_canonical(out, item);
      }
      out += '}';
      return;
    }
    case Json::value_t::array: {
      out += '[';
      for (std::size_t i = 0; i < value.size(); ++i) {
        if (i > 0) out += ',';
        append_canonical(out, value[i]);
      }
      out += ']';
      return;
    }
    case Json::value_t::string:
      append_string(out, value.get_ref<const std::string&>());
      return;
    case Json::value_t::boolean:
      out += value.get<bool>() ? "true" : "false";
      return;
    case Json::value_t::number_integer:
      out += std::to_string(value.get<std::int64_t>());
      return;
    case Json::value_t::number_unsigned:
      out += std::to_string(value.get<std::uint64_t>());
      return;
    case Json::value_t::number_float:
      append_double(out, value.get<double>());
      return;
    case Json::value_t::null:
    case Json::value_t::binary:
    case Json::value_t::discarded:
      out += "null";
      return;
  }
}

}  // namespace

Result<Json> parse_json(std::string_view text, std::size_t limit) {
  if (text.size() > limit) {
    return Error{
        .code = ErrorCode::kBadFile,
        .message = fmt::format("the JSON text has {} bytes; the limit is {}", text.size(), limit)};
  }
  if (const std::size_t at = too_deep_at(text); at != std::string_view::npos)
    return json_error(text, at, fmt::format("nested more than {} deep", kDepthLimit));
  try {
    return Json::parse(text);
  } catch (const Json::parse_error& error) {
    // The library's text begins with its own name, number and position: "[...] ...: what; last
    // read: ...". Only the reason is of use to a reader.
    std::string_view what = error.what();
    if (const auto syntax = what.find(": syntax error"); syntax != std::string_view::npos)
      what.remove_prefix(syntax + 2);
    return json_error(text, error.byte, printable(what));
  } catch (const Json::exception& error) {
    return json_error(text, 0, printable(error.what()));
  }
}

std::string canonical_json(const Json& value) {
  std::string out;
  append_canonical(out, value);
  return out;
}

namespace {

// The steps of a JsonPath are encoded as a kind, then a key or an index.
enum class StepKind : std::uint8_t { kKey, kIndex };

Error path_error(std::string_view path, std::size_t at, std::string_view what) {
  return Error{
      .code = ErrorCode::kUsage,
      .message = fmt::format("JSON path `{}`, column {}: {}", printable(path), at + 1, what),
      .hint = "a path looks like $.items[0].name or $[\"odd name\"]"};
}

bool is_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '-' || static_cast<unsigned char>(c) >= 0x80;
}

// Reads ["key"] or [0] at `at`, which stands after the bracket; leaves it after the closing one.
Status parse_bracket(std::string_view path, std::size_t& at, ByteWriter& steps) {
  const char first = at < path.size() ? path[at] : '\0';
  if (first == '"' || first == '\'') {
    std::string key;
    for (++at; at < path.size() && path[at] != first; ++at) {
      if (path[at] == '\\' && at + 1 < path.size()) ++at;
      key += path[at];
    }
    if (at >= path.size()) return path_error(path, at, "the quotation mark is not closed");
    ++at;
    steps.u8(static_cast<std::uint8_t>(StepKind::kKey));
    steps.text(key);
  } else {
    std::uint32_t index = 0;
    const auto [end, fault] = std::from_chars(path.data() + at, path.data() + path.size(), index);
    if (fault != std::errc{}) return path_error(path, at, "expected a number or a quoted name");
    at = static_cast<std::size_t>(end - path.data());
    steps.u8(static_cast<std::uint8_t>(StepKind::kIndex));
    steps.varint(index);
  }
  if (at >= path.size() || path[at] != ']') return path_error(path, at, "expected `]`");
  ++at;
  return {};
}

}  // namespace

Result<JsonPath> JsonPath::parse(std::string_view path) {
  if (!path.starts_with('$')) return path_error(path, 0, "a path starts with `$`");
  ByteWriter steps;
  std::size_t at = 1;
  while (at < path.size()) {
    if (path[at] == '[') {
      SQUALL_TRY(parse_bracket(path, ++at, steps));
    } else if (path[at] == '.') {
      const std::size_t start = ++at;
      while (at < path.size() && is_name(path[at])) ++at;
      if (at == start) return path_error(path, at, "expected a name after `.`");
      steps.u8(static_cast<std::uint8_t>(StepKind::kKey));
      steps.text(path.substr(start, at - start));
    } else {
      return path_error(path, at, "expected `.` or `[`");
    }
  }
  JsonPath parsed;
  parsed.text_ = path;
  parsed.encoded_.assign(reinterpret_cast<const char*>(steps.bytes().data()), steps.size());
  return parsed;
}

const Json* JsonPath::find(const Json& document) const {
  ByteReader steps(std::as_bytes(std::span{encoded_.data(), encoded_.size()}));
  const Json* here = &document;
  while (!steps.at_end()) {
    if (static_cast<StepKind>(steps.u8()) == StepKind::kKey) {
      const std::string_view key = steps.text();
      if (!here->is_object()) return nullptr;
      const auto found = here->find(std::string(key));
      if (found == here->end()) return nullptr;
      here = &*found;
    } else {
      const std::uint64_t index = steps.varint();
      if (!here->is_array() || index >= here->size()) return nullptr;
      here = &(*here)[static_cast<std::size_t>(index)];
    }
  }
  return here;
}

Json* JsonPath::find(Json& document) const {
  return const_cast<Json*>(find(static_cast<const Json&>(document)));
}

}  // namespace squall::base
