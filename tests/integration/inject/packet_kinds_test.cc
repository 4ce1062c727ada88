// What else the packet scheduler does to packets: reorder, duplicate, corrupt, narrow, lose in
// bursts.

#include <bit>

#include "inject/workers/packet_scheduler/packet_model.h"
#include "integration/inject/packet_fixture.h"

namespace squall::inject {
namespace {

class PacketKinds : public PacketSchedulerTest {
 protected:
  static Json scope(Json more) {
    Json json = {{"from", "users"}, {"to", "server"}, {"direction", "requests"}};
    json.update(more);
    return json;
  }
  // Numbers that arrive until nothing comes for a while.
  static std::vector<std::uint32_t> receive_all(const Talk& talk, base::Duration quiet = 300ms) {
    std::vector<std::uint32_t> numbers;
    while (const auto number = talk.receive(quiet)) numbers.push_back(*number);
    return numbers;
  }
  void rehearse(const std::string& kind, const Json& parameters) {
    if (client_ == nullptr) start_holder();
    const auto rehearsed = client_->rehearse(bind_or_die(kind, parameters));
    EXPECT_TRUE(rehearsed.ok()) << kind << ": " << rehearsed.error().to_string();
  }
  // A megabyte through a live connection, byte by byte the same at its end.
  static void send_a_stream(const Talk& talk) {
    const base::UniqueFd accepted{::accept4(talk.server(), nullptr, nullptr, SOCK_CLOEXEC)};
    std::vector<std::uint8_t> sent(1 << 20);
    for (std::size_t i = 0; i < sent.size(); ++i) sent[i] = static_cast<std::uint8_t>(i * 7 >> 2);
    std::vector<std::uint8_t> received;
    std::size_t done = 0;
    while (received.size() < sent.size()) {
      std::array<pollfd, 2> requests{{{.fd = talk.client(), .events = POLLOUT, .revents = 0},
                                      {.fd = accepted.get(), .events = POLLIN, .revents = 0}}};
      if (done == sent.size()) requests[0].fd = -1;
      ASSERT_GT(::poll(requests.data(), 2, 30'000), 0);
      if (requests[0].revents != 0) {
        const std::size_t piece = std::min<std::size_t>(8192, sent.size() - done);
        const ssize_t more = ::send(talk.client(), sent.data() + done, piece, MSG_DONTWAIT);
        if (more > 0) done += static_cast<std::size_t>(more);
      }
      if (requests[1].revents != 0) {
        std::array<std::uint8_t, 65536> buffer;
        const ssize_t more = ::recv(accepted.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
        ASSERT_GT(more, 0);
        received.insert(received.end(), buffer.begin(), buffer.begin() + more);
      }
    }
    EXPECT_TRUE(received == sent);
  }
};

TEST_F(PacketKinds, ReorderLetsLaterPacketsOvertake) {
  const Talk talk;
  add_server(talk);
  const Json parameters = scope({{"share", 0.3}, {"by", 20'000'000}});
  rehearse("network.reorder", parameters);
  const auto lease = arm_kind("network.reorder", parameters);
  for (std::uint32_t i = 0; i < 300; ++i) talk.send(i);
  auto numbers = receive_all(talk);
  EXPECT_FALSE(std::is_sorted(numbers.begin(), numbers.end()));
  std::sort(numbers.begin(), numbers.end());
  ASSERT_EQ(numbers.size(), 300u);  // none lost, none twice
  EXPECT_EQ(std::unique(numbers.begin(), numbers.end()), numbers.end());
  wait_for(LeaseState::kEffective);
  const Json last = revert(lease);
  EXPECT_GT(last.value("overtaken", 0), 30);
  EXPECT_GT(last.value("passed", 0), 150);
}

TEST_F(PacketKinds, DuplicateDeliversTwice) {
  for (const int family : {AF_INET, AF_INET6}) {
    const Talk talk{family};
    add_server(talk, family == AF_INET ? "127.0.0.1" : "::1");
    const Json parameters = scope({{"share", 1.0}});
    rehearse("network.duplicate", parameters);
    const auto lease = arm_kind("network.duplicate", parameters);
    for (std::uint32_t i = 0; i < 100; ++i) talk.send(i);
    const auto numbers = receive_all(talk);
    EXPECT_EQ(numbers.size(), 200u);
    for (std::uint32_t i = 0; i < 100; ++i)
      EXPECT_EQ(std::count(numbers.begin(), numbers.end(), i), 2) << i;
    wait_for(LeaseState::kEffective);
    EXPECT_EQ(revert(lease).value("duplicated", 0), 100);
    talk.send(1);
    EXPECT_EQ(receive_all(talk).size(), 1u);
  }
}

TEST_F(PacketKinds, DuplicatesDoNotHarmAStream) {
  const Talk talk{AF_INET, SOCK_STREAM};
  add_server(talk);
  const auto lease = arm_kind("network.duplicate", scope({{"share", 0.5}, {"direction", "both"}}));
  talk.connect();
  send_a_stream(talk);
  wait_for(LeaseState::kEffective);
  revert(lease);
}

TEST_F(PacketKinds, CorruptWithAWrongChecksumIsNoticedByTheKernel) {
  const Talk talk;
  add_server(talk);
  const Json parameters = scope({{"share", 1.0}, {"checksum", "wrong"}});
  rehearse("network.corrupt", parameters);
  const auto lease = arm_kind("network.corrupt", parameters);
  for (std::uint32_t i = 0; i < 50; ++i) talk.send(i);
  EXPECT_TRUE(receive_all(talk).empty());
  wait_for(LeaseState::kEffective);
  EXPECT_EQ(revert(lease).value("corrupted", 0), 50);
  talk.send(1);
  EXPECT_EQ(receive_all(talk).size(), 1u);
}

TEST_F(PacketKinds, CorruptWithARightChecksumReachesTheApplication) {
  for (const int family : {AF_INET, AF_INET6}) {
    const Talk talk{family};
    add_server(talk, family == AF_INET ? "127.0.0.1" : "::1");
    const auto lease = arm_kind("network.corrupt", scope({{"share", 1.0}, {"checksum", "right"}}));
    for (std::uint32_t i = 0; i < 50; ++i) talk.send(0x12345678);
    const auto numbers = receive_all(talk);
    EXPECT_EQ(numbers.size(), 50u);
    for (const std::uint32_t number : numbers) EXPECT_EQ(std::popcount(number ^ 0x12345678u), 1);
    wait_for(LeaseState::kEffective);
    revert(lease);
  }
}

TEST_F(PacketKinds, TcpRepairsWhatWasCorrupted) {
  const Talk talk{AF_INET, SOCK_STREAM};
  add_server(talk);
  const auto lease = arm_kind("network.corrupt", scope({{"share", 0.05}, {"checksum", "wrong"}}));
  talk.connect();
  send_a_stream(talk);
  EXPECT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kVerified);
}

TEST_F(PacketKinds, BandwidthLetsNoMoreThroughThanItsRate) {
  const Talk talk;
  add_server(talk);
  constexpr double kRate = 4 << 20;
  const Json parameters = scope({{"rate", 4 << 20}, {"buffer", 100'000'000}});
  rehearse("network.bandwidth", parameters);
  const auto lease = arm_kind("network.bandwidth", parameters);
  const base::Instant start = base::BootClock::now();
  std::array<char, 1000> data{};
  for (int i = 0; i < 2000; ++i)
    ASSERT_EQ(::send(talk.client(), data.data(), data.size(), 0), 1000);
  double bytes = 0;
  base::Instant last = start;
  while (true) {
    pollfd request{.fd = talk.server(), .events = POLLIN, .revents = 0};
    if (::poll(&request, 1, 500) == 0) break;
    ASSERT_EQ(::recv(talk.server(), data.data(), data.size(), 0), 1000);
    bytes += 1028;
    last = base::BootClock::now();
  }
  EXPECT_GT(bytes, 256 * 1024);
  EXPECT_LE(bytes, kRate * base::to_seconds(last - start) + 1028);
  wait_for(LeaseState::kEffective);
  const Json report = revert(lease);
  EXPECT_EQ(report.value("dropped", 0) + report.value("delayed", 0), 2000);
}

TEST_F(PacketKinds, AStreamGoesThroughANarrowLine) {
  const Talk talk{AF_INET, SOCK_STREAM};
  add_server(talk);
  const auto lease =
      arm_kind("network.bandwidth",
               scope({{"rate", 2 << 20}, {"buffer", 100'000'000}, {"direction", "both"}}));
  talk.connect();
  const base::Instant start = base::BootClock::now();
  send_a_stream(talk);
  EXPECT_GE(base::BootClock::now() - start, 450ms);
  wait_for(LeaseState::kEffective);
  revert(lease);
}

TEST_F(PacketKinds, BurstLossLosesExactlyWhatItsSeedSays) {
  const Talk talk;
  add_server(talk);
  const Json parameters = scope({{"share", 0.3}, {"burst", 10.0}, {"loss_between", 0.0}});
  rehearse("network.burst_loss", parameters);
  const auto binding = bind_or_die("network.burst_loss", parameters);
  const auto profile = profile_from_json(binding.details.json()["profiles"][0]).value();
  PacketModel model{profile, 1};  // the seed of try_bind()
  std::vector<std::uint32_t> expected;
  constexpr std::uint32_t kPackets = 3000;
  for (std::uint32_t i = 0; i < kPackets; ++i) {
    if (!model.decide(0, 32, base::BootClock::now()).dropped) expected.push_back(i);
  }
  const auto lease = arm_kind("network.burst_loss", parameters);
  std::vector<std::uint32_t> numbers;
  for (std::uint32_t i = 0; i < kPackets; ++i) {
    talk.send(i);
    // No faster than the worker: a full queue would let packets pass untouched.
    if (i % 100 == 99) {
      for (const std::uint32_t number : receive_all(talk, 20ms)) numbers.push_back(number);
    }
  }
  for (const std::uint32_t number : receive_all(talk)) numbers.push_back(number);
  EXPECT_TRUE(numbers == expected) << numbers.size() << " of " << expected.size();
  EXPECT_NEAR(static_cast<double>(numbers.size()), 0.7 * kPackets, 0.1 * kPackets);
  wait_for(LeaseState::kEffective);
  EXPECT_EQ(revert(lease).value("dropped", 0u), kPackets - expected.size());
}

TEST_F(PacketKinds, BurstsThatCannotBeAreRefused) {
  const Talk talk;
  add_server(talk);
  const auto refused = try_bind("network.burst_loss",
                                scope({{"share", 0.9}, {"burst", 1.0}, {"loss_between", 0.0}}));
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().hint.find("at least 9"), std::string::npos) << refused.error().hint;
}

}  // namespace
}  // namespace squall::inject
