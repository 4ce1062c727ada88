// A kill is undone when the member runs again, not when somebody was asked to start it.

#include <gtest/gtest.h>
#include <linux/capability.h>

#include <csignal>
#include <nlohmann/json.hpp>

#include "base/process.h"
#include "host/fake_host.h"
#include "inject/faults/kinds.h"
#include "inject/faults/process/targets.h"

namespace squall::inject {
namespace {

using base::Json;

// Takes its time: what it was asked to start does not run yet.
struct SlowPrograms final : Programs {
  std::uint64_t start(const ProgramRequest& request) override {
    started.push_back(request.argv);
    return started.size();
  }
  ProgramOutcome outcome(std::uint64_t) override {
    ProgramOutcome outcome;
    outcome.started = answer;
    return outcome;
  }
  int fd() const override { return -1; }
  base::ProcessIdentity process() const override { return {}; }
  void end(std::uint64_t) override {}
  void tell(std::uint64_t, const std::string&) override {}
  std::vector<std::vector<std::string>> started;
  decltype(ProgramOutcome::started) answer{};  // of the starter
};

struct Context final : FaultContext {
  base::Status note(const Json& found) override {
    notes.push_back(found);
    return {};
  }
  const host::Host& host() override { return fake; }
  Programs& programs() override { return slow; }
  base::LeaseId lease() const override { return {}; }
  base::Status check_process(const base::ProcessIdentity&) const override { return {}; }
  uid_t caller() const override { return 0; }
  host::FakeHost fake;
  SlowPrograms slow;
  std::vector<Json> notes;
};

class ProcessKill : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!has_capability(CAP_KILL)) GTEST_SKIP() << "needs CAP_KILL";
    auto child = base::spawn({.argv = {"sleep", "60"}, .parent_death_signal = SIGKILL});
    ASSERT_TRUE(child.ok());
    child_ = std::move(*child);
    add(child_.pid()).identity = child_.pidfd().identity();
    model::Service service;
    service.name = "api";
    service.process.exe = "api";
    service.start = {"/usr/bin/api"};
    service.expected_members = 1;
    map_.services = {service};
    fault_.name = "outage";
    fault_.kind = find_kind("process.kill")->descriptor;
    fault_.parameters = model::Parameters{Json{{"service", "api"},
                                               {"count", 1},
                                               {"random", true},
                                               {"signal", "SIGKILL"},
                                               {"restore", "start"},
                                               {"limit", 30'000'000'000}}};
    const auto planned = describe(map_, fault_);
    auto binding = bind({.map = map_, .fault = fault_, .planned = planned, .host = context_.fake});
    ASSERT_TRUE(binding.ok()) << binding.error().to_string();
    binding_ = std::move(*binding);
  }
  void TearDown() override {
    if (child_.pidfd().valid()) {
      (void)child_.pidfd().signal(SIGKILL);
      (void)child_.wait(std::chrono::seconds(5));
    }
  }

  host::Process& add(pid_t pid) { return context_.fake.add_process(pid, 1, {"/usr/bin/api"}); }
  std::unique_ptr<Fault> fault() {
    return find_kind("process.kill")->create(binding_, context_).value();
  }

  Context context_;
  base::ChildProcess child_;
  model::SystemMap map_;
  model::FaultSpecification fault_;
  model::FaultBinding binding_;
};

TEST_F(ProcessKill, IsNotUndoneBeforeTheMemberRunsAgain) {
  const auto killed = fault();
  ASSERT_TRUE(drive(*killed, &Fault::arm, std::chrono::seconds(5)).ok());
  ASSERT_TRUE(drive(*killed, &Fault::effective, std::chrono::seconds(5)).ok());
  context_.fake.remove_process(child_.pid());
  EXPECT_EQ(killed->revert().state, Step::State::kDone);
  EXPECT_EQ(context_.slow.started, (std::vector<std::vector<std::string>>{{"/usr/bin/api"}}));
  EXPECT_EQ(killed->verify().state, Step::State::kWaiting);
  EXPECT_EQ(killed->verify().state, Step::State::kWaiting);
  // It is there, and the starter may still end it.
  const base::ProcessIdentity fresh = add(child_.pid() + 1).identity;
  EXPECT_EQ(killed->verify().state, Step::State::kWaiting);
  context_.slow.answer = fresh;
  EXPECT_EQ(killed->verify().state, Step::State::kDone);
  EXPECT_EQ(context_.slow.started.size(), 1u);
}

// A dead holder's journal: what came back already is not started a second time.
TEST_F(ProcessKill, AReplayStartsOnlyWhatIsMissing) {
  const auto killed = fault();
  ASSERT_TRUE(drive(*killed, &Fault::arm, std::chrono::seconds(5)).ok());
  ASSERT_TRUE(child_.wait(std::chrono::seconds(5)).ok());
  context_.fake.remove_process(child_.pid());
  ASSERT_FALSE(context_.notes.empty());
  const auto first = fault();
  const auto second = fault();
  for (const auto& replay : {first.get(), second.get()}) {
    for (const Json& note : context_.notes) replay->recall(note);
  }
  ASSERT_TRUE(drive(*first, &Fault::revert, std::chrono::seconds(5)).ok());
  EXPECT_EQ(context_.slow.started.size(), 1u);
  add(child_.pid() + 1);
  ASSERT_TRUE(drive(*second, &Fault::revert, std::chrono::seconds(5)).ok());
  EXPECT_EQ(second->verify().state, Step::State::kDone);
  EXPECT_EQ(context_.slow.started.size(), 1u);
}

}  // namespace
}  // namespace squall::inject
