#pragma once
// What becomes of each packet: the whole behaviour of the network kinds that hold packets in user
// space, as a pure class. The same seed and the same packets give the same fates.

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/json.h"
#include "base/random.h"
#include "base/result.h"

namespace squall::inject {

enum class JitterDistribution {
  kUniform,  // delay - jitter to delay + jitter
  kNormal,   // standard deviation `jitter`, cut at three of them
  kPareto,   // never less than `delay`, `jitter` more on average, with a heavy tail up to 20 times
             // jitter (Lomax, shape 3)
};

struct PacketProfile {
  base::Duration delay{};
  base::Duration jitter{};
  JitterDistribution distribution = JitterDistribution::kUniform;
  double delayed_share = 1;  // of the packets; the others pass at once
  // Packets of one flow (both addresses and ports, one direction) never overtake one another.
  bool keeps_order = true;

  // Gilbert-Elliott: two states with a loss of their own, changed by chance before each packet.
  double loss_good = 0;
  double loss_bad = 0;
  double to_bad = 0;
  double to_good = 1;

  double duplicated_share = 0;
  double corrupted_share = 0;     // one bit of the payload is turned
  bool repairs_checksum = false;  // so that the receiver does not notice

  double bytes_per_second = 0;    // 0: as fast as the network is
  base::Duration longest_wait{};  // for the line to be free; what would wait longer is dropped

  // How often a packet goes through all this: 2 where one visible packet stands for both directions
  // of a connection.
  int passes = 1;

  base::Duration longest_delay() const;
  // Copies and changes need the packets themselves, not only their headers.
  bool needs_whole_packets() const { return duplicated_share > 0 || corrupted_share > 0; }
};

// kCorrupt when a value is missing or outside its range.
base::Result<PacketProfile> profile_from_json(const base::Json& json);
base::Json to_json(const PacketProfile& profile);
std::string_view to_string(JitterDistribution distribution);
std::optional<JitterDistribution> jitter_distribution_from(std::string_view text);

struct PacketFate {
  bool dropped = false;
  base::Instant due;  // not before `now`
  bool duplicated = false;
  std::optional<std::uint64_t> corrupted;  // which bit: take it modulo the payload's bits
};

class PacketModel {
 public:
  PacketModel(const PacketProfile& profile, std::uint64_t seed);

  // `flow` is a hash of addresses, ports and direction; `bytes` counts from the IP header on.
  PacketFate decide(std::uint64_t flow, std::uint64_t bytes, base::Instant now);

 private:
  bool lose();
  base::Duration draw_delay();

  PacketProfile profile_;
  base::Random random_;
  bool bad_ = false;
  // When the last byte of what came before is through; one line for each pass.
  std::array<base::Instant, 2> line_free_{};
  // By the flow's hash: when its last packet is due. Two flows that share a place are only kept in
  // order with one another.
  std::vector<base::Instant> last_due_;
};

}  // namespace squall::inject
