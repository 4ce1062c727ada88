#include "inject/workers/packet_scheduler/packet_fields.h"

#include <cstddef>
#include <optional>

namespace squall::inject {

namespace {

constexpr std::size_t kFourHeader = 20;
constexpr std::size_t kSixHeader = 40;
constexpr std::size_t kUdpHeader = 8;
constexpr std::size_t kLeastTcpHeader = 20;
constexpr std::uint8_t kTcp = 6;
constexpr std::uint8_t kUdp = 17;

// Where a TCP or UDP header lies; nothing when there is none.
struct Transport {
  std::uint8_t protocol = 0;
  std::size_t start = 0;
};

std::optional<Transport> transport_of(std::span<const std::uint8_t> packet) {
  const int version = version_of(packet);
  if (version == 0) return std::nullopt;
  Transport found{.protocol = packet[6], .start = kSixHeader};
  if (version == 4) {
    const bool first_fragment = ((packet[6] & 0x1f) | packet[7]) == 0;
    if (!first_fragment) return std::nullopt;
    found = {.protocol = packet[9], .start = static_cast<std::size_t>(packet[0] & 0x0f) * 4};
    if (found.start < kFourHeader) return std::nullopt;
  }
  const bool known = found.protocol == kTcp || found.protocol == kUdp;
  if (!known || packet.size() < found.start + 4) return std::nullopt;
  return found;
}

// FNV-1a, and a last stir so that the low bits depend on all of it.
class Hash {
 public:
  void add(std::span<const std::uint8_t> bytes) {
    for (const std::uint8_t byte : bytes) value_ = (value_ ^ byte) * 1099511628211u;
  }
  std::uint64_t value() const { return value_ ^ (value_ >> 32); }

 private:
  std::uint64_t value_ = 14695981039346656037u;
};

}  // namespace

int version_of(std::span<const std::uint8_t> packet) {
  if (packet.size() >= kFourHeader && packet[0] >> 4 == 4) return 4;
  if (packet.size() >= kSixHeader && packet[0] >> 4 == 6) return 6;
  return 0;
}

std::uint64_t flow_of(std::span<const std::uint8_t> packet) {
  const int version = version_of(packet);
  if (version == 0) return 0;
  Hash hash;
  hash.add(version == 4 ? packet.subspan(12, 8) : packet.subspan(8, 32));
  hash.add(version == 4 ? packet.subspan(9, 1) : packet.subspan(6, 1));
  if (const auto transport = transport_of(packet)) hash.add(packet.subspan(transport->start, 4));
  return hash.value();
}

bool corrupt(std::span<std::uint8_t> packet, std::uint64_t bit, bool repair) {
  const auto transport = transport_of(packet);
  if (!transport) return false;
  const std::span<std::uint8_t> segment = packet.subspan(transport->start);
  std::size_t header = kUdpHeader;
  std::size_t checksum = 6;
  if (transport->protocol == kTcp) {
    if (segment.size() < kLeastTcpHeader) return false;
    header = static_cast<std::size_t>(segment[12] >> 4) * 4;
    checksum = 16;
    if (header < kLeastTcpHeader) return false;
  }
  if (segment.size() <= header) return false;
  const std::size_t at = header + (bit / 8) % (segment.size() - header);
  const std::uint8_t before = segment[at];
  segment[at] = static_cast<std::uint8_t>(before ^ 1u << (bit % 8));
  const std::uint32_t old_sum =
      static_cast<std::uint32_t>(segment[checksum]) << 8 | segment[checksum + 1];
  if (!repair || (transport->protocol == kUdp && old_sum == 0)) return true;  // 0: none was made
  // RFC 1624: HC' = ~(~HC + ~m + m'), m the 16-bit word that changed.
  const int shift = at % 2 == 0 ? 8 : 0;
  const auto word = [&](std::uint8_t value) { return static_cast<std::uint32_t>(value) << shift; };
  std::uint32_t sum = (~old_sum & 0xffff) + (~word(before) & 0xffff) + word(segment[at]);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  std::uint32_t new_sum = ~sum & 0xffff;
  if (transport->protocol == kUdp && new_sum == 0) new_sum = 0xffff;
  segment[checksum] = static_cast<std::uint8_t>(new_sum >> 8);
  segment[checksum + 1] = static_cast<std::uint8_t>(new_sum);
  return true;
}

}  // namespace squall::inject
