// The frame codec on any bytes. What is accepted must be exactly what the encoder would write; what
// the encoder writes must be accepted, each of its beginnings must be incomplete, and it must be
// found behind the damage. The building blocks of payloads never read past the end.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/check.h"
#include "base/frame.h"

namespace base = squall::base;

namespace {

void check_decoding(std::span<const std::byte> bytes) {
  const base::DecodedFrame decoded = base::decode_frame(bytes);
  SQUALL_CHECK(decoded.frame.has_value() != decoded.fault.has_value());
  if (decoded.frame) {
    std::vector<std::byte> again;
    base::append_frame(again, decoded.frame->type, decoded.frame->written, decoded.frame->payload);
    SQUALL_CHECK(again.size() == decoded.frame->size);
    SQUALL_CHECK(std::equal(again.begin(), again.end(), bytes.begin()));
  }
  const auto found = base::find_frame(bytes, 0);
  if (found) SQUALL_CHECK(base::decode_frame(bytes.subspan(*found)).frame.has_value());
  SQUALL_CHECK((found == std::size_t{0}) == decoded.frame.has_value());
}

void check_encoding(std::span<const std::byte> bytes) {
  std::vector<std::byte> stream(bytes.begin(), bytes.end());  // damage before the frame
  const std::size_t start = stream.size();
  base::append_frame(stream, 7, base::Instant{}, bytes);
  const auto frame = std::span<const std::byte>(stream).subspan(start);
  SQUALL_CHECK(base::decode_frame(frame).frame.has_value());
  const auto torn = base::decode_frame(frame.first(frame.size() - 1));
  SQUALL_CHECK(torn.fault == base::FrameFault::kIncomplete);
  const auto found = base::find_frame(stream, 0);
  SQUALL_CHECK(found.has_value() && *found <= start);
}

// The first bytes choose what is read from the rest.
void check_reading(std::span<const std::byte> bytes) {
  const std::size_t steps = std::min<std::size_t>(bytes.size() / 2, 64);
  base::ByteReader reader(bytes.subspan(steps));
  for (std::size_t i = 0; i < steps; ++i) {
    const std::size_t before = reader.remaining();
    switch (std::to_integer<unsigned>(bytes[i]) % 8) {
      case 0:
        reader.u8();
        break;
      case 1:
        reader.u16();
        break;
      case 2:
        reader.u32();
        break;
      case 3:
        reader.u64();
        break;
      case 4:
        reader.f64();
        break;
      case 5:
        reader.varint();
        break;
      case 6:
        reader.signed_varint();
        break;
      default:
        SQUALL_CHECK(reader.text().size() <= before);
        break;
    }
    SQUALL_CHECK(reader.remaining() <= before);
    SQUALL_CHECK(!reader.failed() || reader.at_end());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  check_decoding(bytes);
  check_encoding(bytes);
  check_reading(bytes);
  return 0;
}
