#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace squall::base {

// 64 lower-case hex digits.
std::string sha256_hex(std::string_view bytes);

// CRC-32C (Castagnoli, RFC 3720 B.4); uses SSE4.2 where the processor has it.
// `seed` is the result over the bytes before, 0 at the start.
std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t seed = 0);
// The same without the processor's help; crc32c chooses.
std::uint32_t crc32c_portable(std::span<const std::byte> bytes, std::uint32_t seed = 0);

}  // namespace squall::base
