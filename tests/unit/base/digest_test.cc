#include "base/digest.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <vector>

namespace squall::base {
namespace {

std::vector<std::byte> bytes_of(std::string_view text) {
  const auto view = std::as_bytes(std::span(text.data(), text.size()));
  return {view.begin(), view.end()};
}

TEST(Digest, Crc32cMatchesTheVectorsOfRfc3720) {
  std::vector<std::byte> rising;
  std::vector<std::byte> falling;
  for (int i = 0; i < 32; ++i) {
    rising.push_back(static_cast<std::byte>(i));
    falling.push_back(static_cast<std::byte>(31 - i));
  }
  for (const auto& sum : {crc32c, crc32c_portable}) {
    EXPECT_EQ(sum(std::vector<std::byte>(32, std::byte{0}), 0), 0x8A9136AAu);
    EXPECT_EQ(sum(std::vector<std::byte>(32, std::byte{0xFF}), 0), 0x62A8AB43u);
    EXPECT_EQ(sum(rising, 0), 0x46DD794Eu);
    EXPECT_EQ(sum(falling, 0), 0x113FDB5Cu);
    EXPECT_EQ(sum(bytes_of("123456789"), 0), 0xE3069283u);
    EXPECT_EQ(sum({}, 0), 0u);
  }
}

TEST(Digest, BothWaysAgreeAndContinue) {
  EXPECT_TRUE(rc::check([](const std::string& text, std::uint32_t seed) {
    const auto bytes = bytes_of(text);
    RC_ASSERT(crc32c(bytes, seed) == crc32c_portable(bytes, seed));
    const std::size_t half = bytes.size() / 2;
    const std::uint32_t first = crc32c(std::span(bytes).first(half), seed);
    RC_ASSERT(crc32c(std::span(bytes).subspan(half), first) == crc32c(bytes, seed));
  }));
}

TEST(Digest, Sha256MatchesFips180) {
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

}  // namespace
}  // namespace squall::base
