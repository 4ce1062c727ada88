// Process and resource faults on a service that the map selects by container.

#include "inject/cgroup.h"
#include "integration/inject/container_fixture.h"

namespace squall::inject {
namespace {

class InsideContainers : public ContainerTest {};

TEST_F(InsideContainers, ProcessKindsFindTheMembersOfAContainer) {
  podman_->start("box-1", {}, {"/bin/sleep", "1000"});
  add_boxes();
  const pid_t pid = podman_->pid("box-1");
  const auto pause = bind_or_die("process.pause", chosen());
  ASSERT_EQ(pause.targets.size(), 1u);
  EXPECT_EQ(pause.targets[0].process.pid, pid);
  start_holder();
  const auto paused = arm(pause);
  wait_for(LeaseState::kEffective);
  ASSERT_TRUE(client_->revert(paused, "asked").ok());
  wait_for(LeaseState::kVerified);
  const Json with = {{"signal", "SIGKILL"}, {"restore", "none"}, {"limit", 20'000'000'000}};
  const auto killed = arm(bind_or_die("process.kill", chosen(with)));
  wait_for(LeaseState::kEffective);
  ASSERT_TRUE(client_->revert(killed, "asked").ok());
  wait_for(LeaseState::kVerified);
  wait_until([&] { return !podman_->is_running("box-1"); }, "the container to be down");
  auto start = with;
  start["restore"] = "start";
  podman_->podman_says({"start", "box-1"});
  const auto refused = try_bind("process.kill", chosen(start));
  ASSERT_FALSE(refused.ok());  // nobody says how it is started; container.kill knows
}

// A restarted container keeps its id, and what runs in it joins; the engine is not asked.
TEST_F(InsideContainers, ARestartedContainerJoinsAFaultOfItsProcesses) {
  podman_->start("box-1", {}, {"/bin/sleep", "1000"});
  add_boxes();
  const pid_t before = podman_->pid("box-1");
  auto parameters = chosen();
  parameters["mechanism"] = "signal";
  start_holder();
  const auto lease = arm(bind_or_die("process.pause", parameters));
  wait_for(LeaseState::kEffective);
  podman_->podman_says({"restart", "-t", "0", "box-1"});
  const auto notice = wait_for_event(
      [](const LeaseEvent& event) {
        return event.notice && event.text.find("came up in place") != std::string::npos;
      },
      true, true);
  EXPECT_NE(notice.text.find("of pid " + std::to_string(before)), std::string::npos) << notice.text;
  const auto fresh = base::identify_process(podman_->pid("box-1"));
  ASSERT_TRUE(fresh.ok());
  EXPECT_TRUE(stopped(*fresh));
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kVerified);
  wait_until_runs(*fresh);
}

TEST_F(InsideContainers, ResourceKindsActOnTheContainersOwnGroup) {
  podman_->start("box-1", {"--pids-limit", "50"}, {"/bin/sleep", "1000"});
  add_boxes();
  const auto binding = bind_or_die("resource.pids", chosen({{"limit", 7}}));
  EXPECT_NE(binding.details.json().dump().find("libpod-"), std::string::npos);
  const auto group = controller_group_of(podman_->pid("box-1"), "pids", "pids");
  ASSERT_TRUE(group.ok());
  const auto limit = [&] {
    return std::string(base::trim(base::read_pseudo_file(group->folder + "/pids.max").value()));
  };
  const std::string before = limit();
  start_holder();
  const auto lease = arm(binding);
  wait_for(LeaseState::kArmed);
  EXPECT_EQ(limit(), "7");
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kVerified);
  EXPECT_EQ(limit(), before);
}

TEST_F(InsideContainers, AContainerHasLessMemoryUntilTheRevert) {
  podman_->start("box-1", {"--memory", "64m"}, {"/bin/sleep", "1000"});
  add_boxes();
  const auto group = controller_group_of(podman_->pid("box-1"), "memory", "memory");
  ASSERT_TRUE(group.ok());
  const auto limit = [&] {
    const char* name = group->v2 ? "/memory.max" : "/memory.limit_in_bytes";
    return std::string(base::trim(base::read_pseudo_file(group->folder + name).value()));
  };
  ASSERT_EQ(limit(), std::to_string(64 << 20));
  start_holder();
  arm(bind_or_die("resource.memory_limit", chosen({{"limit", 16 << 20}})));
  wait_for(LeaseState::kArmed);
  EXPECT_EQ(limit(), std::to_string(16 << 20));
  kill_holder();
  wait_for(LeaseState::kVerified);
  EXPECT_EQ(limit(), std::to_string(64 << 20));
  EXPECT_TRUE(podman_->is_running("box-1"));
}

}  // namespace
}  // namespace squall::inject
