#include "inject/workers/packet_scheduler/packet_model.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "inject/workers/packet_scheduler/delay_histogram.h"
#include "inject/workers/packet_scheduler/packet_fields.h"

namespace squall::inject {
namespace {

using base::Duration;
using base::Instant;
using namespace std::chrono_literals;

constexpr Instant kStart{Duration{1'000'000'000'000}};

double milliseconds(Duration duration) {
  return base::to_seconds(duration) * 1e3;
}

// Delays of `count` packets that come one at a time, each of a flow of its own.
std::vector<double> delays(const PacketProfile& profile, int count) {
  PacketModel model{profile, 7};
  std::vector<double> values;
  for (int i = 0; i < count; ++i)
    values.push_back(milliseconds(model.decide(0, 100, kStart).due - kStart));
  return values;
}

PacketProfile random_profile() {
  PacketProfile profile;
  if (*rc::gen::arbitrary<bool>()) {
    profile.delay = Duration{*rc::gen::inRange<std::int64_t>(0, 1'000'000'000)};
    profile.jitter = Duration{*rc::gen::inRange<std::int64_t>(0, 1'000'000'000)};
  }
  profile.distribution = static_cast<JitterDistribution>(*rc::gen::inRange(0, 3));
  profile.keeps_order = *rc::gen::arbitrary<bool>();
  profile.passes = *rc::gen::inRange(1, 3);
  profile.delayed_share = *rc::gen::inRange(0, 101) / 100.0;
  profile.loss_good = *rc::gen::inRange(0, 30) / 100.0;
  profile.loss_bad = *rc::gen::inRange(0, 101) / 100.0;
  profile.to_bad = *rc::gen::inRange(0, 101) / 100.0;
  profile.to_good = *rc::gen::inRange(0, 101) / 100.0;
  profile.bytes_per_second = *rc::gen::inRange(0, 2) * 1e6;
  profile.longest_wait = profile.bytes_per_second > 0 ? Duration{50ms} : Duration{0};
  if (profile.longest_delay() == Duration::zero()) {  // what is copied or changed is not held
    profile.duplicated_share = *rc::gen::inRange(0, 101) / 100.0;
    profile.corrupted_share = *rc::gen::inRange(0, 101) / 100.0;
  }
  return profile;
}

TEST(PacketModel, WithoutAnythingPassesPacketsAtOnce) {
  PacketModel model{{}, 1};
  const PacketFate fate = model.decide(1, 1500, kStart);
  EXPECT_FALSE(fate.dropped);
  EXPECT_FALSE(fate.duplicated);
  EXPECT_FALSE(fate.corrupted);
  EXPECT_EQ(fate.due, kStart);
}

TEST(PacketModel, IsTheSameForTheSameSeedAndPackets) {
  rc::check([] {
    const PacketProfile profile = random_profile();
    const auto seed = *rc::gen::arbitrary<std::uint64_t>();
    PacketModel first{profile, seed};
    PacketModel second{profile, seed};
    Instant now = kStart;
    for (int i = 0; i < 100; ++i) {
      now += Duration{*rc::gen::inRange<std::int64_t>(0, 1'000'000)};
      const std::uint64_t flow = *rc::gen::inRange(0, 4);
      const PacketFate a = first.decide(flow, 100, now);
      const PacketFate b = second.decide(flow, 100, now);
      RC_ASSERT(a.dropped == b.dropped && a.due == b.due && a.duplicated == b.duplicated &&
                a.corrupted == b.corrupted);
    }
  });
}

TEST(PacketModel, NeverGoesBackInTimeNorBeyondItsLongestDelay) {
  rc::check([] {
    const PacketProfile profile = random_profile();
    PacketModel model{profile, *rc::gen::arbitrary<std::uint64_t>()};
    std::map<std::uint64_t, Instant> last;
    Instant now = kStart;
    Duration line{};  // what a packet needs on the line itself
    if (profile.bytes_per_second > 0) line = profile.passes * Duration{100us};
    for (int i = 0; i < 200; ++i) {
      now += Duration{*rc::gen::inRange<std::int64_t>(0, 10'000'000)};
      const std::uint64_t flow = *rc::gen::inRange(0, 4);
      const PacketFate fate = model.decide(flow, 100, now);
      if (fate.dropped) continue;
      RC_ASSERT(fate.due >= now);
      if (profile.keeps_order) {
        RC_ASSERT(fate.due >= last[flow]);
        last[flow] = fate.due;
      } else {
        RC_ASSERT(fate.due - now <= profile.longest_delay() + line);
      }
    }
  });
}

TEST(PacketModel, ReadsBackWhatItWrites) {
  rc::check([] {
    const PacketProfile profile = random_profile();
    const auto read = profile_from_json(to_json(profile));
    RC_ASSERT(read.ok());
    RC_ASSERT(to_json(*read) == to_json(profile));
  });
}

TEST(PacketModel, RefusesAProfileThatMakesNoSense) {
  for (const auto& [name, value] : std::map<std::string, base::Json>{{"delay_ns", -1},
                                                                     {"delay_ns", "10ms"},
                                                                     {"jitter_ns", 1e300},
                                                                     {"loss_good", 1.5},
                                                                     {"passes", 3},
                                                                     {"passes", 0},
                                                                     {"distribution", "odd"},
                                                                     {"bytes_per_second", -5}}) {
    base::Json json = to_json(PacketProfile{});
    json[name] = value;
    EXPECT_EQ(profile_from_json(json).ok(), false) << name << " " << value;
  }
  EXPECT_FALSE(profile_from_json(base::Json::array()).ok());
  EXPECT_FALSE(profile_from_json(nullptr).ok());
}

TEST(PacketModel, UniformJitterIsSpreadEvenly) {
  PacketProfile profile{.delay = 100ms, .jitter = 20ms, .keeps_order = false};
  auto values = delays(profile, 20'000);
  std::sort(values.begin(), values.end());
  EXPECT_GE(values.front(), 80);
  EXPECT_LE(values.back(), 120);
  EXPECT_NEAR(values[5'000], 90, 0.6);
  EXPECT_NEAR(values[10'000], 100, 0.6);
  EXPECT_NEAR(values[15'000], 110, 0.6);
}

TEST(PacketModel, NormalJitterHasItsDeviation) {
  PacketProfile profile{.delay = 100ms,
                        .jitter = 10ms,
                        .distribution = JitterDistribution::kNormal,
                        .keeps_order = false};
  const auto values = delays(profile, 20'000);
  double sum = 0;
  double squares = 0;
  for (const double value : values) {
    sum += value;
    squares += (value - 100) * (value - 100);
    ASSERT_GE(value, 70);
    ASSERT_LE(value, 130);
  }
  EXPECT_NEAR(sum / 20'000, 100, 0.3);
  EXPECT_NEAR(std::sqrt(squares / 20'000), 10, 0.3);
}

TEST(PacketModel, ParetoJitterOnlyAddsAndHasATail) {
  PacketProfile profile{.delay = 100ms,
                        .jitter = 10ms,
                        .distribution = JitterDistribution::kPareto,
                        .keeps_order = false};
  auto values = delays(profile, 50'000);
  double sum = 0;
  for (const double value : values) sum += value;
  std::sort(values.begin(), values.end());
  EXPECT_GE(values.front(), 100);
  EXPECT_LE(values.back(), 300);
  EXPECT_NEAR(sum / 50'000, 110, 0.7);
  EXPECT_NEAR(values[25'000], 105.2, 0.5);  // 2 * (2^(1/3) - 1) jitters
  EXPECT_NEAR(values[49'500], 172.8, 6);    // 2 * (100^(1/3) - 1) jitters
}

TEST(PacketModel, TwoPassesDelayTwice) {
  PacketModel model{{.delay = 30ms, .passes = 2}, 1};
  EXPECT_EQ(model.decide(1, 100, kStart).due - kStart, 60ms);
}

TEST(PacketModel, AShareOfPacketsIsDelayed) {
  const auto values = delays({.delay = 10ms, .delayed_share = 0.25, .keeps_order = false}, 20'000);
  EXPECT_NEAR(static_cast<double>(std::count(values.begin(), values.end(), 10.0)), 5'000, 250);
}

TEST(PacketModel, GilbertElliottLosesInBursts) {
  // Mean burst 1 / to_good = 10 packets; bad share to_bad / (to_bad + to_good) = 1/11.
  PacketModel model{{.loss_bad = 1, .to_bad = 0.01, .to_good = 0.1}, 3};
  int lost = 0;
  int bursts = 0;
  bool before = false;
  constexpr int kPackets = 200'000;
  for (int i = 0; i < kPackets; ++i) {
    const bool now = model.decide(0, 100, kStart).dropped;
    lost += now ? 1 : 0;
    bursts += now && !before ? 1 : 0;
    before = now;
  }
  EXPECT_NEAR(lost / static_cast<double>(kPackets), 1.0 / 11, 0.01);
  EXPECT_NEAR(lost / static_cast<double>(bursts), 10, 1);
}

TEST(PacketModel, ALineCarriesItsRateAndDropsWhatWouldWaitTooLong) {
  // 1 MB/s: 1000 bytes need 1 ms. 100 packets at once: 50 ms of them fit.
  PacketModel model{{.bytes_per_second = 1e6, .longest_wait = 50ms}, 1};
  int passed = 0;
  for (int i = 0; i < 100; ++i) {
    const PacketFate fate = model.decide(0, 1000, kStart);
    if (fate.dropped) continue;
    ++passed;
    EXPECT_EQ(fate.due - kStart, passed * 1ms);
  }
  EXPECT_EQ(passed, 51);
  // The line is idle again later.
  EXPECT_EQ(model.decide(0, 1000, kStart + 10s).due - kStart, 10s + 1ms);
}

TEST(PacketFields, TellFlowsApartByAddressPortAndDirection) {
  std::vector<std::uint8_t> packet(40);
  packet[0] = 0x45;
  packet[9] = 17;
  packet[15] = 1;  // source address
  packet[19] = 2;  // destination address
  packet[21] = 3;  // source port
  packet[23] = 4;  // destination port
  const std::uint64_t flow = flow_of(packet);
  for (const std::size_t at : {9u, 15u, 19u, 21u, 23u}) {
    auto other = packet;
    other[at] = 6;
    EXPECT_NE(flow_of(other), flow) << at;
  }
  auto payload = packet;
  payload[30] = 99;
  payload[4] = 77;  // its identification
  EXPECT_EQ(flow_of(payload), flow);
  auto back = packet;
  std::swap(back[15], back[19]);
  std::swap(back[21], back[23]);
  EXPECT_NE(flow_of(back), flow);
}

// The Internet checksum of a UDP datagram over IPv4, computed from scratch.
std::uint16_t udp_checksum(const std::vector<std::uint8_t>& packet) {
  std::uint32_t sum = 17 + static_cast<std::uint32_t>(packet.size() - 20);
  const auto add = [&](std::size_t from, std::size_t to) {
    for (std::size_t i = from; i < to; ++i)
      sum += static_cast<std::uint32_t>(packet[i]) << ((i - from) % 2 == 0 ? 8 : 0);
  };
  add(12, 20);
  add(20, 26);
  add(28, packet.size());
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  const auto result = static_cast<std::uint16_t>(~sum);
  return result == 0 ? 0xffff : result;
}

TEST(PacketFields, CorruptTurnsOneBitOfThePayloadAndRepairsTheChecksum) {
  rc::check([] {
    const auto size = static_cast<std::size_t>(*rc::gen::inRange(1, 60));
    std::vector<std::uint8_t> packet(28 + size);
    for (std::uint8_t& byte : packet) byte = *rc::gen::arbitrary<std::uint8_t>();
    packet[0] = 0x45;
    packet[6] = packet[7] = 0;
    packet[9] = 17;
    const std::uint16_t sum = udp_checksum(packet);
    packet[26] = static_cast<std::uint8_t>(sum >> 8);
    packet[27] = static_cast<std::uint8_t>(sum);
    auto changed = packet;
    RC_ASSERT(corrupt(changed, *rc::gen::arbitrary<std::uint64_t>(), true));
    int bits = 0;
    for (std::size_t i = 28; i < packet.size(); ++i)
      bits += std::popcount(static_cast<unsigned>(packet[i] ^ changed[i]));
    RC_ASSERT(bits == 1);
    RC_ASSERT(std::equal(packet.begin(), packet.begin() + 26, changed.begin()));
    const std::uint16_t right = udp_checksum(changed);
    RC_ASSERT(changed[26] == (right >> 8) && changed[27] == (right & 0xff));
  });
}

TEST(PacketFields, CorruptLeavesAloneWhatItCannotRead) {
  rc::check([](std::vector<std::uint8_t> bytes, std::uint64_t bit, bool repair) {
    auto changed = bytes;
    if (!corrupt(changed, bit, repair)) RC_ASSERT(changed == bytes);
  });
  std::vector<std::uint8_t> empty_datagram(28);
  empty_datagram[0] = 0x45;
  empty_datagram[9] = 17;
  EXPECT_FALSE(corrupt(empty_datagram, 3, true));
}

TEST(PacketFields, ReadNothingBeyondWhatIsThere) {
  rc::check([](std::vector<std::uint8_t> bytes) {
    const std::vector<std::uint8_t> exact = bytes;  // for the address sanitizer
    flow_of(exact);
  });
  EXPECT_EQ(flow_of({}), 0u);
}

TEST(DelayHistogram, IsExactToASixteenth) {
  rc::check([] {
    DelayHistogram histogram;
    std::vector<std::int64_t> values(static_cast<std::size_t>(*rc::gen::inRange(1, 300)));
    for (std::int64_t& value : values) {
      value = *rc::gen::inRange<std::int64_t>(20'000, 3'000'000'000);
      histogram.add(Duration{value});
    }
    std::sort(values.begin(), values.end());
    for (const double q : {0.0, 0.5, 0.99, 1.0}) {
      const auto rank = std::min(values.size() - 1,
                                 static_cast<std::size_t>(q * static_cast<double>(values.size())));
      const auto exact = static_cast<double>(values[rank]);
      const auto found = static_cast<double>(histogram.quantile(q).count());
      RC_ASSERT(std::abs(found - exact) <= exact / 16 + 1000);
    }
    RC_ASSERT(histogram.longest().count() == values.back());
  });
  EXPECT_EQ(DelayHistogram{}.quantile(0.5), Duration::zero());
}

}  // namespace
}  // namespace squall::inject
