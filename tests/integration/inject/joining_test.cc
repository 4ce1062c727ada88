// Members that are restarted while a fault holds them: they join it within the plan's bounds, and
// are let go with it.

#include "base/text.h"
#include "inject/cgroup.h"
#include "inject/freezer.h"
#include "integration/inject/fixture.h"

namespace squall::inject {
namespace {

class Joining : public InjectTest {
 protected:
  static Json with(Json parameters, const Json& more) {
    parameters.update(more);
    return parameters;
  }
  void await_victims(std::size_t count) {
    wait_until([&] { return find_victims().size() == count; }, "the victims");
  }
  base::LeaseId put_in_force(const model::FaultBinding& binding) {
    if (client_ == nullptr) start_holder();
    const auto lease = arm(binding);
    wait_for(LeaseState::kEffective);
    return lease;
  }
  LeaseEvent wait_for_notice_with(const std::string& words) {
    return wait_for_event(
        [&](const LeaseEvent& event) {
          return event.notice && event.text.find(words) != std::string::npos;
        },
        true, true);
  }
  LeaseEvent revert(base::LeaseId lease) {
    EXPECT_TRUE(client_->revert(lease, "asked").ok());
    return wait_for(LeaseState::kVerified);
  }
  static std::string in_place_of(const base::ProcessIdentity& process) {
    return "in place of pid " + std::to_string(process.pid);
  }
  static std::string limit_of(pid_t process) {
    const auto text = base::run_command({.argv = {"prlimit", "--pid", std::to_string(process),
                                                  "--nofile", "--noheadings", "--output", "SOFT"}},
                                        10s);
    return std::string(base::trim(text.ok() ? text->output : std::string{}));
  }
};

TEST_F(Joining, ARestartedMemberIsPausedTooAndRunsOnAtTheRevert) {
  add_service(1);
  const auto victim = start_victim();
  const auto lease = put_in_force(bind_or_die("process.pause", pause_parameters()));
  ::kill(victim.pid, SIGKILL);
  wait_for_notice_with("died while paused");
  const auto fresh = start_victim({"children=2"});
  const auto notice = wait_for_notice_with(in_place_of(victim));
  EXPECT_NE(notice.text.find("is stopped, too"), std::string::npos) << notice.text;
  EXPECT_TRUE(stopped(fresh));
  for (const auto& entry : tree_of(*read_process_table(), fresh)) EXPECT_EQ(entry.state, 'T');
  revert(lease);
  wait_until_runs(fresh);
  for (const auto& entry : tree_of(*read_process_table(), fresh)) EXPECT_NE(entry.state, 'T');
}

TEST_F(Joining, AHolderThatDiesRightAfterAJoinLeavesNothing) {
  add_service(1);
  const auto victim = start_victim();
  put_in_force(bind_or_die("process.pause", pause_parameters()));
  ::kill(victim.pid, SIGKILL);
  const auto fresh = start_victim();
  wait_until([&] { return stopped(fresh); }, "the new one to be stopped");
  kill_holder();
  await_replay();
  wait_until_runs(fresh);
}

TEST_F(Joining, NoMoreThanThePlanAllowsAreHeldAtATime) {
  add_service(2);
  start_victim();
  start_victim();
  await_victims(2);
  const auto binding = bind_or_die("process.pause", pause_parameters());
  const auto lease = put_in_force(binding);
  for (const auto& member : find_victims()) ::kill(member.process.identity.pid, SIGKILL);
  wait_for_notice_with("died while paused");
  const std::vector<base::ProcessIdentity> fresh{start_victim(), start_victim()};
  wait_for_notice_with(in_place_of(binding.targets[0].process));
  ASSERT_NE(stopped(fresh[0]), stopped(fresh[1]));
  // The other one runs beside it: it is not its successor, either.
  const auto& held = stopped(fresh[0]) ? fresh[0] : fresh[1];
  const auto& beside = stopped(fresh[0]) ? fresh[1] : fresh[0];
  ::kill(held.pid, SIGKILL);
  wait_for_notice_with("died while paused");
  const auto third = start_victim();
  wait_for_notice_with(in_place_of(held));
  EXPECT_TRUE(stopped(third));
  EXPECT_FALSE(stopped(beside));
  revert(lease);
  wait_until_runs(third);
}

// More than the map says: nobody can tell which of them is the member.
TEST_F(Joining, NobodyJoinsWhenMoreMatchThanTheMapSays) {
  add_service(1);
  const auto victim = start_victim();
  const auto lease = put_in_force(bind_or_die("process.pause", pause_parameters()));
  const auto beside = start_victim();
  const auto another = start_victim();
  ::kill(victim.pid, SIGKILL);
  const auto notice = wait_for_notice_with("nobody can join");
  EXPECT_NE(notice.text.find("matches 2 processes"), std::string::npos) << notice.text;
  EXPECT_FALSE(stopped(beside));
  EXPECT_FALSE(stopped(another));
  revert(lease);
}

TEST_F(Joining, WithoutJoinsANewMemberRunsAndThatIsTold) {
  add_service(1);
  const auto victim = start_victim();
  const auto binding = bind_or_die("process.pause", with(pause_parameters(), {{"joins", false}}));
  const auto lease = put_in_force(binding);
  ::kill(victim.pid, SIGKILL);
  const auto notice = wait_for_notice_with("died while paused");
  EXPECT_NE(notice.text.find("runs without the fault"), std::string::npos) << notice.text;
  const auto fresh = start_victim();
  await_victims(1);
  const auto verified = revert(lease);
  EXPECT_EQ(verified.proof.find(std::to_string(fresh.pid)), std::string::npos) << verified.proof;
}

TEST_F(Joining, WhoJoinedIsTakenForOtherFaults) {
  add_service(1);
  const auto victim = start_victim();
  const auto lease = put_in_force(bind_or_die("process.pause", pause_parameters()));
  ::kill(victim.pid, SIGKILL);
  wait_for_notice_with("died while paused");
  const auto fresh = start_victim();
  wait_for_notice_with(in_place_of(victim));
  arm(bind_or_die("resource.descriptors", with(pause_parameters(), {{"limit", 20}})));
  const auto failed = wait_for(LeaseState::kFailed);
  EXPECT_NE(failed.text.find("already under the fault"), std::string::npos) << failed.text;
  EXPECT_NE(failed.text.find(std::to_string(fresh.pid)), std::string::npos) << failed.text;
  revert(lease);
}

TEST_F(Joining, ARestartedMemberIsLimitedTooAlsoForAReplay) {
  add_service(1);
  const auto victim = start_victim();
  const std::string before = limit_of(victim.pid);
  const auto binding =
      bind_or_die("resource.descriptors", with(pause_parameters(), {{"limit", 20}}));
  for (const bool killed : {false, true}) {
    const auto bound =
        killed ? bind_or_die("resource.descriptors", with(pause_parameters(), {{"limit", 20}}))
               : binding;
    const auto lease = put_in_force(bound);
    const auto held = bound.targets[0].process;
    ::kill(held.pid, SIGKILL);
    const auto fresh = start_victim();
    const auto notice = wait_for_notice_with(in_place_of(held));
    EXPECT_NE(notice.text.find("is limited, too"), std::string::npos) << notice.text;
    EXPECT_EQ(limit_of(fresh.pid), "20");
    if (killed) {
      kill_holder();
      await_replay();
    } else {
      revert(lease);
    }
    EXPECT_EQ(limit_of(fresh.pid), before);
  }
}

// ---- by a tracer ------------------------------------------------------------------------------

class Tracing : public Joining {
 protected:
  static Json traced() { return with(pause_parameters(), {{"mechanism", "ptrace"}}); }
  static bool held(const base::ProcessIdentity& process) {
    return process_state(process).value_or('X') == 't';
  }
};

TEST_F(Tracing, AllThreadsStandStillWhateverSignalsSay) {
  add_service(1);
  const auto victim = start_victim({"children=2"});
  wait_until([&] { return tree_of(*read_process_table(), victim).size() == 3; }, "children");
  const auto binding = bind_or_die("process.pause", traced());
  EXPECT_EQ(binding.mechanism, "ptrace stop");
  EXPECT_EQ(binding.lifetime, model::LifetimeClass::kKernelHeld);
  start_holder();
  const auto rehearsed = client_->rehearse(binding);
  ASSERT_TRUE(rehearsed.ok()) << rehearsed.error().to_string();
  const auto lease = put_in_force(binding);
  ::kill(victim.pid, SIGCONT);
  for (const auto& entry : tree_of(*read_process_table(), victim)) EXPECT_EQ(entry.state, 't');
  // What somebody else asks for meanwhile is done afterwards.
  const auto child = tree_of(*read_process_table(), victim)[1].identity;
  ::kill(child.pid, SIGSTOP);
  revert(lease);
  wait_until_runs(victim);
  wait_until([&] { return stopped(child); }, "the child to be stopped by its signal");
}

TEST_F(Tracing, WhatWasStoppedBeforeStaysStopped) {
  add_service(1);
  const auto victim = start_victim({"children=2"});
  const auto theirs = stop_a_child(victim);
  const auto lease = put_in_force(bind_or_die("process.pause", traced()));
  EXPECT_TRUE(held(theirs));
  revert(lease);
  wait_until_runs(victim);
  wait_until([&] { return stopped(theirs); }, "the child to be stopped again");
}

TEST_F(Tracing, ChildrenThatAreBornMeanwhileStandStillToo) {
  add_service(1);
  const auto victim = start_victim({"forks"});
  wait_until([&] { return tree_of(*read_process_table(), victim).size() > 1; }, "a child");
  const auto lease = put_in_force(bind_or_die("process.pause", traced()));
  for (const auto& entry : tree_of(*read_process_table(), victim))
    EXPECT_TRUE(entry.state == 't' || entry.state == 'Z') << entry.state;
  revert(lease);
  wait_until([&] { return !held(victim); }, "the victim to run");
}

TEST_F(Tracing, TheKernelLetsThemGoWhenTheHolderDiesAlsoThoseThatJoined) {
  add_service(1);
  const auto victim = start_victim();
  put_in_force(bind_or_die("process.pause", traced()));
  ::kill(victim.pid, SIGKILL);
  wait_for_notice_with("died while paused");
  const auto fresh = start_victim();
  EXPECT_NE(wait_for_notice_with(in_place_of(victim)).text.find("is stopped, too, by process"),
            std::string::npos);
  EXPECT_TRUE(held(fresh));
  kill_holder();
  wait_until_runs(fresh);
  await_replay();
}

TEST_F(Tracing, ATracerThatIsKilledEndsTheFault) {
  add_service(1);
  const auto victim = start_victim();
  start_holder();
  arm(bind_or_die("process.pause", traced()));
  const auto tracer = proof_of(wait_for(LeaseState::kEffective)).value("tracer", 0);
  ASSERT_GT(tracer, 0);
  ::kill(tracer, SIGKILL);
  EXPECT_EQ(wait_for(LeaseState::kReverting).cause, "fault broke");
  wait_for(LeaseState::kVerified);
  wait_until_runs(victim);
}

TEST_F(Tracing, AProcessThatIsTracedAlreadyIsRefused) {
  add_service(1);
  const auto victim = start_victim();
  const auto lease = put_in_force(bind_or_die("process.pause", traced()));
  auto refused = try_bind("process.pause", traced());
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message.find("traced by process"), std::string::npos)
      << refused.error().message;
  revert(lease);
  wait_until_runs(victim);
}

// ---- freezers ---------------------------------------------------------------------------------

class Freezing : public Joining {
 protected:
  // A group of this test in the hierarchy at `mount`.
  bool make_group(const std::string& mount) {
    if (!std::filesystem::exists(mount + "/cgroup.procs")) return false;
    group_ = mount + "/squall-test-" + std::to_string(::getpid());
    return std::filesystem::create_directory(group_);
  }
  bool make_group_2() {
    const auto mount = freezer_mount(true);
    return mount.ok() && make_group(*mount);
  }
  bool make_group_1() {
    const auto mount = freezer_mount(false);
    return mount.ok() && make_group(*mount);
  }
  void TearDown() override {
    if (!group_.empty()) {
      if (std::filesystem::exists(group_ + "/freezer.state")) write("freezer.state", "THAWED");
      if (std::filesystem::exists(group_ + "/cgroup.freeze")) write("cgroup.freeze", "0");
    }
    Joining::TearDown();
    if (!group_.empty()) wait_until([&] { return ::rmdir(group_.c_str()) == 0; }, "an empty group");
  }
  void write(const std::string& file, const std::string& text) const {
    const base::UniqueFd fd{::open((group_ + "/" + file).c_str(), O_WRONLY | O_CLOEXEC)};
    ASSERT_TRUE(base::write_all(fd.get(), text).ok());
  }
  std::string read(const std::string& file) const {
    return base::read_pseudo_file(group_ + "/" + file).value_or(std::string{});
  }
  bool frozen() const { return read("freezer.state") == "FROZEN\n"; }
  base::ProcessIdentity start_in_group(const std::vector<std::string>& more = {}) {
    std::vector<std::string> words{"group=" + group_};
    words.insert(words.end(), more.begin(), more.end());
    const auto victim = start_victim(words);
    wait_until(
        [&] { return read("cgroup.procs").find(std::to_string(victim.pid)) != std::string::npos; },
        "the victim in its group");
    return victim;
  }

  std::string group_;
};

TEST_F(Freezing, ARestartedMemberOfAFrozenGroupIsFrozenTooOrStopped) {
  if (!make_group_2()) GTEST_SKIP() << "no cgroup v2 here";
  add_service(1);
  const auto victim = start_in_group();
  const auto binding = bind_or_die("process.pause", pause_parameters());
  ASSERT_EQ(binding.mechanism, "cgroup v2 freezer");
  const auto lease = put_in_force(binding);
  ::kill(victim.pid, SIGKILL);
  wait_for_notice_with("died while paused");
  const auto second = start_in_group();
  EXPECT_NE(wait_for_notice_with(in_place_of(victim)).text.find("is frozen, too"),
            std::string::npos);
  ::kill(second.pid, SIGKILL);
  wait_for_notice_with("died while paused");
  const auto third = start_victim();  // somewhere else
  EXPECT_NE(wait_for_notice_with(in_place_of(second)).text.find("is stopped, too"),
            std::string::npos);
  EXPECT_TRUE(stopped(third));
  revert(lease);
  wait_until_runs(third);
  EXPECT_NE(read("cgroup.events").find("frozen 0"), std::string::npos);
}

TEST_F(Freezing, TheFreezerOfCgroupV1HoldsTheWholeGroup) {
  if (!make_group_1()) GTEST_SKIP() << "no v1 freezer here";
  add_service(1);
  const auto victim = start_in_group({"children=2"});
  wait_until([&] { return tree_of(*read_process_table(), victim).size() == 3; }, "children");
  const auto binding =
      bind_or_die("process.pause", with(pause_parameters(), {{"mechanism", "freezer"}}));
  ASSERT_EQ(binding.mechanism, "cgroup v1 freezer");
  start_holder();
  const auto rehearsed = client_->rehearse(binding);
  ASSERT_TRUE(rehearsed.ok()) << rehearsed.error().to_string();
  const auto lease = put_in_force(binding);
  EXPECT_TRUE(frozen());
  for (const auto& entry : tree_of(*read_process_table(), victim)) EXPECT_EQ(entry.state, 'D');
  revert(lease);
  EXPECT_EQ(read("freezer.state"), "THAWED\n");
  wait_until_runs(victim);
  put_in_force(binding);
  kill_holder();
  await_replay();
  EXPECT_EQ(read("freezer.state"), "THAWED\n");
}

TEST_F(Freezing, WhatSomebodyElseDoesToAV1GroupStays) {
  if (!make_group_1()) GTEST_SKIP() << "no v1 freezer here";
  add_service(1);
  start_in_group();
  const auto binding =
      bind_or_die("process.pause", with(pause_parameters(), {{"mechanism", "freezer"}}));
  ASSERT_EQ(binding.mechanism, "cgroup v1 freezer");
  const auto lease = put_in_force(binding);
  write("freezer.state", "THAWED");
  EXPECT_NE(revert(lease).text.find("is not frozen"), std::string::npos);
  write("freezer.state", "FROZEN");
  wait_until([&] { return frozen(); }, "a frozen group");
  arm(binding);
  EXPECT_NE(wait_for(LeaseState::kFailed).text.find("frozen already"), std::string::npos);
  EXPECT_TRUE(frozen());
}

TEST_F(Freezing, AFreezerIsRefusedWhereOthersWouldStandStillToo) {
  if (!make_group_1()) GTEST_SKIP() << "no v1 freezer here";
  add_service(1);
  start_in_group();
  auto stranger = base::spawn({.argv = {"sleep", "60"}, .parent_death_signal = SIGKILL});
  ASSERT_TRUE(stranger.ok());
  write("cgroup.procs", std::to_string(stranger->pid()));
  auto refused = try_bind("process.pause", with(pause_parameters(), {{"mechanism", "freezer"}}));
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message.find("also holds process"), std::string::npos)
      << refused.error().message;
  EXPECT_EQ(bind_or_die("process.pause", pause_parameters()).mechanism, "SIGSTOP");
  ASSERT_TRUE(stranger->pidfd().signal(SIGKILL).ok());
  ASSERT_TRUE(stranger->wait(10s).ok());
}

// ---- limits of groups -------------------------------------------------------------------------

TEST_F(Freezing, AGroupThatIsMadeAnewForTheNewMemberIsLimitedAgain) {
  const auto hierarchy = controller_hierarchy("pids", "pids");
  if (!hierarchy.ok() || hierarchy->v2 || !make_group(hierarchy->folder))
    GTEST_SKIP() << "no v1 controller for the number of processes here";
  add_service(1);
  auto victim = start_in_group();
  const auto binding = bind_or_die("resource.pids", with(pause_parameters(), {{"limit", 30}}));
  start_holder();
  const auto lease = arm(binding);
  wait_for(LeaseState::kArmed);
  ASSERT_EQ(read("pids.max"), "30\n");
  for (const bool anew : {false, true}) {
    ::kill(victim.pid, SIGKILL);
    wait_for_notice_with("ended while its cgroup was limited");
    if (anew) {
      wait_until([&] { return ::rmdir(group_.c_str()) == 0; }, "an empty group");
      ASSERT_TRUE(std::filesystem::create_directory(group_));
    }
    const auto before = victim;
    victim = start_in_group();
    EXPECT_NE(wait_for_notice_with(in_place_of(before)).text.find("its cgroup is limited"),
              std::string::npos);
    EXPECT_EQ(read("pids.max"), "30\n");
  }
  ::kill(victim.pid, SIGKILL);
  wait_for_notice_with("ended while its cgroup was limited");
  const auto elsewhere = start_victim();
  const auto notice = wait_for_notice_with(in_place_of(victim));
  EXPECT_NE(notice.text.find("runs without the fault: it is in another cgroup"), std::string::npos)
      << notice.text << elsewhere.pid;
  revert(lease);
  EXPECT_EQ(read("pids.max"), "max\n");
}

}  // namespace
}  // namespace squall::inject
