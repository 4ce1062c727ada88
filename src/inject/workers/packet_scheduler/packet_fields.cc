#include "inject/workers/packet_scheduler/packet_fields.h"

#include <cstddef>

namespace squall::inject {

namespace {

constexpr std::size_t kFourHeader = 20;
constexpr std::size_t kSixHeader = 40;
constexpr std::uint8_t kTcp = 6;
constexpr std::uint8_t kUdp = 17;

int version_of(std::span<const std::uint8_t> packet) {
  if (packet.size() >= kFourHeader && packet[0] >> 4 == 4) return 4;
  if (packet.size() >= kSixHeader && packet[0] >> 4 == 6) return 6;
  return 0;
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

std::uint64_t flow_of(std::span<const std::uint8_t> packet) {
  const int version = version_of(packet);
  if (version == 0) return 0;
  Hash hash;
  std::size_t ports = kSixHeader;
  std::uint8_t protocol = packet[6];
  bool first_fragment = true;
  if (version == 4) {
    ports = static_cast<std::size_t>(packet[0] & 0x0f) * 4;
    protocol = packet[9];
    first_fragment = ((packet[6] & 0x1f) | packet[7]) == 0;
    hash.add(packet.subspan(12, 8));
  } else {
    hash.add(packet.subspan(8, 32));
  }
  hash.add({&protocol, 1});
  const bool has_ports = (protocol == kTcp || protocol == kUdp) && first_fragment &&
                         ports >= kFourHeader && packet.size() >= ports + 4;
  if (has_ports) hash.add(packet.subspan(ports, 4));
  return hash.value();
}

}  // namespace squall::inject
