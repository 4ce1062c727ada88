// network.latency by netem, where the kernel has it; where it has not, the refusal.

#include "inject/faults/network/netem_fault.h"
#include "inject/journal.h"
#include "inject/scratch_network.h"
#include "integration/inject/packet_fixture.h"

namespace squall::inject {
namespace {

constexpr int kLoopback = 1;  // its index in every network namespace

class Netem : public PacketSchedulerTest {
 protected:
  void SetUp() override {
    PacketSchedulerTest::SetUp();
    if (IsSkipped()) return;
    if (const auto netem = check_netem(); !netem.ok()) GTEST_SKIP() << netem.error().message;
  }
  static Json by_netem(base::Duration delay, const std::string& direction = "both") {
    Json json = latency(delay, {}, direction);
    json["mechanism"] = "netem";
    return json;
  }
  static std::string queues() {
    const auto text = base::run_command({.argv = {"tc", "qdisc", "show", "dev", "lo"}}, 10s);
    return text.ok() ? text->output : text.error().to_string();
  }
  LeaseEvent put_in_force(const model::FaultBinding& binding, const Talk& talk) {
    if (client_ == nullptr) start_holder();
    lease_ = arm(binding);
    wait_for(LeaseState::kArmed);
    talk.round_trip();
    return wait_for(LeaseState::kEffective);
  }
  LeaseEvent take_away() {
    EXPECT_TRUE(client_->revert(lease_, "asked").ok());
    const auto reverted = wait_for(LeaseState::kReverted);
    wait_for(LeaseState::kVerified);
    return reverted;
  }
  base::LeaseId lease_;
};

TEST_F(Netem, DelaysThePairAndNobodyElse) {
  const Talk talk;
  const Talk other;
  add_server(talk);
  const std::string before = queues();
  const auto binding = bind_or_die("network.latency", by_netem(50ms));
  EXPECT_EQ(binding.mechanism, kNetem);
  EXPECT_EQ(binding.lifetime, model::LifetimeClass::kJournaled);
  start_holder();
  const auto rehearsed = client_->rehearse(binding);
  ASSERT_TRUE(rehearsed.ok()) << rehearsed.error().to_string();
  EXPECT_EQ(queues(), before);
  put_in_force(binding, talk);
  const base::Duration both = talk.round_trip();
  std::printf("figure: netem 50 ms each way: round trip %.1f ms\n", 1e3 * base::to_seconds(both));
  EXPECT_GE(both, 100ms);
  EXPECT_LT(both, 200ms);
  EXPECT_LT(other.round_trip(), 50ms);
  const auto reverted = take_away();
  EXPECT_NE(reverted.text.find("default queue again"), std::string::npos) << reverted.text;
  EXPECT_EQ(queues(), before);
  EXPECT_LT(talk.round_trip(), 50ms);
}

TEST_F(Netem, OneDirectionIsDelayedOnce) {
  const Talk talk(AF_INET6);
  add_server(talk, "::1");
  put_in_force(bind_or_die("network.latency", by_netem(60ms, "replies")), talk);
  const base::Duration took = talk.round_trip();
  EXPECT_GE(took, 60ms);
  EXPECT_LT(took, 120ms);
  take_away();
}

TEST_F(Netem, WhatWaitsPassesAtTheRevert) {
  const Talk talk;
  add_server(talk);
  put_in_force(bind_or_die("network.latency", by_netem(100ms, "requests")), talk);
  talk.send(7);
  const auto reverted = take_away();
  EXPECT_EQ(reverted.text.find("still waited"), std::string::npos) << reverted.text;
  EXPECT_EQ(talk.receive(1s), 7u);
}

TEST_F(Netem, NothingIsDelayedOnceTheHolderIsDeadAndTheJournalRemovesTheQueues) {
  const Talk talk;
  add_server(talk);
  const std::string before = queues();
  put_in_force(bind_or_die("network.latency", by_netem(50ms)), talk);
  kill_holder();
  await_replay();
  EXPECT_EQ(queues(), before);
  EXPECT_LT(talk.round_trip(), 50ms);
}

TEST_F(Netem, AForeignQueueIsNotTouched) {
  const Talk talk;
  add_server(talk);
  const auto binding = bind_or_die("network.latency", by_netem(50ms));
  ASSERT_EQ(base::run_command({.argv = {"tc", "qdisc", "add", "dev", "lo", "root", "handle",
                                        "7:", "pfifo", "limit", "77"}},
                              10s)
                ->exit_status,
            0);
  const std::string theirs = queues();
  EXPECT_NE(theirs.find("pfifo 7:"), std::string::npos) << theirs;
  const auto refused = try_bind("network.latency", by_netem(50ms));
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message.find("queues of its own"), std::string::npos);
  // One that came between bind and arm.
  start_holder();
  arm(binding);
  EXPECT_NE(wait_for(LeaseState::kFailed).text.find("queues of its own"), std::string::npos);
  EXPECT_EQ(queues(), theirs);
}

TEST_F(Netem, AQueueThatReplacedOursStaysAndEndsTheFault) {
  const Talk talk;
  add_server(talk);
  put_in_force(bind_or_die("network.latency", by_netem(50ms)), talk);
  ASSERT_EQ(base::run_command({.argv = {"tc", "qdisc", "replace", "dev", "lo", "root", "handle",
                                        "7:", "pfifo", "limit", "77"}},
                              10s)
                ->exit_status,
            0);
  EXPECT_EQ(wait_for(LeaseState::kReverting).cause, "fault broke");
  const auto reverted = wait_for(LeaseState::kReverted);
  EXPECT_NE(reverted.text.find("somebody else gave lo the queue pfifo"), std::string::npos)
      << reverted.text;
  wait_for(LeaseState::kVerified);
  EXPECT_NE(queues().find("pfifo 7:"), std::string::npos);
}

TEST_F(Netem, TakesMorePacketsThanTheSchedulerAndLosesNone) {
  const Talk talk;
  add_server(talk);
  put_in_force(bind_or_die("network.latency", by_netem(20ms, "requests")), talk);
  constexpr std::uint32_t kPackets = 20'000;
  std::uint32_t got = 0;
  const base::Instant start = base::BootClock::now();
  for (std::uint32_t i = 0; i < kPackets; ++i) {
    talk.send(i);
    while (talk.receive(0ms)) ++got;
  }
  const double rate = kPackets / base::to_seconds(base::BootClock::now() - start);
  while (got < kPackets && talk.receive(1s)) ++got;
  std::printf("figure: netem: %.0f packets/s, %u of %u arrived\n", rate, got, kPackets);
  EXPECT_EQ(got, kPackets);
  take_away();
}

// On every kernel.
using LatencyMechanism = PacketSchedulerTest;

TEST_F(LatencyMechanism, WithoutNetemItIsRefusedWithTheReason) {
  if (check_netem().ok()) GTEST_SKIP() << "this kernel has netem";
  const Talk talk;
  add_server(talk);
  Json parameters = latency(50ms);
  parameters["mechanism"] = "netem";
  const auto refused = try_bind("network.latency", parameters);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, base::ErrorCode::kUnsupported);
  EXPECT_NE(refused.error().message.find("no queueing discipline"), std::string::npos);
  EXPECT_NE(refused.error().hint.find("mechanism"), std::string::npos);
}

TEST_F(LatencyMechanism, AutoTakesTheStrongestThatWorks) {
  const Talk talk;
  add_server(talk);
  Json parameters = latency(50ms);
  parameters["mechanism"] = "auto";
  ASSERT_TRUE(check_packet_queues().ok());
  EXPECT_EQ(bind_or_die("network.latency", parameters).mechanism, "packet scheduler");
}

TEST_F(LatencyMechanism, ThePlanNamesThePermittedMechanismsAndTheWeakestClass) {
  const Talk talk;
  add_server(talk);
  const auto planned = [&](const std::string& way) {
    model::FaultSpecification fault;
    fault.name = "slow";
    fault.kind = find_kind("network.latency")->descriptor;
    Json parameters = latency(50ms);
    parameters["mechanism"] = way;
    fault.parameters = model::Parameters{parameters};
    return describe(map_, fault);
  };
  using Names = std::vector<std::string>;
  EXPECT_EQ(planned("queue").mechanisms, Names{"packet scheduler"});
  EXPECT_EQ(planned("queue").lifetime, model::LifetimeClass::kKernelHeld);
  EXPECT_EQ(planned("netem").mechanisms, Names{"netem"});
  EXPECT_EQ(planned("netem").lifetime, model::LifetimeClass::kJournaled);
  EXPECT_EQ(planned("netem").changes.size(), 1u);
  EXPECT_EQ(planned("auto").mechanisms, (Names{"packet scheduler", "netem"}));
  EXPECT_EQ(planned("auto").lifetime, model::LifetimeClass::kJournaled);
  EXPECT_EQ(planned("auto").changes.size(), 2u);
}

// The kernel's own counts and refusals, by the kinds of queue that every kernel has.
TEST_F(LatencyMechanism, TheDefaultQueueIsToldFromOthers) {
  auto control = TrafficControl::open();
  ASSERT_TRUE(control.ok());
  EXPECT_FALSE(control->foreign_root(kLoopback)->has_value());
  EXPECT_EQ(control->foreign_root(9999).error().code, base::ErrorCode::kNotFound);
  EXPECT_FALSE(*control->remove_tree(kLoopback, 0x1234));
  ASSERT_EQ(
      base::run_command(
          {.argv = {"tc", "qdisc", "add", "dev", "lo", "root", "handle", "1234:", "pfifo"}}, 10s)
          ->exit_status,
      0);
  EXPECT_EQ((*control->foreign_root(kLoopback))->kind, "pfifo");
  // Its number is ours, its kind is not.
  EXPECT_FALSE(*control->remove_tree(kLoopback, 0x1234));
  EXPECT_EQ(control->add_tree(kLoopback, 0x1234, {}).error().code, base::ErrorCode::kConflict);
  EXPECT_TRUE(control->foreign_root(kLoopback)->has_value());
  EXPECT_EQ(*control->interface_towards({127, 0, 0, 1}), kLoopback);
}

}  // namespace
}  // namespace squall::inject
