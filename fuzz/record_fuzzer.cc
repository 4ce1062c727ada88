// The record reader on any bytes: it never crashes, and allocates no more than the bytes allow.
// Without a checksum that fits, a fuzzer would never get behind the frame codec, so the input is
// also taken as the payloads of frames: type, length, payload, and so on.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/frame.h"
#include "evidence/timeline.h"

namespace {

using squall::base::Instant;
namespace evidence = squall::evidence;

void look_at(const evidence::Record& record) {
  static_cast<void>(evidence::timeline_of(record));
  static_cast<void>(record.wall_time(record.last_instant()));
  for (const evidence::Series& series : record.series()) {
    for (const evidence::RequestBucket& bucket : series.buckets) {
      static_cast<void>(bucket.response_time.quantile(0.99));
      static_cast<void>(bucket.lag.count_above(std::chrono::milliseconds(1)));
      static_cast<void>(bucket.service_time.buckets());
    }
  }
}

void read(std::span<const std::byte> bytes) {
  const auto record = evidence::Record::parse(bytes);
  if (record.ok()) look_at(*record);
}

std::vector<std::byte> frames_of(std::span<const std::byte> input) {
  constexpr std::string_view kHeader = R"({"record_version":1})";
  std::vector<std::byte> bytes;
  squall::base::append_frame(bytes, 1, Instant{}, kHeader);
  while (input.size() >= 3) {
    const auto type = static_cast<std::uint16_t>(std::to_integer<unsigned>(input[0]) % 11);
    const std::size_t length = std::min<std::size_t>(
        std::to_integer<std::size_t>(input[1]) | std::to_integer<std::size_t>(input[2]) << 8,
        input.size() - 3);
    squall::base::append_frame(bytes, type, Instant{}, input.subspan(3, length));
    input = input.subspan(3 + length);
  }
  return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto input = std::as_bytes(std::span(data, size));
  read(input);
  read(frames_of(input));
  return 0;
}
