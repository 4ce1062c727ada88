#pragma once
// The few fields of an IP packet that the scheduler looks at. Never trusts the bytes.

#include <cstdint>
#include <span>

namespace squall::inject {

// A hash of addresses, protocol and, for TCP and UDP, ports: the same for all packets that one
// sender sends to one receiver, another one for the opposite direction. Packets that cannot be read
// share one.
std::uint64_t flow_of(std::span<const std::uint8_t> packet);

}  // namespace squall::inject
