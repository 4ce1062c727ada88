// Two callers of one server that share host, user, group and address: what tells them apart is who
// made their sockets.

#include <fmt/format.h>

#include "inject/faults/network/nft_table.h"
#include "inject/faults/network/pair_marker.h"
#include "integration/inject/packet_fixture.h"

namespace squall::inject {
namespace {

constexpr int kPort = 7100;  // in a network namespace of the test's own

// What a victim that asks has reported.
struct Answers {
  unsigned live = 0;
  unsigned fresh = 0;
  unsigned refused = 0;
  long last_microseconds = 0;
};

class SocketMarks : public PacketSchedulerTest {
 protected:
  void SetUp() override {
    PacketSchedulerTest::SetUp();
    if (IsSkipped()) return;
    if (const auto works = PairMarker::check({}); !works.ok()) {
      GTEST_SKIP() << works.error().to_string();
    }
  }

  // A server, its caller, and a neighbour of the caller that does the same.
  void start_three(const std::string& address, const std::string& asks = "asks") {
    const std::string place = fmt::format("{},{}", address, kPort);
    start_victim({"echoes=" + place});
    wait_until([&] { return listens(); }, "the server to listen");
    for (const std::string name : {"caller", "neighbour"})
      start_victim({fmt::format("{}={},{}", asks, place, file_of(name))});
    model::Service server = service("server", "echoes=" + place);
    server.listens = model::ListenAddress{.address = address, .port = kPort};
    map_.services = {server, service("caller", file_of("caller")),
                     service("neighbour", file_of("neighbour"))};
    map_.services[1].depends_on = map_.services[2].depends_on = {"server"};
    for (const std::string name : {"caller", "neighbour"}) wait_for_both(name);
  }
  model::Service service(const std::string& name, const std::string& marker) const {
    model::Service service;
    service.name = name;
    service.process.exe = "victim_for_tests";
    service.process.argv_contains = marker;
    service.expected_members = 1;
    return service;
  }
  static bool listens() {
    const auto sockets = host::real_host().sockets(host::Host::Owners::kSkip);
    return sockets.ok() && std::any_of(sockets->begin(), sockets->end(), [](const auto& socket) {
             return socket.local.port == kPort && socket.state == host::SocketState::kListening;
           });
  }
  std::string file_of(const std::string& name) const { return folder_ + "/" + name; }
  Answers answers(const std::string& name) const {
    std::ifstream file(file_of(name));
    Answers read;
    file >> read.live >> read.fresh >> read.refused >> read.last_microseconds;
    return read;
  }
  // Five more answers of either sort.
  void wait_for_both(const std::string& name) {
    const Answers before = answers(name);
    wait_until(
        [&] {
          const Answers now = answers(name);
          return now.live >= before.live + 5 && now.fresh >= before.fresh + 5;
        },
        name + " to be answered");
  }
  // Nothing reaches the caller while the neighbour is served.
  void expect_cut() {
    ::usleep(20'000);  // what was on its way
    const Answers before = answers("caller");
    wait_for_both("neighbour");
    wait_for_both("neighbour");
    const Answers after = answers("caller");
    EXPECT_EQ(after.live, before.live);
    EXPECT_EQ(after.fresh, before.fresh);
    EXPECT_EQ(answers("neighbour").refused, 0u);
  }
  static Json pair(Json more = Json::object()) {
    Json json = {{"from", "caller"}, {"to", "server"}};
    json.update(more);
    return json;
  }
  model::FaultBinding bind_marked(const std::string& kind, const Json& parameters) {
    auto binding = bind_or_die(kind, parameters);
    EXPECT_NE(binding.details.json().dump().find("by the sockets of its processes"),
              std::string::npos);
    return binding;
  }
  static std::vector<std::uint32_t> programs_of(const LeaseEvent& armed) {
    return proof_of(armed).value("bpf_programs", std::vector<std::uint32_t>{});
  }
  void expect_reverted(base::LeaseId lease, const std::vector<std::uint32_t>& programs) {
    ASSERT_TRUE(client_->revert(lease, "asked").ok());
    wait_for(LeaseState::kVerified);
    EXPECT_EQ(programs.size(), 3u);
    EXPECT_FALSE(PairMarker::any_left(programs).value());
    wait_for_both("caller");
    wait_for_both("neighbour");
  }
  void cut(const std::string& address, const std::string& kind, const Json& parameters,
           const std::string& asks = "asks") {
    start_three(address, asks);
    const auto binding = bind_marked(kind, parameters);
    start_holder();
    const auto rehearsed = client_->rehearse(binding);
    ASSERT_TRUE(rehearsed.ok()) << rehearsed.error().to_string();
    const auto lease = arm(binding);
    const auto programs = programs_of(wait_for(LeaseState::kArmed));
    expect_cut();
    EXPECT_TRUE(PairMarker::any_left(programs).value());
    wait_for(LeaseState::kEffective);
    expect_reverted(lease, programs);
  }
};

TEST_F(SocketMarks, PartitionHitsOneOfTwoThatAreAlike) {
  cut("127.0.0.1", "network.partition", pair());
}

TEST_F(SocketMarks, ARestartedCallerIsCutOffToo) {
  start_three("127.0.0.1");
  start_holder();
  const auto lease = arm(bind_marked("network.partition", pair()));
  const auto programs = programs_of(wait_for(LeaseState::kArmed));
  wait_for(LeaseState::kEffective);
  const auto callers = host::find_members(host::real_host(), map_.services[1]);
  ASSERT_TRUE(callers.ok());
  ASSERT_EQ(callers->size(), 1u);
  const pid_t before = (*callers)[0].process.identity.pid;
  ::kill(before, SIGKILL);
  EXPECT_NE(wait_for_notice().text.find("ended while its packets were marked"), std::string::npos);
  start_victim({fmt::format("asks=127.0.0.1,{},{}", kPort, file_of("caller"))});
  const auto notice = wait_for_notice();
  EXPECT_NE(notice.text.find(fmt::format("in place of pid {} and its packets are marked", before)),
            std::string::npos)
      << notice.text;
  expect_cut();
  expect_reverted(lease, programs);
}

TEST_F(SocketMarks, PartitionOnIPv6) {
  cut("::1", "network.partition", pair());
}

TEST_F(SocketMarks, BlackholeOfReplies) {
  cut("127.0.0.1", "network.blackhole", pair({{"direction", "replies"}}));
}

TEST_F(SocketMarks, LossOfAllOnIPv6) {
  cut("::1", "network.loss", pair({{"direction", "both"}, {"share", 1.0}}));
}

// Children that are born during the fault are their parent's.
TEST_F(SocketMarks, ChildrenAreFollowed) {
  cut("127.0.0.1", "network.partition", pair(), "asks-by-child");
}

TEST_F(SocketMarks, LatencyDelaysOneOfTwoThatAreAlike) {
  start_three("127.0.0.1");
  const Json parameters = pair({{"delay", 60'000'000},
                                {"jitter", 0},
                                {"distribution", "uniform"},
                                {"direction", "both"},
                                {"keep_order", true}});
  const auto binding = bind_marked("network.latency", parameters);
  start_holder();
  const auto rehearsed = client_->rehearse(binding);
  ASSERT_TRUE(rehearsed.ok()) << rehearsed.error().to_string();
  const auto lease = arm(binding);
  const auto programs = programs_of(wait_for(LeaseState::kArmed));
  wait_for(LeaseState::kEffective);
  wait_until([&] { return answers("caller").last_microseconds >= 120'000; }, "slow answers");
  for (int i = 0; i < 5; ++i) {
    wait_for_both("neighbour");
    EXPECT_LT(answers("neighbour").last_microseconds, 60'000);
  }
  EXPECT_GE(answers("caller").last_microseconds, 120'000);
  expect_reverted(lease, programs);
}

TEST_F(SocketMarks, ResetRefusesNewConnectionsOfOne) {
  start_three("127.0.0.1");
  start_holder();
  const auto binding = bind_or_die("network.reset", pair({{"new", "refuse"}}));
  const auto rehearsed = client_->rehearse(binding);
  ASSERT_TRUE(rehearsed.ok()) << rehearsed.error().to_string();
  const auto lease = arm(binding);
  wait_for(LeaseState::kEffective);
  wait_until([&] { return answers("caller").refused >= 5; }, "refusals");
  const unsigned live = answers("caller").live;
  wait_for_both("neighbour");
  EXPECT_EQ(answers("neighbour").refused, 0u);
  EXPECT_EQ(answers("caller").live, live);
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kVerified);
  const unsigned before = answers("caller").fresh;
  wait_until([&] { return answers("caller").fresh >= before + 5; }, "new connections");
}

TEST_F(SocketMarks, NothingIsLeftWhenTheHolderIsKilled) {
  start_three("127.0.0.1");
  start_holder();
  arm(bind_marked("network.partition", pair()));
  const auto programs = programs_of(wait_for(LeaseState::kArmed));
  expect_cut();
  kill_holder();
  wait_for(LeaseState::kVerified);
  EXPECT_FALSE(PairMarker::any_left(programs).value());
  wait_for_both("caller");
}

TEST_F(SocketMarks, WhatCannotBeExactIsRefusedWithTheReason) {
  start_three("127.0.0.1");
  map_.services[0].listens = model::ListenAddress{.address = "192.0.2.77", .port = kPort};
  const auto far = try_bind("network.partition", pair());
  ASSERT_FALSE(far.ok());
  EXPECT_NE(far.error().message.find("does not reach 192.0.2.77"), std::string::npos)
      << far.error().message;
  EXPECT_NE(far.error().hint.find("under a user of its own"), std::string::npos);
}

// ---- the marker alone
// -----------------------------------------------------------------------------------------

class OwnMarks : public SocketMarks {
 protected:
  // A table that drops what is marked for the server.
  NftTable make_table(std::uint16_t port) {
    PacketRule rule;
    rule.protocol = PacketRule::Protocol::kUdp;
    rule.destination = PacketEndpoint{.address = {127, 0, 0, 1}, .port = port};
    rule.marked = true;
    auto table = NftTable::create(fmt::format("squall_test_{}", ::getpid()), {rule});
    EXPECT_TRUE(table.ok()) << table.error().to_string();
    return std::move(*table);
  }
  static PairMarker make_marker(std::uint16_t port, base::Duration limit) {
    auto marker =
        PairMarker::load({.pairs = {{.callers = {base::identify_process(::getpid()).value()},
                                     .endpoints = {{.address = {127, 0, 0, 1}, .port = port}}}},
                          .layout = TaskLayout::of_this_kernel().value()},
                         base::BootClock::now() + limit);
    EXPECT_TRUE(marker.ok()) << marker.error().to_string();
    const auto attached = marker->attach();
    EXPECT_TRUE(attached.ok()) << attached.error().to_string();
    return std::move(*marker);
  }
};

TEST_F(OwnMarks, NothingIsMarkedAfterTheDeadlineAlthoughTheHolderHangs) {
  const Talk talk;
  const NftTable table = make_table(talk.port());
  const PairMarker marker = make_marker(talk.port(), 700ms);
  talk.send(1);
  EXPECT_FALSE(talk.receive(100ms).has_value());
  EXPECT_EQ(table.packets()->hit, 1u);
  ::usleep(700'000);
  talk.send(2);
  EXPECT_EQ(talk.receive(5s).value_or(0), 2u);
  EXPECT_TRUE(PairMarker::any_left(marker.programs()).value());
}

TEST_F(OwnMarks, SocketsKeepNothing) {
  const Talk before;
  std::vector<std::uint32_t> programs;
  {
    const NftTable table = make_table(before.port());
    const PairMarker marker = make_marker(before.port(), 60s);
    programs = marker.programs();
    EXPECT_GE(marker.sockets(), 2u);
    before.send(1);
    EXPECT_FALSE(before.receive(50ms).has_value());
    const Talk other;  // another port: another endpoint
    other.send(7);
    EXPECT_EQ(other.receive(5s).value_or(0), 7u);
    for (const int fd : {before.client(), before.server(), other.client()}) {
      int mark = -1;
      socklen_t size = sizeof mark;
      ASSERT_EQ(::getsockopt(fd, SOL_SOCKET, SO_MARK, &mark, &size), 0);
      EXPECT_EQ(mark, 0);
    }
  }
  wait_until([&] { return !PairMarker::any_left(programs).value(); }, "no programs");
  const NftTable table = make_table(before.port());
  before.send(2);
  EXPECT_EQ(before.receive(5s).value_or(0), 2u);
}

}  // namespace
}  // namespace squall::inject
