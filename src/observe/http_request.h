#pragma once
// What an http probe sends: a URL taken apart, and a request that is rendered once and in which
// only the sequence number changes afterwards.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace squall::observe {

struct Url {
  bool tls = false;
  std::string host;  // without the brackets of IPv6
  std::uint16_t port = 0;
  std::string target;     // path and query, at least "/"
  std::string authority;  // for the Host header
};
// http:// and https:// only. User names in the URL are refused: they end up in logs.
base::Result<Url> parse_url(std::string_view text);

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

// "Name: value" lines, for secrets that must not stand in the system map. Empty lines and lines
// that start with # are skipped.
base::Result<HttpHeaders> read_headers_file(const std::string& path);
// Refuses names and values that could change the request's framing.
base::Status check_header(const std::string& name, const std::string& value);

// "<run>-<probe>-0000000042": what replaces {sequence}. Fixed width, so that a request is rendered
// once. At most 10^10 numbers, which is 115 days at 1,000/s.
inline constexpr std::size_t kSequenceDigits = 10;
inline constexpr std::string_view kSequencePlaceholder = "{sequence}";
std::string sequence_text(std::string_view prefix, std::uint64_t number);
std::string replace_sequence(std::string_view text, std::string_view sequence);

struct RequestOptions {
  std::string method = "GET";
  Url url;
  HttpHeaders headers;
  std::string body;
  std::string content_type;     // used when no header of that name is given
  std::string sequence_prefix;  // empty: {sequence} is not replaced
};

class HttpRequestTemplate {
 public:
  static base::Result<HttpRequestTemplate> make(const RequestOptions& options);
  // The bytes to send. Valid until the next call.
  std::string_view render(std::uint64_t sequence);
  bool head() const { return head_; }  // HEAD: the answer has no body
  bool numbered() const { return !number_offsets_.empty(); }

 private:
  std::string bytes_;
  std::vector<std::size_t> number_offsets_;  // where the digits stand
  bool head_ = false;
};

// Marks the value in `body` that each request replaces by its sequence number: the one at the JSON
// path `path`, which must exist, or be a plain key of the top map ("$.client_ref"), which is then
// made. kBadFile otherwise.
base::Status put_sequence_placeholder(base::Json& body, std::string_view path);

}  // namespace squall::observe
