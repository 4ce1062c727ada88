// process.unit_stop, with a stand-in for systemd in a mount namespace of the test's own.

#include <sched.h>

#include "integration/inject/fixture.h"
#include "support/fake_systemd.h"

namespace squall::inject {
namespace {

class UnitStop : public InjectTest {
 protected:
  void SetUp() override {
    InjectTest::SetUp();
    if (IsSkipped()) return;
    if (::access("/usr/bin/systemctl", X_OK) != 0) GTEST_SKIP() << "no systemctl to stand in for";
    enter_own_mounts();
    const auto stands = test::stand_in_for_systemd(folder_);
    ASSERT_TRUE(stands.ok()) << stands.error().to_string();
    ASSERT_TRUE(test::write_fake_unit("demo.service").ok());
  }
  void TearDown() override {
    client_.reset();
    ::umount2("/usr/bin/systemctl", MNT_DETACH);
    ::umount2("/run", MNT_DETACH);
    InjectTest::TearDown();
  }

  static Json stop(const std::string& unit) {
    return {{"unit", unit}, {"timeout", 20'000'000'000}};
  }
  static std::string unit(const std::string& name) {
    return base::read_file(std::string(test::kFakeUnits) + "/" + name, 4096).value_or("");
  }
  static bool is(const std::string& state) {
    return unit("demo.service").find("ActiveState=" + state + "\n") != std::string::npos;
  }
  static void change(const std::string& from, const std::string& to) {
    std::string text = unit("demo.service");
    const std::size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos);
    text.replace(at, from.size(), to);
    ASSERT_TRUE(
        base::write_file_atomically(std::string(test::kFakeUnits) + "/demo.service", text).ok());
  }
  void put_in_force() {
    start_holder();
    lease_ = arm(bind_or_die("process.unit_stop", stop("demo")));
    const auto effective = wait_for(LeaseState::kEffective);
    EXPECT_EQ(proof_of(effective).value("state", ""), "inactive");
    EXPECT_TRUE(is("inactive"));
  }
  std::string refusal(const std::string& name) {
    const auto binding = try_bind("process.unit_stop", stop(name));
    EXPECT_FALSE(binding.ok()) << name;
    if (binding.ok()) return {};
    EXPECT_FALSE(binding.error().hint.empty());
    return binding.error().message;
  }

  base::LeaseId lease_;
};

// systemctl runs, and systemd shows the unit as active until it has heard of it.
TEST_F(UnitStop, AStopUnderWayEndsBeforeItIsUndone) {
  const std::string slow = std::string(test::kFakeUnits) + "/slow-stop";
  ASSERT_TRUE(base::write_file_atomically(slow, "").ok());
  start_holder();
  const auto lease = arm(bind_or_die("process.unit_stop", stop("demo")));
  wait_until([] { return unit("log").find("stop demo.service") != std::string::npos; }, "a stop");
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kReverting);
  EXPECT_TRUE(is("active"));
  ::unlink(slow.c_str());
  const auto verified = wait_for(LeaseState::kVerified);
  EXPECT_NE(verified.text.find("active"), std::string::npos) << verified.text;
  EXPECT_TRUE(is("active"));
  EXPECT_NE(unit("log").find("start demo.service"), std::string::npos) << verified.text;
}

TEST_F(UnitStop, IsStoppedOnceAndStartedOnce) {
  put_in_force();
  ASSERT_TRUE(client_->revert(lease_, "asked").ok());
  EXPECT_EQ(proof_of(wait_for(LeaseState::kVerified)).value("state", ""), "active");
  EXPECT_TRUE(is("active"));
  EXPECT_EQ(unit("log"), "stop demo.service\nstart demo.service\n");
}

TEST_F(UnitStop, AKilledHoldersUnitIsStartedFromTheDurableJournal) {
  put_in_force();
  const auto journals = files_with_suffix(StateDirectory{state_}.durable_leases(), ".lease");
  EXPECT_EQ(journals.size(), 1u);
  kill_holder();
  await_replay();
  EXPECT_TRUE(is("active"));
}

TEST_F(UnitStop, WhatSomebodyElseStartedIsNotStartedAgain) {
  put_in_force();
  ASSERT_TRUE(base::write_file_atomically(
                  std::string(test::kFakeUnits) + "/demo.service-invocation", "other")
                  .ok());
  change("ActiveState=inactive", "ActiveState=active");
  EXPECT_EQ(wait_for(LeaseState::kReverting).cause, "fault broke");
  EXPECT_NE(wait_for(LeaseState::kVerified).text.find("somebody else"), std::string::npos);
  EXPECT_EQ(unit("log"), "stop demo.service\n");
}

TEST_F(UnitStop, WhatSomebodyElseMaskedIsLeftAsItIs) {
  put_in_force();
  change("LoadState=loaded", "LoadState=masked");
  ASSERT_TRUE(client_->revert(lease_, "asked").ok());
  EXPECT_NE(wait_for(LeaseState::kVerified).text.find("left as it is"), std::string::npos);
  EXPECT_TRUE(is("inactive"));
}

TEST_F(UnitStop, AUnitThatDoesNotStopIsStillActiveAfterwards) {
  ASSERT_TRUE(base::write_file_atomically(std::string(test::kFakeUnits) + "/fail-stop", "").ok());
  start_holder();
  arm(bind_or_die("process.unit_stop", stop("demo")));
  const auto failed = wait_for(LeaseState::kFailed);
  EXPECT_NE(failed.text.find("Job for demo.service failed"), std::string::npos) << failed.text;
  EXPECT_FALSE(failed.still_active);
  EXPECT_TRUE(is("active"));
}

TEST_F(UnitStop, WhatMustNotBeStoppedIsRefused) {
  EXPECT_NE(refusal("a b").find("no unit"), std::string::npos);
  EXPECT_NE(refusal("--all").find("no unit"), std::string::npos);
  EXPECT_NE(refusal("multi-user.target").find("no unit"), std::string::npos);
  EXPECT_NE(refusal("ssh").find("never a target"), std::string::npos);
  EXPECT_NE(refusal("squall-warden").find("never a target"), std::string::npos);
  EXPECT_NE(refusal("unknown").find("not-found"), std::string::npos);
  ASSERT_TRUE(test::write_fake_unit("other.service").ok());
  ASSERT_TRUE(test::write_fake_unit("needed.service", "RequiredBy=other.service\n").ok());
  EXPECT_NE(refusal("needed").find("other.service"), std::string::npos);
  ASSERT_TRUE(
      test::write_fake_unit("own.service", "MainPID=" + std::to_string(::getpid()) + "\n").ok());
  EXPECT_FALSE(refusal("own").empty());
  change("CanStop=yes", "CanStop=no");
  EXPECT_NE(refusal("demo").find("refuses to be stopped"), std::string::npos);
  // An alias of a unit that is never a target.
  change("Id=demo.service", "Id=ssh.service");
  EXPECT_NE(refusal("demo").find("never a target"), std::string::npos);
  std::filesystem::remove("/run/systemd/system");
  EXPECT_NE(refusal("demo").find("not booted with systemd"), std::string::npos);
}

}  // namespace
}  // namespace squall::inject
