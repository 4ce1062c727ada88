#include "observe/http_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "base/text.h"
#include "observe/http_response.h"

namespace squall::observe {
namespace {

base::Error bad(std::string message, std::string hint) {
  return base::Error{
      .code = base::ErrorCode::kBadFile, .message = std::move(message), .hint = std::move(hint)};
}

bool is_token(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
  });
}

bool has_header(const HttpHeaders& headers, std::string_view name) {
  return std::any_of(headers.begin(), headers.end(), [name](const auto& header) {
    return equals_ignoring_case(header.first, name);
  });
}

}  // namespace

base::Result<Url> parse_url(std::string_view text) {
  Url url;
  std::string_view rest = text;
  if (rest.starts_with("http://")) {
    rest.remove_prefix(7);
  } else if (rest.starts_with("https://")) {
    rest.remove_prefix(8);
    url.tls = true;
  } else {
    return bad(fmt::format("`{}` is not an HTTP address", text),
               "write http://host:port/path or https://host:port/path");
  }
  rest = rest.substr(0, rest.find('#'));
  for (const char c : rest) {
    if (static_cast<unsigned char>(c) <= ' ' || c == 0x7f) {
      return bad("the address has a space or a control character in it",
                 "write a space as %20 in a URL");
    }
  }
  const std::size_t path = rest.find_first_of("/?");
  std::string_view authority = rest.substr(0, path);
  url.target = path == std::string_view::npos ? "/" : std::string(rest.substr(path));
  if (url.target.front() == '?') url.target.insert(0, "/");
  if (authority.find('@') != std::string_view::npos) {
    return bad("the address has a user name or password in it",
               "put `Authorization: ...` into a file and name it with headers_file");
  }
  url.authority = authority;
  std::string_view host = authority;
  std::string_view port;
  const std::size_t bracket = authority.rfind(']');
  const std::size_t colon = authority.rfind(':');
  if (colon != std::string_view::npos && (bracket == std::string_view::npos || colon > bracket)) {
    host = authority.substr(0, colon);
    port = authority.substr(colon + 1);
  }
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  url.host = host;
  url.port = url.tls ? 443 : 80;
  if (!port.empty()) {
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), url.port);
    if (error != std::errc() || end != port.data() + port.size() || url.port == 0) {
      return bad(fmt::format("`{}` is not a port", port), "ports are 1 to 65535");
    }
  }
  if (url.host.empty()) return bad(fmt::format("`{}` names no host", text), "write http://host/");
  return url;
}

base::Status check_header(const std::string& name, const std::string& value) {
  if (!is_token(name)) {
    return bad(fmt::format("`{}` is not a header name", base::printable(name)),
               "header names are letters, digits and -");
  }
  if (std::any_of(value.begin(), value.end(),
                  [](char c) { return c == '\r' || c == '\n' || c == '\0'; })) {
    return bad(fmt::format("the value of header {} has a line break in it", name),
               "a header is one line");
  }
  for (const std::string_view framing : {"content-length", "transfer-encoding", "connection"}) {
    if (equals_ignoring_case(name, framing)) {
      return bad(fmt::format("the header {} is set by the load generator", name),
                 "leave it out: it follows from the body and the connection pool");
    }
  }
  return {};
}

base::Result<HttpHeaders> read_headers_file(const std::string& path) {
  SQUALL_ASSIGN(const std::string text, base::read_file(path, 64 * 1024));
  HttpHeaders headers;
  int number = 0;
  for (const std::string& raw : base::split(text, '\n')) {
    ++number;
    const std::string_view line = base::trim(raw);
    if (line.empty() || line.front() == '#') continue;
    const std::size_t colon = line.find(':');
    // The line may be a secret: it is never quoted.
    if (colon == std::string_view::npos) {
      return bad(fmt::format("{}:{}: this line is not a header", path, number),
                 "write one `Name: value` a line");
    }
    std::string name(base::trim(line.substr(0, colon)));
    std::string value(base::trim(line.substr(colon + 1)));
    SQUALL_TRY(check_header(name, value));
    headers.emplace_back(std::move(name), std::move(value));
  }
  return headers;
}

std::string sequence_text(std::string_view prefix, std::uint64_t number) {
  return fmt::format("{}-{:0{}}", prefix, number, kSequenceDigits);
}

std::string replace_sequence(std::string_view text, std::string_view sequence) {
  std::string result;
  while (true) {
    const std::size_t found = text.find(kSequencePlaceholder);
    result.append(text.substr(0, found));
    if (found == std::string_view::npos) return result;
    result.append(sequence);
    text.remove_prefix(found + kSequencePlaceholder.size());
  }
}

base::Result<HttpRequestTemplate> HttpRequestTemplate::make(const RequestOptions& options) {
  if (!is_token(options.method)) {
    return bad(fmt::format("`{}` is not an HTTP method", base::printable(options.method)),
               "use GET, HEAD, POST, PUT, PATCH, DELETE or another plain word");
  }
  // A marker that cannot stand in a valid request finds the places where the digits go.
  const std::string marker = "\x01" + std::string(kSequenceDigits - 1, '0');
  const std::string sequence = options.sequence_prefix + "-" + marker;
  const auto fill = [&](std::string_view text) {
    return options.sequence_prefix.empty() ? std::string(text) : replace_sequence(text, sequence);
  };
  const std::string body = fill(options.body);
  std::string bytes = fmt::format("{} {} HTTP/1.1\r\n", options.method, fill(options.url.target));
  if (!has_header(options.headers, "host")) {
    bytes += fmt::format("Host: {}\r\n", options.url.authority);
  }
  if (!has_header(options.headers, "user-agent")) bytes += "User-Agent: squall\r\n";
  if (!has_header(options.headers, "accept")) bytes += "Accept: */*\r\n";
  for (const auto& [name, value] : options.headers) {
    SQUALL_TRY(check_header(name, value));
    bytes += fmt::format("{}: {}\r\n", name, fill(value));
  }
  const bool carries_body = !body.empty() || options.method == "POST" || options.method == "PUT" ||
                            options.method == "PATCH";
  if (carries_body) {
    if (!body.empty() && !options.content_type.empty() &&
        !has_header(options.headers, "content-type")) {
      bytes += fmt::format("Content-Type: {}\r\n", options.content_type);
    }
    bytes += fmt::format("Content-Length: {}\r\n", body.size());
  }
  bytes += "\r\n";
  bytes += body;

  HttpRequestTemplate request;
  request.head_ = options.method == "HEAD";
  if (!options.sequence_prefix.empty()) {
    for (std::size_t at = bytes.find(marker); at != std::string::npos;
         at = bytes.find(marker, at + 1)) {
      request.number_offsets_.push_back(at);
    }
  }
  request.bytes_ = std::move(bytes);
  return request;
}

std::string_view HttpRequestTemplate::render(std::uint64_t sequence) {
  if (number_offsets_.empty()) return bytes_;
  char digits[kSequenceDigits];
  for (std::size_t i = kSequenceDigits; i-- > 0; sequence /= 10) {
    digits[i] = static_cast<char>('0' + sequence % 10);
  }
  for (const std::size_t offset : number_offsets_) {
    std::copy_n(digits, kSequenceDigits, bytes_.begin() + static_cast<std::ptrdiff_t>(offset));
  }
  return bytes_;
}

base::Status put_sequence_placeholder(base::Json& body, std::string_view path) {
  SQUALL_ASSIGN(const base::JsonPath parsed, base::JsonPath::parse(path));
  if (base::Json* place = parsed.find(body)) {
    if (!place->is_string() ||
        place->get<std::string>().find(kSequencePlaceholder) == std::string::npos) {
      *place = std::string(kSequencePlaceholder);
    }
    return {};
  }
  const std::string_view key = path.size() > 2 ? path.substr(2) : std::string_view();
  const bool plain = path.starts_with("$.") && !key.empty() &&
                     key.find_first_of(".[]\"'") == std::string_view::npos;
  if (!plain || !body.is_object()) {
    return bad(fmt::format("the body has no place {}", path),
               "`sequence` names the key of the body that carries the number, such as "
               "$.client_ref, and the body is a map");
  }
  body[std::string(key)] = std::string(kSequencePlaceholder);
  return {};
}

}  // namespace squall::observe
