// Bringing killed members back: when a replacement counts.

#include "inject/faults/process/revival.h"

#include <gtest/gtest.h>

#include "host/fake_host.h"

namespace squall::inject {
namespace {

using namespace std::chrono_literals;
using base::Json;

class FakePrograms final : public Programs {
 public:
  std::uint64_t start(const ProgramRequest&) override { return ++starts; }
  ProgramOutcome outcome(std::uint64_t) override { return answer; }
  int fd() const override { return -1; }
  base::ProcessIdentity process() const override { return {}; }
  void end(std::uint64_t) override {}
  void tell(std::uint64_t, const std::string&) override {}
  std::uint64_t starts = 0;
  ProgramOutcome answer;
};

class FakeContext final : public FaultContext {
 public:
  base::Status note(const Json&) override { return {}; }
  const host::Host& host() override { return fake; }
  Programs& programs() override { return starter; }
  base::LeaseId lease() const override { return {}; }
  base::Status check_process(const base::ProcessIdentity&) const override { return {}; }
  uid_t caller() const override { return 0; }
  host::FakeHost fake;
  FakePrograms starter;
};

class RevivalTest : public ::testing::Test {
 protected:
  Revival::Plan plan() const {
    Revival::Plan plan;
    plan.service.name = "worker";
    plan.service.process.exe = "worker";
    plan.service.start = {"/usr/bin/worker"};
    plan.before = {lost_};
    plan.limit = 10s;
    return plan;
  }
  FakeContext context_;
  const Target lost_{.member = {}, .identity = {.pid = 500, .start_time = 1}, .description = {}};
};

// The starter ends what it has started and cannot look at (it has no memory, say): what runs for a
// moment is no replacement before the starter has said that it is one.
TEST_F(RevivalTest, WhatTheStarterHasNotToldOfIsNoReplacement) {
  Revival revival{plan(), context_};
  ASSERT_EQ(revival.begin({lost_}).state, Step::State::kDone);
  EXPECT_EQ(context_.starter.starts, 1u);
  const auto& fresh = context_.fake.add_process(600, 1, {"/usr/bin/worker"});
  EXPECT_EQ(revival.await({lost_}).state, Step::State::kWaiting);
  context_.starter.answer.started = fresh.identity;
  EXPECT_EQ(revival.await({lost_}).state, Step::State::kDone);
}

TEST_F(RevivalTest, WhatTheStarterEndedIsStartedAgain) {
  Revival revival{plan(), context_};
  ASSERT_EQ(revival.begin({lost_}).state, Step::State::kDone);
  context_.fake.add_process(600, 1, {"/usr/bin/worker"});
  EXPECT_EQ(revival.await({lost_}).state, Step::State::kWaiting);
  context_.fake.remove_process(600);
  context_.starter.answer.error = base::Error{.message = "cannot look at it"};
  const base::Instant end = base::BootClock::now() + 5s;
  while (context_.starter.starts < 2 && base::BootClock::now() < end)
    EXPECT_EQ(revival.await({lost_}).state, Step::State::kWaiting);
  EXPECT_EQ(context_.starter.starts, 2u);
}

// By a supervisor, or by a starter that is gone: then nothing is open.
TEST_F(RevivalTest, WhatCameBackByItselfCounts) {
  Revival revival{plan(), context_};
  context_.fake.add_process(600, 1, {"/usr/bin/worker"});
  EXPECT_EQ(revival.begin({lost_}).state, Step::State::kDone);
  EXPECT_EQ(context_.starter.starts, 0u);
  EXPECT_EQ(revival.await({lost_}).state, Step::State::kDone);
}

}  // namespace
}  // namespace squall::inject
