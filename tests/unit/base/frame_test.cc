#include "base/frame.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <cstring>

namespace squall::base {
namespace {

std::vector<std::byte> frame_of(std::uint16_t type, std::string_view payload) {
  std::vector<std::byte> bytes;
  append_frame(bytes, type, instant_from_nanoseconds(123'456'789), payload);
  return bytes;
}

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

TEST(Frame, HasTheDocumentedLayout) {
  const auto bytes = frame_of(0x0102, "hello");
  ASSERT_EQ(bytes.size(), kFrameHeaderSize + 5);
  EXPECT_EQ(text_of(bytes).substr(0, 12), std::string_view("SQL1\1\0\2\1\5\0\0\0", 12));
  EXPECT_EQ(text_of(bytes).substr(24), "hello");
}

TEST(Frame, RoundTripsAnyPayload) {
  EXPECT_TRUE(rc::check([](std::uint16_t type, std::int64_t time, const std::string& payload) {
    std::vector<std::byte> bytes;
    append_frame(bytes, type, instant_from_nanoseconds(time), payload);
    bytes.push_back(std::byte{0xAA});  // the next frame's beginning does not matter
    const auto decoded = decode_frame(bytes);
    RC_ASSERT(decoded.frame.has_value());
    RC_ASSERT(!decoded.fault.has_value());
    RC_ASSERT(decoded.frame->type == type);
    RC_ASSERT(to_nanoseconds(decoded.frame->written) == time);
    RC_ASSERT(text_of(decoded.frame->payload) == payload);
    RC_ASSERT(decoded.frame->size + 1 == bytes.size());
  }));
}

TEST(Frame, NoSingleFlippedBitIsAccepted) {
  const auto good = frame_of(7, "the payload of a frame, with some length to it");
  for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
    auto bad = good;
    bad[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
    const auto decoded = decode_frame(bad);
    EXPECT_FALSE(decoded.frame.has_value()) << "bit " << bit;
    EXPECT_TRUE(decoded.fault.has_value()) << "bit " << bit;
  }
}

TEST(Frame, NoTwoFlippedBitsAreAccepted) {
  const auto good = frame_of(7, "short");
  for (std::size_t first = 0; first < good.size() * 8; ++first) {
    for (std::size_t second = first + 1; second < good.size() * 8; ++second) {
      auto bad = good;
      bad[first / 8] ^= static_cast<std::byte>(1 << (first % 8));
      bad[second / 8] ^= static_cast<std::byte>(1 << (second % 8));
      ASSERT_FALSE(decode_frame(bad).frame.has_value()) << first << " and " << second;
    }
  }
}

TEST(Frame, EveryTornTailIsIncomplete) {
  const auto good = frame_of(7, "payload");
  for (std::size_t size = 0; size < good.size(); ++size) {
    const auto decoded = decode_frame(std::span(good).first(size));
    ASSERT_FALSE(decoded.frame.has_value());
    EXPECT_EQ(decoded.fault, FrameFault::kIncomplete) << size;
  }
}

TEST(Frame, ForeignBytesAreCorruptNotIncomplete) {
  EXPECT_EQ(decode_frame(std::as_bytes(std::span("G", 1))).fault, FrameFault::kCorrupt);
  EXPECT_EQ(decode_frame(std::as_bytes(std::span("SQX", 3))).fault, FrameFault::kCorrupt);
  auto huge = frame_of(1, "x");
  huge[11] = std::byte{0xFF};  // a length above the limit must not ask for more bytes
  EXPECT_EQ(decode_frame(huge).fault, FrameFault::kCorrupt);
  auto later = frame_of(1, "x");
  later[4] = std::byte{2};  // a later version
  EXPECT_EQ(decode_frame(later).fault, FrameFault::kCorrupt);
}

TEST(Frame, IsFoundBehindDamage) {
  std::vector<std::byte> bytes;
  for (const char c : std::string_view("SQL1 and other damage SSQL")) bytes.push_back(std::byte(c));
  const std::size_t start = bytes.size();
  append_frame(bytes, 3, Instant{}, std::string_view("after"));
  EXPECT_EQ(find_frame(bytes, 0), start);
  EXPECT_EQ(find_frame(bytes, start), start);
  EXPECT_EQ(find_frame(bytes, start + 1), std::nullopt);
  EXPECT_EQ(find_frame(bytes, bytes.size() + 9), std::nullopt);
  EXPECT_EQ(find_frame({}, 0), std::nullopt);
}

TEST(Frame, SearchEndsOnCraftedBytes) {
  // Every 24 bytes a header that claims all the rest: each candidate costs a checksum of it.
  ByteWriter header;
  header.u32(0x314C5153);
  header.u16(1);
  header.u16(1);
  header.u32(1u << 20);
  header.u32(0);
  header.u64(0);
  std::vector<std::byte> bytes;
  while (bytes.size() < (4u << 20))
    bytes.insert(bytes.end(), header.bytes().begin(), header.bytes().end());
  EXPECT_EQ(find_frame(bytes, 0), std::nullopt);
}

TEST(Bytes, RoundTrip) {
  EXPECT_TRUE(rc::check([](std::uint8_t a, std::uint16_t b, std::uint32_t c, std::uint64_t d,
                           double e, std::uint64_t f, std::int64_t g, const std::string& h) {
    ByteWriter writer;
    writer.u8(a);
    writer.u16(b);
    writer.u32(c);
    writer.u64(d);
    writer.f64(e);
    writer.varint(f);
    writer.signed_varint(g);
    writer.text(h);
    ByteReader reader(writer.bytes());
    RC_ASSERT(reader.u8() == a);
    RC_ASSERT(reader.u16() == b);
    RC_ASSERT(reader.u32() == c);
    RC_ASSERT(reader.u64() == d);
    const double read = reader.f64();
    RC_ASSERT(std::memcmp(&read, &e, sizeof e) == 0);
    RC_ASSERT(reader.varint() == f);
    RC_ASSERT(reader.signed_varint() == g);
    RC_ASSERT(reader.text() == h);
    RC_ASSERT(reader.at_end());
    RC_ASSERT(!reader.failed());
  }));
}

TEST(Bytes, ExtremesOfVarints) {
  for (const std::int64_t value : {INT64_MIN, INT64_MAX, std::int64_t{0}, std::int64_t{-1}}) {
    ByteWriter writer;
    writer.signed_varint(value);
    writer.varint(UINT64_MAX);
    ByteReader reader(writer.bytes());
    EXPECT_EQ(reader.signed_varint(), value);
    EXPECT_EQ(reader.varint(), UINT64_MAX);
    EXPECT_FALSE(reader.failed());
  }
}

TEST(Bytes, ReadingPastTheEndFailsAndStops) {
  ByteWriter writer;
  writer.u16(5);
  ByteReader reader(writer.bytes());
  EXPECT_EQ(reader.u32(), 0u);
  EXPECT_TRUE(reader.failed());
  EXPECT_TRUE(reader.at_end());
  EXPECT_EQ(reader.u8(), 0u);

  const std::vector<std::byte> endless(11, std::byte{0xFF});
  ByteReader varint(endless);
  EXPECT_EQ(varint.varint(), 0u);
  EXPECT_TRUE(varint.failed());

  ByteWriter lying;
  lying.varint(UINT64_MAX);  // a text longer than anything
  ByteReader text(lying.bytes());
  EXPECT_EQ(text.text(), "");
  EXPECT_TRUE(text.failed());
}

}  // namespace
}  // namespace squall::base
