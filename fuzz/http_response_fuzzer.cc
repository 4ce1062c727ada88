// The parser of HTTP responses on any bytes, whole and cut in two: it never crashes, keeps its
// limits, and gives the same answer however the bytes arrive.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "observe/http_response.h"

namespace {

using squall::observe::HttpResponseParser;
using squall::observe::ResponseState;

constexpr std::uint64_t kBodyLimit = 4096;

void require(bool condition) {
  if (!condition) std::abort();
}

struct Whole {
  HttpResponseParser parser{HttpResponseParser::Body::kKeep, kBodyLimit};
  std::size_t used = 0;
};

void read(Whole& whole, std::string_view first, std::string_view second,
          HttpResponseParser::Request request) {
  whole.parser.start(request);
  whole.used = whole.parser.feed(first);
  require(whole.used <= first.size());
  if (whole.parser.state() == ResponseState::kMore) {
    require(whole.used == first.size());
    whole.used += whole.parser.feed(second);
  }
  whole.parser.end_of_stream();
  require(whole.parser.body().size() <= kBodyLimit);
  require(whole.parser.state() != ResponseState::kComplete || whole.parser.status() >= 200);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 3) return 0;
  const auto request =
      (data[0] & 1) != 0 ? HttpResponseParser::Request::kHead : HttpResponseParser::Request::kOther;
  const std::size_t cut = (static_cast<std::size_t>(data[1]) << 8 | data[2]) % (size - 2);
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 3, size - 3);
  Whole once;
  Whole twice;
  read(once, bytes, {}, request);
  read(twice, bytes.substr(0, cut), bytes.substr(std::min(cut, bytes.size())), request);
  require(once.parser.state() == twice.parser.state());
  require(once.used == twice.used);
  require(once.parser.body() == twice.parser.body());
  require(once.parser.header("connection") == twice.parser.header("connection"));
  return 0;
}
