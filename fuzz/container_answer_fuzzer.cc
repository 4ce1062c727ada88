// What a container engine answers, whole and byte by byte, and what it lists as containers.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/check.h"
#include "host/containers.h"
#include "host/unix_http.h"

namespace {

using namespace squall;  // NOLINT: a fuzzer

constexpr std::size_t kBodyLimit = 4096;

std::optional<host::HttpAnswer> read(std::string_view text, std::size_t step) {
  host::HttpAnswerParser parser{kBodyLimit};
  for (std::size_t at = 0; at < text.size() && !parser.done(); at += step)
    if (!parser.feed(text.substr(at, step)).ok()) return std::nullopt;
  if (!parser.done() && !parser.end().ok()) return std::nullopt;
  SQUALL_CHECK(parser.done());
  return parser.take();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text{reinterpret_cast<const char*>(data), size};
  const auto whole = read(text, text.size() + 1);
  if (whole) {
    SQUALL_CHECK(whole->body.size() <= kBodyLimit);
    const auto bytes = read(text, 1);
    SQUALL_CHECK(bytes && bytes->status == whole->status && bytes->body == whole->body);
  }
  const std::string_view body = whole ? std::string_view{whole->body} : std::string_view{};
  for (const std::string_view json : {text, body}) {
    const auto containers = host::parse_containers(json);
    if (!containers.ok()) continue;
    for (const host::Container& container : *containers) SQUALL_CHECK(!container.id.empty());
  }
  return 0;
}
