// The container kinds, by a real Podman.

#include "inject/freezer.h"
#include "integration/inject/container_fixture.h"

namespace squall::inject {
namespace {

class Containers : public ContainerTest {
 protected:
  static bool is_frozen(pid_t pid) {
    const auto freezer = freezer_of(pid);
    return freezer.ok() && read_freezer(*freezer).ok() && read_freezer(*freezer)->frozen;
  }
  // The holder, killed as a crash would; the keeper has its journal replayed.
  static Json stop_parameters() {
    return chosen({{"grace", 2'000'000'000}, {"limit", 20'000'000'000}});
  }
  static Json kill_with(const std::string& restore) {
    return chosen({{"signal", "SIGKILL"}, {"restore", restore}, {"limit", 20'000'000'000}});
  }
};

TEST_F(Containers, PauseFreezesTheContainerAndResumesIt) {
  podman_->start("box-1");
  podman_->start("box-2");
  add_boxes(2);
  const auto binding = bind_or_die("container.pause", chosen({{"member", "boxes-1"}}));
  ASSERT_EQ(binding.targets.size(), 1u);
  EXPECT_EQ(binding.targets[0].process.pid, podman_->pid("box-1"));
  EXPECT_EQ(binding.mechanism, "container engine");
  start_holder();
  ASSERT_TRUE(client_->rehearse(binding).ok());
  EXPECT_FALSE(is_frozen(podman_->pid("box-1")));
  const auto lease = arm(binding);
  const auto effective = wait_for(LeaseState::kEffective);
  EXPECT_EQ(proof_of(effective)["containers"][0]["frozen"], true) << effective.proof;
  EXPECT_EQ(proof_of(effective)["containers"][0]["paused"], true);
  EXPECT_TRUE(is_frozen(podman_->pid("box-1")));
  EXPECT_EQ(podman_->inspect("box-1", "{{.State.Status}}"), "paused");
  EXPECT_FALSE(is_frozen(podman_->pid("box-2")));
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  EXPECT_NE(wait_for(LeaseState::kVerified).text.find("resumed"), std::string::npos);
  EXPECT_FALSE(is_frozen(podman_->pid("box-1")));
  EXPECT_TRUE(podman_->is_running("box-1"));
}

TEST_F(Containers, APausedContainerIsResumedWhenTheHolderDies) {
  podman_->start("box-1");
  add_boxes();
  const auto binding = bind_or_die("container.pause", chosen());
  start_holder();
  arm(binding);
  wait_for(LeaseState::kEffective);
  kill_holder();
  wait_for(LeaseState::kVerified);
  EXPECT_FALSE(is_frozen(podman_->pid("box-1")));
  EXPECT_TRUE(podman_->is_running("box-1"));
}

TEST_F(Containers, APausedContainerIsThawedWhenItsEngineIsGone) {
  podman_->start("box-1");
  add_boxes();
  const auto pid = podman_->pid("box-1");
  const auto binding = bind_or_die("container.pause", chosen());
  start_holder();
  const auto lease = arm(binding);
  wait_for(LeaseState::kEffective);
  podman_->stop_service();
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  const auto verified = wait_for(LeaseState::kVerified);
  EXPECT_NE(verified.text.find("thawed by the kernel"), std::string::npos) << verified.text;
  EXPECT_FALSE(is_frozen(pid));
  ASSERT_TRUE(podman_->start_service().ok());
  // Podman goes on calling it paused; what we advise puts that right.
  const auto freezer = freezer_of(pid);
  ASSERT_TRUE(freezer.ok());
  if (freezer->v2) return;  // there the engine asks the kernel
  EXPECT_NE(verified.text.find("echo FROZEN > " + freezer->folder), std::string::npos);
  const base::UniqueFd file{
      ::open((freezer->folder + "/freezer.state").c_str(), O_WRONLY | O_CLOEXEC)};
  ASSERT_TRUE(base::write_all(file.get(), "FROZEN").ok());
  podman_->podman_says({"unpause", "box-1"});
  EXPECT_TRUE(podman_->is_running("box-1"));
}

TEST_F(Containers, WhatSomebodyElseResumedOrRemovedIsToldAndLeftAlone) {
  podman_->start("box-1");
  podman_->start("box-2");
  add_boxes(2);
  const auto binding = bind_or_die("container.pause", chosen({{"count", 2}}));
  start_holder();
  const auto lease = arm(binding);
  wait_for(LeaseState::kEffective);
  podman_->podman_says({"unpause", "box-1"});
  EXPECT_NE(wait_for_notice().text.find("somebody else resumed container box-1"),
            std::string::npos);
  podman_->podman_says({"rm", "-f", "-t", "0", "box-2"});
  // Podman resumes what it removes: whichever we see first.
  EXPECT_NE(wait_for_notice().text.find("box-2"), std::string::npos);
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  const auto verified = wait_for(LeaseState::kVerified);
  EXPECT_NE(verified.text.find("box-2 was removed"), std::string::npos) << verified.text;
  EXPECT_NE(verified.text.find("somebody else resumed it"), std::string::npos) << verified.text;
}

TEST_F(Containers, AContainerThatIsRestartedAndPausedByOthersStaysPaused) {
  podman_->start("box-1");
  add_boxes();
  const auto binding = bind_or_die("container.pause", chosen());
  start_holder();
  const auto lease = arm(binding);
  wait_for(LeaseState::kEffective);
  podman_->podman_says({"unpause", "box-1"});
  podman_->podman_says({"restart", "-t", "0", "box-1"});
  podman_->podman_says({"pause", "box-1"});
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  const auto verified = wait_for(LeaseState::kVerified);
  EXPECT_NE(verified.text.find("started anew"), std::string::npos) << verified.text;
  EXPECT_TRUE(is_frozen(podman_->pid("box-1")));
  podman_->podman_says({"unpause", "box-1"});
}

TEST_F(Containers, OnePausedAlreadyOrOutsideOfContainersIsRefused) {
  podman_->start("box-1");
  add_boxes();
  podman_->podman_says({"pause", "box-1"});
  const auto paused = try_bind("container.pause", chosen());
  ASSERT_FALSE(paused.ok());
  EXPECT_NE(paused.error().to_string().find("paused already"), std::string::npos);
  podman_->podman_says({"unpause", "box-1"});
  add_service(1);
  start_victim();
  wait_until([&] { return find_victims().size() == 1; }, "a victim");
  const auto outside = try_bind("container.pause", pause_parameters());
  ASSERT_FALSE(outside.ok());
  EXPECT_NE(outside.error().to_string().find("runs in no container"), std::string::npos);
}

TEST_F(Containers, StopEndsItAndStartsItAgain) {
  podman_->start("box-1");
  add_boxes();
  const auto first = podman_->pid("box-1");
  const auto binding = bind_or_die("container.stop", stop_parameters());
  start_holder();
  const auto lease = arm(binding);
  const auto effective = wait_for(LeaseState::kEffective);
  EXPECT_NE(effective.text.find("exited"), std::string::npos) << effective.text;
  EXPECT_FALSE(podman_->is_running("box-1"));
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  const auto verified = wait_for(LeaseState::kVerified);
  EXPECT_TRUE(podman_->is_running("box-1"));
  EXPECT_NE(podman_->pid("box-1"), first);
  EXPECT_EQ(proof_of(verified)["containers"][0]["pid"], podman_->pid("box-1"));
}

TEST_F(Containers, AStoppedContainerIsStartedWhenTheHolderDies) {
  podman_->start("box-1");
  add_boxes();
  const auto binding = bind_or_die("container.stop", stop_parameters());
  start_holder();
  arm(binding);
  wait_for(LeaseState::kEffective);
  kill_holder();
  wait_for(LeaseState::kVerified);
  EXPECT_TRUE(podman_->is_running("box-1"));
}

TEST_F(Containers, AStoppedContainerThatOthersStartIsToldAndNotStartedTwice) {
  podman_->start("box-1");
  add_boxes();
  const auto binding = bind_or_die("container.stop", stop_parameters());
  start_holder();
  const auto lease = arm(binding);
  wait_for(LeaseState::kEffective);
  podman_->podman_says({"start", "box-1"});
  EXPECT_NE(wait_for_notice().text.find("started anew"), std::string::npos);
  const auto theirs = podman_->pid("box-1");
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kVerified);
  EXPECT_EQ(podman_->pid("box-1"), theirs);
}

TEST_F(Containers, KillEndsItAndTheEngineStartsItAgain) {
  podman_->start("box-1");
  add_boxes();
  const auto binding = bind_or_die("container.kill", kill_with("start"));
  EXPECT_EQ(binding.lifetime, model::LifetimeClass::kOneWay);
  start_holder();
  const auto lease = arm(binding);
  wait_for(LeaseState::kEffective);
  EXPECT_FALSE(podman_->is_running("box-1"));
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kVerified);
  EXPECT_TRUE(podman_->is_running("box-1"));
}

TEST_F(Containers, KillAwaitsTheReplacementOfAnotherName) {
  podman_->start("box-1", {"--rm"});
  add_boxes();
  const auto refused = try_bind("container.kill", kill_with("start"));
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().to_string().find("--rm"), std::string::npos);
  const auto binding = bind_or_die("container.kill", kill_with("await"));
  start_holder();
  const auto lease = arm(binding);
  wait_for(LeaseState::kEffective);
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kReverted);
  podman_->start("box-2");
  const auto verified = wait_for(LeaseState::kVerified);
  EXPECT_NE(verified.text.find("container box-2"), std::string::npos) << verified.text;
}

TEST_F(Containers, RestartReplacesItsFirstProcess) {
  podman_->start("box-1");
  add_boxes();
  const auto first = podman_->pid("box-1");
  const auto binding = bind_or_die("container.restart", stop_parameters());
  start_holder();
  const auto lease = arm(binding);
  const auto effective = wait_for(LeaseState::kEffective);
  EXPECT_NE(effective.text.find("started anew"), std::string::npos) << effective.text;
  EXPECT_NE(podman_->pid("box-1"), first);
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kVerified);
  EXPECT_TRUE(podman_->is_running("box-1"));
}

}  // namespace
}  // namespace squall::inject
