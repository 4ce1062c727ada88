#pragma once
// The few fields of an IP packet that the scheduler looks at. Never trusts the bytes.

#include <cstdint>
#include <span>

namespace squall::inject {

// A hash of addresses, protocol and, for TCP and UDP, ports: the same for all packets that one
// sender sends to one receiver, another one for the opposite direction. Packets that cannot be read
// share one.
std::uint64_t flow_of(std::span<const std::uint8_t> packet);

// Turns one bit of what a TCP or UDP packet carries: `bit` modulo the number of bits. False when it
// carries nothing or cannot be read; then nothing was changed. `repair` makes its checksum right
// again, else the receiver notices.
bool corrupt(std::span<std::uint8_t> packet, std::uint64_t bit, bool repair);

// 4 or 6, and then there is a whole header without options; 0 when it is neither.
int version_of(std::span<const std::uint8_t> packet);

}  // namespace squall::inject
