#pragma once
// The one frame of everything binary: record, journal, and the sockets between our processes.
//
//   offset size
//   0      4   magic "SQL1"
//   4      2   version (1)
//   6      2   type (its meaning belongs to the file or socket)
//   8      4   length of the payload in bytes
//   12     4   CRC-32C over bytes 0 to 11, 16 to 23 and the payload
//   16     8   CLOCK_BOOTTIME in nanoseconds when written
//   24     -   payload
// All integers little-endian.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"

namespace squall::base {

inline constexpr std::size_t kFrameHeaderSize = 24;
inline constexpr std::size_t kFramePayloadLimit = 16u << 20;

struct FrameView {
  std::uint16_t type = 0;
  Instant written;
  std::span<const std::byte> payload;  // points into the buffer that was decoded
  std::size_t size = 0;                // header and payload
};

void append_frame(std::vector<std::byte>& out, std::uint16_t type, Instant written,
                  std::span<const std::byte> payload);
void append_frame(std::vector<std::byte>& out, std::uint16_t type, Instant written,
                  std::string_view payload);

enum class FrameFault {
  kIncomplete,  // the bytes end before the frame does: a torn tail, or more is to come
  kCorrupt,     // bytes that are not a frame of ours, or a checksum that does not fit
};
struct DecodedFrame {
  std::optional<FrameView> frame;
  std::optional<FrameFault> fault;  // set exactly when frame is not
};
// Decodes the frame at the start of `bytes`. Never reads past them; never allocates.
DecodedFrame decode_frame(std::span<const std::byte> bytes);

// The offset at or after `from` at which a whole valid frame starts, for reading past damage.
std::optional<std::size_t> find_frame(std::span<const std::byte> bytes, std::size_t from);

// Little-endian building blocks for payloads.
class ByteWriter {
 public:
  void u8(std::uint8_t v);
  void u16(std::uint16_t v);
  void u32(std::uint32_t v);
  void u64(std::uint64_t v);
  void f64(double v);
  void varint(std::uint64_t v);        // LEB128
  void signed_varint(std::int64_t v);  // zigzag LEB128
  void text(std::string_view v);       // varint length, bytes
  std::span<const std::byte> bytes() const { return bytes_; }
  void clear() { bytes_.clear(); }
  bool empty() const { return bytes_.empty(); }
  std::size_t size() const { return bytes_.size(); }

 private:
  std::vector<std::byte> bytes_;
};

// Reading past the end sets failed() and yields zeros; check once at the end.
class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) : bytes_(bytes) {}
  std::uint8_t u8();
  std::uint16_t u16();
  std::uint32_t u32();
  std::uint64_t u64();
  double f64();
  std::uint64_t varint();
  std::int64_t signed_varint();
  std::string_view text();
  bool at_end() const { return position_ == bytes_.size(); }
  bool failed() const { return failed_; }
  std::size_t remaining() const { return bytes_.size() - position_; }

 private:
  std::span<const std::byte> take(std::size_t count);
  std::span<const std::byte> bytes_;
  std::size_t position_ = 0;
  bool failed_ = false;
};

}  // namespace squall::base
