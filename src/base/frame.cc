#include "base/frame.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "base/check.h"
#include "base/digest.h"

namespace squall::base {

namespace {

constexpr std::array<std::byte, 4> kMagic{std::byte{'S'}, std::byte{'Q'}, std::byte{'L'},
                                          std::byte{'1'}};
constexpr std::uint16_t kVersion = 1;
// find_frame gives up after checksumming this much: crafted bytes would otherwise make it
// quadratic.
constexpr std::size_t kSearchLimit = std::size_t{1} << 30;

template <typename T>
void store(std::byte* at, T value) {
  for (std::size_t i = 0; i < sizeof(T); ++i) at[i] = static_cast<std::byte>(value >> (8 * i));
}

template <typename T>
T load(const std::byte* at) {
  T value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i)
    value = static_cast<T>(value | static_cast<T>(std::to_integer<T>(at[i]) << (8 * i)));
  return value;
}

std::uint32_t frame_checksum(std::span<const std::byte> header,
                             std::span<const std::byte> payload) {
  std::uint32_t sum = crc32c(header.subspan(0, 12));
  sum = crc32c(header.subspan(16, 8), sum);
  return crc32c(payload, sum);
}

}  // namespace

void append_frame(std::vector<std::byte>& out, std::uint16_t type, Instant written,
                  std::span<const std::byte> payload) {
  SQUALL_CHECK(payload.size() <= kFramePayloadLimit);
  std::array<std::byte, kFrameHeaderSize> header{};
  std::copy(kMagic.begin(), kMagic.end(), header.begin());
  store<std::uint16_t>(&header[4], kVersion);
  store<std::uint16_t>(&header[6], type);
  store<std::uint32_t>(&header[8], static_cast<std::uint32_t>(payload.size()));
  store<std::uint64_t>(&header[16], static_cast<std::uint64_t>(to_nanoseconds(written)));
  store<std::uint32_t>(&header[12], frame_checksum(header, payload));
  out.insert(out.end(), header.begin(), header.end());
  out.insert(out.end(), payload.begin(), payload.end());
}

void append_frame(std::vector<std::byte>& out, std::uint16_t type, Instant written,
                  std::string_view payload) {
  append_frame(out, type, written, std::as_bytes(std::span{payload.data(), payload.size()}));
}

DecodedFrame decode_frame(std::span<const std::byte> bytes) {
  const std::size_t prefix = std::min(bytes.size(), kMagic.size());
  if (!std::equal(kMagic.begin(), kMagic.begin() + static_cast<std::ptrdiff_t>(prefix),
                  bytes.begin()))
    return {.frame = {}, .fault = FrameFault::kCorrupt};
  if (bytes.size() < kFrameHeaderSize) return {.frame = {}, .fault = FrameFault::kIncomplete};
  const auto length = load<std::uint32_t>(&bytes[8]);
  if (load<std::uint16_t>(&bytes[4]) != kVersion || length > kFramePayloadLimit)
    return {.frame = {}, .fault = FrameFault::kCorrupt};
  if (bytes.size() - kFrameHeaderSize < length)
    return {.frame = {}, .fault = FrameFault::kIncomplete};
  const auto payload = bytes.subspan(kFrameHeaderSize, length);
  if (frame_checksum(bytes.first(kFrameHeaderSize), payload) != load<std::uint32_t>(&bytes[12]))
    return {.frame = {}, .fault = FrameFault::kCorrupt};
  return {.frame = FrameView{.type = load<std::uint16_t>(&bytes[6]),
                             .written = instant_from_nanoseconds(
                                 static_cast<std::int64_t>(load<std::uint64_t>(&bytes[16]))),
                             .payload = payload,
                             .size = kFrameHeaderSize + length},
          .fault = {}};
}

std::optional<std::size_t> find_frame(std::span<const std::byte> bytes, std::size_t from) {
  std::size_t checksummed = 0;
  for (std::size_t at = from; at < bytes.size() && checksummed <= kSearchLimit; ++at) {
    const auto* found = static_cast<const std::byte*>(
        std::memchr(&bytes[at], std::to_integer<int>(kMagic[0]), bytes.size() - at));
    if (found == nullptr) return std::nullopt;
    at = static_cast<std::size_t>(found - bytes.data());
    const auto rest = bytes.subspan(at);
    if (rest.size() < kFrameHeaderSize) return std::nullopt;
    if (!std::equal(kMagic.begin(), kMagic.end(), rest.begin())) continue;
    if (decode_frame(rest).frame) return at;
    checksummed += std::min<std::size_t>(load<std::uint32_t>(&rest[8]), rest.size());
  }
  return std::nullopt;
}

void ByteWriter::u8(std::uint8_t v) {
  bytes_.push_back(std::byte{v});
}

void ByteWriter::u16(std::uint16_t v) {
  bytes_.resize(bytes_.size() + sizeof v);
  store(&bytes_[bytes_.size() - sizeof v], v);
}

void ByteWriter::u32(std::uint32_t v) {
  bytes_.resize(bytes_.size() + sizeof v);
  store(&bytes_[bytes_.size() - sizeof v], v);
}

void ByteWriter::u64(std::uint64_t v) {
  bytes_.resize(bytes_.size() + sizeof v);
  store(&bytes_[bytes_.size() - sizeof v], v);
}

void ByteWriter::f64(double v) {
  u64(std::bit_cast<std::uint64_t>(v));
}

void ByteWriter::varint(std::uint64_t v) {
  while (v >= 0x80) {
    u8(static_cast<std::uint8_t>(v | 0x80));
    v >>= 7;
  }
  u8(static_cast<std::uint8_t>(v));
}

void ByteWriter::signed_varint(std::int64_t v) {
  varint((static_cast<std::uint64_t>(v) << 1) ^ static_cast<std::uint64_t>(v >> 63));
}

void ByteWriter::text(std::string_view v) {
  varint(v.size());
  const auto bytes = std::as_bytes(std::span{v.data(), v.size()});
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
}

std::span<const std::byte> ByteReader::take(std::size_t count) {
  if (failed_ || count > remaining()) {
    failed_ = true;
    position_ = bytes_.size();  // so that loops over at_end() stop
    return {};
  }
  const auto taken = bytes_.subspan(position_, count);
  position_ += count;
  return taken;
}

std::uint8_t ByteReader::u8() {
  const auto bytes = take(1);
  return bytes.empty() ? std::uint8_t{0} : std::to_integer<std::uint8_t>(bytes[0]);
}

std::uint16_t ByteReader::u16() {
  const auto bytes = take(2);
  return bytes.empty() ? std::uint16_t{0} : load<std::uint16_t>(bytes.data());
}

std::uint32_t ByteReader::u32() {
  const auto bytes = take(4);
  return bytes.empty() ? 0 : load<std::uint32_t>(bytes.data());
}

std::uint64_t ByteReader::u64() {
  const auto bytes = take(8);
  return bytes.empty() ? 0 : load<std::uint64_t>(bytes.data());
}

double ByteReader::f64() {
  return std::bit_cast<double>(u64());
}

std::uint64_t ByteReader::varint() {
  std::uint64_t value = 0;
  for (unsigned shift = 0; shift < 64; shift += 7) {
    const std::uint8_t byte = u8();
    if (failed_) return 0;
    if (shift == 63 && byte > 1) break;  // more than 64 bits
    value |= std::uint64_t{byte & 0x7Fu} << shift;
    if ((byte & 0x80) == 0) return value;
  }
  failed_ = true;
  position_ = bytes_.size();
  return 0;
}

std::int64_t ByteReader::signed_varint() {
  const std::uint64_t v = varint();
  return static_cast<std::int64_t>(v >> 1) ^ -static_cast<std::int64_t>(v & 1);
}

std::string_view ByteReader::text() {
  const std::uint64_t size = varint();
  const auto bytes = take(static_cast<std::size_t>(size));
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace squall::base
