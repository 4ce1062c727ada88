#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <nlohmann/json.hpp>
#include <set>

#include "base/frame.h"
#include "base/random.h"
#include "host/fake_host.h"
#include "inject/faults/kinds.h"
#include "inject/faults/network/nft_table.h"
#include "inject/faults/network/shapes.h"
#include "inject/faults/process/targets.h"
#include "inject/service_json.h"
#include "inject/wire.h"

namespace squall::inject {
namespace {

using base::Json;

Message round_trip(const Message& message) {
  const auto packet = encode(message);
  EXPECT_TRUE(packet.ok());
  auto decoded = decode(*packet);
  EXPECT_TRUE(decoded.ok()) << decoded.error().to_string();
  return *decoded;
}

TEST(Wire, EventsKeepEveryField) {
  LeaseEvent event;
  event.lease.value = 7;
  event.fault = "outage";
  event.state = LeaseState::kFailed;
  event.at = base::instant_from_nanoseconds(123456789);
  event.text = "caf\xc3\xa9";
  event.proof = "{}";
  event.cause = "deadline";
  event.still_active = true;
  event.notice = true;
  const auto copy = std::get<LeaseEvent>(round_trip(event));
  EXPECT_EQ(copy.lease, event.lease);
  EXPECT_EQ(copy.fault, event.fault);
  EXPECT_EQ(copy.state, event.state);
  EXPECT_EQ(copy.at, event.at);
  EXPECT_EQ(copy.text, event.text);
  EXPECT_EQ(copy.cause, event.cause);
  EXPECT_TRUE(copy.still_active);
  EXPECT_TRUE(copy.notice);
}

TEST(Wire, GreetingArmAndAnswersRoundTrip) {
  Hello hello;
  hello.mode = Hello::Mode::kReplay;
  hello.options.run = "run-1";
  hello.options.renewal_limit = std::chrono::milliseconds(1500);
  hello.owner = "alice";
  hello.engine = {.pid = 12, .start_time = 34};
  const auto greeting = std::get<Hello>(round_trip(hello));
  EXPECT_EQ(greeting.mode, Hello::Mode::kReplay);
  EXPECT_EQ(greeting.options.renewal_limit, hello.options.renewal_limit);
  EXPECT_EQ(greeting.engine, hello.engine);

  ArmMessage arm;
  arm.lease.value = 0xffffffffffffffff;
  arm.request.binding.fault = "cut";
  arm.request.binding.kind = "network.partition";
  arm.request.duration = std::chrono::seconds(5);
  EXPECT_EQ(std::get<ArmMessage>(round_trip(arm)).lease, arm.lease);

  const RehearsedMessage failed{.id = 3,
                                .text = {},
                                .error = base::Error{.code = base::ErrorCode::kPermission,
                                                     .message = "no",
                                                     .hint = "be root",
                                                     .context = {"rehearsing"}}};
  const auto rehearsed = std::get<RehearsedMessage>(round_trip(failed));
  ASSERT_TRUE(rehearsed.error.has_value());
  EXPECT_EQ(rehearsed.error->code, base::ErrorCode::kPermission);
  EXPECT_EQ(rehearsed.error->hint, "be root");
  EXPECT_EQ(std::get<Finished>(round_trip(Finished{.leases = 2, .left = {"x"}})).left.size(), 1u);
}

TEST(Wire, NoFlippedBitAndNoPrefixIsTaken) {
  const auto packet = encode(RevertMessage{.lease = {9}, .cause = "asked"}).value();
  for (std::size_t length = 0; length < packet.size(); ++length)
    EXPECT_FALSE(decode(std::span{packet}.first(length)).ok());
  for (std::size_t byte = 0; byte < packet.size(); ++byte) {
    for (int bit = 0; bit < 8; ++bit) {
      auto flipped = packet;
      flipped[byte] ^= std::byte{static_cast<unsigned char>(1 << bit)};
      EXPECT_FALSE(decode(flipped).ok());
    }
  }
}

TEST(Wire, GarbageWithAGoodChecksumIsRefused) {
  for (const std::string& text :
       {std::string("[]"), std::string("{}"), std::string("{\"lease\":1}"), std::string("\xff"),
        std::string()}) {
    for (const int type : {1, 2, 4, 5, 102, 999}) {
      std::vector<std::byte> packet;
      base::append_frame(packet, static_cast<std::uint16_t>(type), base::BootClock::now(), text);
      EXPECT_FALSE(decode(packet).ok()) << type << " " << text;
    }
  }
}

TEST(Wire, LastWordsAreHeardOfAPeerThatClosedWithoutReading) {
  std::array<int, 2> pair{};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair.data()), 0);
  const base::UniqueFd ours{pair[0]};
  base::UniqueFd theirs{pair[1]};
  ASSERT_TRUE(send_packet(theirs.get(), encode(Finished{.leases = 1}).value()).ok());
  ASSERT_TRUE(send_packet(ours.get(), encode(RenewMessage{}).value()).ok());
  theirs.reset();
  const auto last = receive_packet(ours.get());
  ASSERT_TRUE(last.ok());
  EXPECT_TRUE(std::holds_alternative<Finished>(decode(*last).value()));
  EXPECT_EQ(receive_packet(ours.get()).error().code, base::ErrorCode::kUnavailable);
}

std::vector<host::Member> ten_members() {
  std::vector<host::Member> members(10);
  for (int i = 0; i < 10; ++i) {
    members[static_cast<std::size_t>(i)].name = "worker-" + std::to_string(i + 1);
    members[static_cast<std::size_t>(i)].process.identity.pid = 100 + i;
  }
  return members;
}

TEST(Choice, TheSameSeedChoosesTheSame) {
  const auto members = ten_members();
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    const auto first = choose(members, 3, true, seed);
    const auto second = choose(members, 3, true, seed);
    ASSERT_EQ(first.size(), 3u);
    std::set<pid_t> different;
    for (std::size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(first[i].name, second[i].name);
      different.insert(first[i].process.identity.pid);
    }
    EXPECT_EQ(different.size(), 3u);
  }
}

TEST(Choice, EveryMemberHasItsChance) {
  std::vector<int> chosen(10);
  for (std::uint64_t seed = 0; seed < 2000; ++seed)
    ++chosen[static_cast<std::size_t>(choose(ten_members(), 1, true, seed)[0].process.identity.pid -
                                      100)];
  for (const int count : chosen) EXPECT_NEAR(count, 200, 75);  // five standard deviations
}

TEST(Choice, WithoutChanceTheOldestAreTaken) {
  const auto oldest = choose(ten_members(), 2, false, 99);
  ASSERT_EQ(oldest.size(), 2u);
  EXPECT_EQ(oldest[0].name, "worker-1");
  EXPECT_EQ(oldest[1].name, "worker-2");
  EXPECT_EQ(choose(ten_members(), 50, true, 1).size(), 10u);
}

TEST(Kinds, EveryDescriptorIsComplete) {
  ASSERT_EQ(all_kinds().size(), fault_kinds().size());
  std::set<std::string_view> names;
  for (const FaultKind* kind : all_kinds()) {
    const auto& descriptor = *kind->descriptor;
    EXPECT_TRUE(names.insert(descriptor.name).second);
    EXPECT_EQ(find_kind(descriptor.name), kind);
    for (const std::string_view text : {descriptor.summary, descriptor.effect, descriptor.revert,
                                        descriptor.proof, descriptor.example})
      EXPECT_FALSE(text.empty()) << descriptor.name;
    EXPECT_FALSE(descriptor.mechanisms.empty());
    for (const auto& parameter : descriptor.parameters) EXPECT_FALSE(parameter.summary.empty());
    EXPECT_TRUE(kind->describe && kind->bind && kind->create && kind->rehearse);
  }
  EXPECT_EQ(find_kind("process.kil"), nullptr);
}

TEST(Kinds, DescribeSaysChangeAndRevertAndHoldsNoPid) {
  model::SystemMap map;
  map.directory = "/srv";
  model::FaultSpecification fault;
  fault.name = "outage";
  fault.kind = find_kind("process.kill")->descriptor;
  fault.parameters = model::Parameters{Json{{"service", "worker"},
                                            {"count", 2},
                                            {"random", true},
                                            {"signal", "SIGKILL"},
                                            {"restore", "await"},
                                            {"limit", 30'000'000'000}}};
  const auto planned = describe(map, fault);
  EXPECT_EQ(planned.target, "2 members of service worker, chosen by seed");
  EXPECT_EQ(planned.processes_max, 2);
  EXPECT_EQ(planned.lifetime, model::LifetimeClass::kOneWay);
  ASSERT_EQ(planned.changes.size(), 1u);
  EXPECT_NE(planned.changes[0].change.find("SIGKILL"), std::string::npos);
  EXPECT_NE(planned.changes[0].revert.find("supervisor"), std::string::npos);
}

TEST(Kinds, NetworkPlansSayWhichPacketsAndBothClasses) {
  model::SystemMap map;
  model::FaultSpecification fault;
  fault.name = "lossy";
  fault.kind = find_kind("network.loss")->descriptor;
  fault.parameters = model::Parameters{
      Json{{"from", "api"}, {"to", "db"}, {"share", 0.05}, {"direction", "replies"}}};
  const auto loss = describe(map, fault);
  EXPECT_EQ(loss.target, "the network between api and db");
  EXPECT_EQ(loss.lifetime, model::LifetimeClass::kKernelHeld);
  EXPECT_NE(loss.changes.at(0).change.find("drops 5 % of the packets from db to api"),
            std::string::npos);
  fault.kind = find_kind("network.reset")->descriptor;
  fault.parameters =
      model::Parameters{Json{{"from", "api"}, {"to", "db"}, {"port", 5432}, {"new", "refuse"}}};
  const auto reset = describe(map, fault);
  EXPECT_EQ(reset.lifetime, model::LifetimeClass::kOneWay);
  ASSERT_EQ(reset.changes.size(), 2u);
  EXPECT_EQ(reset.changes[0].lifetime, model::LifetimeClass::kOneWay);
  EXPECT_NE(reset.changes[0].revert.find("nothing brings a connection back"), std::string::npos);
  EXPECT_EQ(reset.changes[1].lifetime, model::LifetimeClass::kKernelHeld);
}

TEST(Kinds, RepeatedKillsSayHowManyAtMost) {
  model::SystemMap map;
  model::FaultSpecification fault;
  fault.name = "again";
  fault.duration = std::chrono::seconds(20);
  fault.kind = find_kind("process.kill")->descriptor;
  fault.parameters = model::Parameters{Json{{"service", "worker"},
                                            {"count", 2},
                                            {"random", true},
                                            {"signal", "SIGKILL"},
                                            {"every", 5'000'000'000},
                                            {"restore", "await"},
                                            {"limit", 30'000'000'000}}};
  const auto kill = describe(map, fault);
  EXPECT_EQ(kill.processes_max, 8);  // at 0, 5, 10 and 15 s; at 20 s it is over
  EXPECT_NE(kill.changes.at(0).change.find("8 kills at most"), std::string::npos);
  fault.kind = find_kind("process.crash_loop")->descriptor;
  fault.parameters = model::Parameters{Json{{"service", "worker"},
                                            {"count", 1},
                                            {"random", true},
                                            {"after", 500'000'000},
                                            {"most", 10},
                                            {"restore", "await"},
                                            {"limit", 30'000'000'000}}};
  const auto loop = describe(map, fault);
  EXPECT_EQ(loop.processes_max, 10);
  EXPECT_EQ(loop.lifetime, model::LifetimeClass::kOneWay);
  EXPECT_NE(loop.changes.at(0).change.find("500ms after its start"), std::string::npos);
}

TEST(Shapes, CutThePairsTheySay) {
  using Pairs = std::vector<MemberPair>;
  EXPECT_EQ(isolate(4, 2), (Pairs{{0, 2}, {1, 2}, {2, 3}}));
  EXPECT_EQ(split(4, {0, 3}), (Pairs{{0, 1}, {0, 2}, {1, 3}, {2, 3}}));
  EXPECT_TRUE(ring(3).empty());
  EXPECT_EQ(ring(4), (Pairs{{0, 2}, {1, 3}}));
  EXPECT_EQ(ring(5).size(), 5u);
  for (std::size_t members = 4; members < 20; ++members)
    EXPECT_EQ(ring(members).size(), members * (members - 3) / 2);
}

TEST(Shapes, SidesAreNamedOrDrawn) {
  const std::vector<std::string> names{"a", "b", "c", "d", "e"};
  EXPECT_EQ(choose_side(names, {"d", "b", "d"}, Shape::kHalves, 0).value(),
            (std::vector<std::size_t>{1, 3}));
  EXPECT_FALSE(choose_side(names, {"x"}, Shape::kHalves, 0).ok());
  EXPECT_FALSE(choose_side(names, names, Shape::kHalves, 0).ok());
  EXPECT_FALSE(choose_side({"a"}, {}, Shape::kHalves, 0).ok());
  EXPECT_FALSE(choose_side({}, {}, Shape::kIsolate, 0).ok());
  std::vector<int> drawn(names.size());
  for (std::uint64_t seed = 0; seed < 1000; ++seed) {
    const auto side = choose_side(names, {}, Shape::kHalves, seed).value();
    EXPECT_EQ(side, choose_side(names, {}, Shape::kHalves, seed).value());
    ASSERT_EQ(side.size(), 2u);
    for (const std::size_t member : side) ++drawn[member];
  }
  for (const int count : drawn) EXPECT_NEAR(count, 400, 80);  // five standard deviations
}

TEST(Shapes, ThePlanListsEveryPairThatIsCut) {
  model::SystemMap map;
  model::Service service;
  service.name = "db";
  service.expected_members = 4;
  map.services = {service};
  model::FaultSpecification fault;
  fault.name = "cut";
  fault.kind = find_kind("network.partition")->descriptor;
  const auto planned = [&](Json parameters) {
    parameters["service"] = "db";
    fault.parameters = model::Parameters{std::move(parameters)};
    return describe(map, fault);
  };
  const auto rings = planned({{"shape", "ring"}});
  ASSERT_EQ(rings.changes.size(), 2u);
  EXPECT_NE(rings.changes[0].change.find("between db/db-1 and db/db-3"), std::string::npos);
  EXPECT_EQ(planned({{"shape", "isolate"}, {"member", "db-2"}}).changes.size(), 3u);
  const auto drawn = planned({{"shape", "halves"}});
  ASSERT_EQ(drawn.changes.size(), 1u);  // which ones the seed decides
  EXPECT_NE(drawn.changes[0].change.find("4 pairs of db-1, db-2, db-3 and db-4"),
            std::string::npos);
  EXPECT_EQ(drawn.services, (std::vector<std::string>{"db"}));
  fault.parameters = model::Parameters{Json::object()};
  EXPECT_TRUE(describe(map, fault).changes.empty());  // and binding refuses it
}

TEST(Bindings, ABrokenBindingIsRefusedByEveryKind) {
  for (const FaultKind* kind : all_kinds()) {
    model::FaultBinding binding;
    binding.kind = kind->descriptor->name;
    binding.mechanism = "magic";
    // No context is needed to refuse.
    struct NoContext final : FaultContext {
      base::Status note(const Json&) override { return {}; }
      const host::Host& host() override { return host::real_host(); }
      Programs& programs() override { std::abort(); }
      base::LeaseId lease() const override { return {}; }
      base::Status check_process(const base::ProcessIdentity&) const override { return {}; }
      uid_t caller() const override { return 0; }
    } context;
    const auto fault = kind->create(binding, context);
    EXPECT_FALSE(fault.ok()) << binding.kind;
  }
}

TEST(Rules, RoundTripAndNeverMatchEverything) {
  PacketRule rule;
  rule.chain = PacketRule::Chain::kMark;
  rule.action = PacketRule::Action::kMark;
  rule.protocol = PacketRule::Protocol::kUdp;
  rule.destination = PacketEndpoint::parse("::1", 53).value();
  rule.user = 1000;
  rule.group = PacketRule::Group{.id = 99, .level = 2};
  rule.off_host = true;
  EXPECT_EQ(rule_from_json(to_json(rule)).value(), rule);
  rule.share = 50'000;
  EXPECT_EQ(rule_from_json(to_json(rule)).value(), rule);
  rule.share = kShareWhole + 1;
  EXPECT_FALSE(rule_from_json(to_json(rule)).ok());
  rule.share = 0;
  rule.destination.reset();
  EXPECT_FALSE(rule_from_json(to_json(rule)).ok());
  rule.source = PacketEndpoint{};  // every address and port
  EXPECT_FALSE(rule_from_json(to_json(rule)).ok());
  rule.source = PacketEndpoint::parse("192.0.2.1", 0).value();  // every port of one address
  EXPECT_EQ(rule_from_json(to_json(rule)).value(), rule);
  EXPECT_EQ(PacketEndpoint::parse("127.0.0.1", 80)->text(), "127.0.0.1:80");
  EXPECT_EQ(PacketEndpoint::parse("::1", 80)->text(), "[::1]:80");
  EXPECT_TRUE(PacketEndpoint::parse("0.0.0.0", 80)->address.empty());
  EXPECT_EQ(PacketEndpoint::parse("::ffff:127.0.0.1", 80)->text(), "127.0.0.1:80");
  EXPECT_FALSE(PacketEndpoint::parse("localhost", 80).ok());
}

TEST(Services, RoundTripThroughABinding) {
  model::Service service;
  service.name = "db";
  service.kind = "postgres";
  service.process.exe = "postgres";
  service.listens = model::ListenAddress{.address = "127.0.0.1", .port = 5432};
  service.start = {"./up", "db", "{member}"};
  service.expected_members = 2;
  service.members = {
      {.name = "primary", .role = "leader", .listens = service.listens, .start = {"x"}}};
  const auto copy = service_from_json(to_json(service)).value();
  EXPECT_EQ(copy.name, service.name);
  EXPECT_EQ(copy.listens->port, 5432);
  EXPECT_EQ(copy.start, service.start);
  ASSERT_EQ(copy.members.size(), 1u);
  EXPECT_EQ(copy.members[0].role, "leader");
  EXPECT_FALSE(service_from_json(Json::object()).ok());
}

}  // namespace
}  // namespace squall::inject
