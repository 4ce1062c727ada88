#include "integration/inject/fixture.h"

namespace squall::inject {
namespace {

class ProcessFaults : public InjectTest {};

TEST_F(ProcessFaults, KillIsEffectiveAndTheMemberIsStartedAgain) {
  add_service(3);
  for (int i = 0; i < 3; ++i) start_victim();
  wait_until([&] { return find_victims().size() == 3; }, "three victims");
  const auto binding = bind_or_die("process.kill", kill_parameters("start"));
  ASSERT_EQ(binding.targets.size(), 1u);
  const auto target = binding.targets[0].process;
  start_holder();
  const auto lease = arm(binding);
  EXPECT_NE(wait_for(LeaseState::kArmed).text.find("SIGKILL"), std::string::npos);
  EXPECT_NE(wait_for(LeaseState::kEffective).text.find("ended"), std::string::npos);
  EXPECT_EQ(find_victims().size(), 2u);
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  EXPECT_EQ(wait_for(LeaseState::kReverting).cause, "asked");
  wait_for(LeaseState::kReverted);
  EXPECT_NE(wait_for(LeaseState::kVerified).proof.find("replacements"), std::string::npos);
  const auto now = find_victims();
  EXPECT_EQ(now.size(), 3u);
  for (const auto& member : now) EXPECT_FALSE(member.process.identity == target);
  // What was started outlives the holder.
  client_.reset();
  EXPECT_EQ(find_victims().size(), 3u);
}

TEST_F(ProcessFaults, KillAwaitsTheSupervisorsReplacement) {
  add_service(1);
  start_victim();
  wait_until([&] { return find_victims().size() == 1; }, "a victim");
  const auto binding = bind_or_die("process.kill", kill_parameters("await"));
  start_holder();
  const auto lease = arm(binding);
  wait_for(LeaseState::kEffective);
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  EXPECT_NE(wait_for(LeaseState::kReverted).text.find("waiting"), std::string::npos);
  const auto replacement = start_victim();
  const auto verified = wait_for(LeaseState::kVerified);
  EXPECT_NE(verified.text.find(std::to_string(replacement.pid)), std::string::npos);
}

TEST_F(ProcessFaults, KillSaysWhenNoReplacementComes) {
  add_service(1);
  start_victim();
  wait_until([&] { return find_victims().size() == 1; }, "a victim");
  auto parameters = kill_parameters("await");
  parameters["limit"] = 100'000'000;
  const auto binding = bind_or_die("process.kill", parameters);
  start_holder();
  const auto lease = arm(binding);
  wait_for(LeaseState::kEffective);
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  const auto failed = wait_for(LeaseState::kFailed);
  EXPECT_TRUE(failed.still_active);
  EXPECT_NE(failed.text.find("no replacement"), std::string::npos);
  start_victim();  // late, but it comes: the revert is tried on
  EXPECT_EQ(
      wait_for_event([](const auto& e) { return e.state == LeaseState::kVerified; }, false, true)
          .state,
      LeaseState::kVerified);
}

TEST_F(ProcessFaults, ATargetThatDiesBetweenBindAndArmIsToldAndNothingIsLeft) {
  add_service(1);
  start_victim();
  wait_until([&] { return find_victims().size() == 1; }, "a victim");
  const auto kill = bind_or_die("process.kill", kill_parameters("start"));
  const auto pause = bind_or_die("process.pause", pause_parameters());
  ::kill(kill.targets[0].process.pid, SIGKILL);
  ASSERT_TRUE(victims_[0].wait(10s).ok());
  start_holder();
  for (const auto& binding : {kill, pause}) {
    arm(binding);
    const auto failed = wait_for(LeaseState::kFailed);
    EXPECT_FALSE(failed.still_active);
    EXPECT_NE(failed.text.find("between bind and arm"), std::string::npos) << failed.text;
  }
  EXPECT_TRUE(find_victims().empty());
}

// A replay has a starter of its own.
TEST_F(ProcessFaults, AKilledServiceIsStartedAgainAlthoughTheStarterDied) {
  add_service(1);
  start_victim();
  const auto binding = bind_or_die("process.kill", kill_parameters("start"));
  start_holder();
  const auto lease = arm(binding);
  wait_for(LeaseState::kEffective);
  EXPECT_TRUE(find_victims().empty());
  const auto active = active_leases(state_);
  ASSERT_TRUE(active.ok() && active->size() == 1);
  const auto family = tree_of(*read_process_table(), (*active)[0].holder);
  ASSERT_EQ(family.size(), 2u);
  ASSERT_TRUE(base::PidFd::open(family[1].identity)->signal(SIGKILL).ok());
  wait_until([&] { return process_state(family[1].identity).value_or('X') != 'S'; }, "its end");
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kVerified);
  EXPECT_EQ(find_victims().size(), 1u);
}

TEST_F(ProcessFaults, PauseStopsTheWholeTreeAndLetsItRunOn) {
  add_service(1);
  const auto victim = start_victim({"children=3"});
  wait_until([&] { return tree_of(*read_process_table(), victim).size() == 4; }, "children");
  const auto binding = bind_or_die("process.pause", pause_parameters());
  EXPECT_EQ(binding.mechanism, "SIGSTOP");
  start_holder();
  const auto lease = arm(binding);
  EXPECT_NE(wait_for(LeaseState::kEffective).proof.find("states"), std::string::npos);
  for (const auto& entry : tree_of(*read_process_table(), victim)) EXPECT_EQ(entry.state, 'T');
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kVerified);
  for (const auto& entry : tree_of(*read_process_table(), victim)) EXPECT_NE(entry.state, 'T');
}

TEST_F(ProcessFaults, PauseCatchesChildrenThatAreBornMeanwhile) {
  add_service(1);
  const auto victim = start_victim({"forks"});
  wait_until([&] { return tree_of(*read_process_table(), victim).size() > 1; }, "a child");
  const auto binding = bind_or_die("process.pause", pause_parameters());
  start_holder();
  const auto lease = arm(binding);
  wait_for(LeaseState::kEffective);
  for (const auto& entry : tree_of(*read_process_table(), victim))
    EXPECT_TRUE(entry.state == 'T' || entry.state == 'Z') << entry.state;
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kVerified);
}

TEST_F(ProcessFaults, WhatSomebodyElseStoppedStaysStopped) {
  add_service(1);
  const auto victim = start_victim({"children=2"});
  const auto theirs = stop_a_child(victim);
  const auto binding = bind_or_die("process.pause", pause_parameters());
  start_holder();
  const auto lease = arm(binding);
  wait_for(LeaseState::kEffective);
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kVerified);
  EXPECT_TRUE(stopped(theirs));
  EXPECT_FALSE(stopped(victim));
}

TEST_F(ProcessFaults, ATargetThatIsStoppedAlreadyIsRefused) {
  add_service(1);
  const auto victim = start_victim();
  ::kill(victim.pid, SIGSTOP);
  wait_until([&] { return stopped(victim); }, "a stopped victim");
  const auto binding = bind_or_die("process.pause", pause_parameters());
  start_holder();
  arm(binding);
  const auto failed = wait_for(LeaseState::kFailed);
  EXPECT_NE(failed.text.find("stopped already"), std::string::npos);
  EXPECT_TRUE(stopped(victim));
}

TEST_F(ProcessFaults, ATargetThatDiesWhilePausedIsTold) {
  add_service(1);
  const auto victim = start_victim();
  const auto binding = bind_or_die("process.pause", pause_parameters());
  start_holder();
  const auto lease = arm(binding);
  wait_for(LeaseState::kEffective);
  ::kill(victim.pid, SIGKILL);
  EXPECT_NE(wait_for_notice().text.find("died while paused"), std::string::npos);
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  EXPECT_NE(wait_for(LeaseState::kVerified).text.find("died while paused"), std::string::npos);
}

TEST_F(ProcessFaults, PauseFreezesAGroupThatHoldsOnlyTheTarget) {
  const auto mounted =
      base::run_command({.argv = {"findmnt", "-nfo", "TARGET", "-t", "cgroup2"}}, 10s);
  if (!mounted.ok() || mounted->output.empty()) GTEST_SKIP() << "no cgroup v2 here";
  add_service(1);
  const auto victim = start_victim({"children=2"});
  wait_until([&] { return tree_of(*read_process_table(), victim).size() == 3; }, "children");
  const std::string mount = mounted->output.substr(0, mounted->output.find('\n'));
  const std::string group = mount + "/squall-test-" + std::to_string(::getpid());
  std::filesystem::create_directory(group);
  for (const auto& entry : tree_of(*read_process_table(), victim)) {
    const base::UniqueFd procs{::open((group + "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC)};
    ASSERT_TRUE(base::write_all(procs.get(), std::to_string(entry.identity.pid)).ok());
  }
  const auto binding = bind_or_die("process.pause", pause_parameters());
  EXPECT_EQ(binding.mechanism, "cgroup v2 freezer");
  start_holder();
  const auto lease = arm(binding);
  wait_for(LeaseState::kEffective);
  EXPECT_NE(base::read_pseudo_file(group + "/cgroup.events")->find("frozen 1"), std::string::npos);
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kVerified);
  EXPECT_NE(base::read_pseudo_file(group + "/cgroup.events")->find("frozen 0"), std::string::npos);
  ::kill(victim.pid, SIGKILL);
  wait_until([&] { return ::rmdir(group.c_str()) == 0; }, "an empty group");
}

TEST_F(ProcessFaults, RestartEndsTheMemberAndStartsItAtOnce) {
  add_service(1);
  const auto victim = start_victim({"ignore-term"});
  const Json parameters = {{"service", "victim"},    {"count", 1},           {"random", true},
                           {"signal", "SIGTERM"},    {"grace", 100'000'000}, {"restore", "start"},
                           {"limit", 20'000'000'000}};
  wait_until([&] { return find_victims().size() == 1; }, "a victim");
  const auto binding = bind_or_die("process.restart", parameters);
  start_holder();
  const auto lease = arm(binding);
  EXPECT_NE(wait_for(LeaseState::kEffective).text.find("SIGKILL"), std::string::npos);
  EXPECT_NE(wait_for_notice().text.find("started again"), std::string::npos);
  EXPECT_NE(wait_for_notice().text.find("in place of"), std::string::npos);
  ASSERT_EQ(find_victims().size(), 1u);
  EXPECT_FALSE(find_victims()[0].process.identity == victim);
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kVerified);
  EXPECT_EQ(find_victims().size(), 1u);
}

TEST_F(ProcessFaults, BindRefusesWhatItCannotAimAt) {
  add_service(1);
  auto none = try_bind("process.kill", kill_parameters("start"));
  ASSERT_FALSE(none.ok());
  EXPECT_EQ(none.error().code, base::ErrorCode::kNotFound);
  start_victim();
  start_victim();
  wait_until([&] { return find_victims().size() == 2; }, "two victims");
  auto many = try_bind("process.kill", kill_parameters("start"));
  ASSERT_FALSE(many.ok());
  EXPECT_NE(many.error().message.find("matches 2 processes"), std::string::npos);
  EXPECT_NE(many.error().hint.find("members: 2"), std::string::npos);
  map_.services[0].expected_members = 3;
  auto more = try_bind("process.kill", kill_parameters("start", 3));
  ASSERT_FALSE(more.ok());
  map_.services[0].start.clear();
  auto unstartable = try_bind("process.kill", kill_parameters("start"));
  ASSERT_FALSE(unstartable.ok());
  EXPECT_NE(unstartable.error().hint.find("await"), std::string::npos);
  auto stop = kill_parameters("none");
  stop["signal"] = "SIGSTOP";
  EXPECT_FALSE(try_bind("process.kill", stop).ok());
}

TEST_F(ProcessFaults, EveryProcessKindCanBeRehearsed) {
  add_service(1);
  start_victim();
  wait_until([&] { return find_victims().size() == 1; }, "a victim");
  start_holder();
  for (const char* kind : {"process.kill", "process.pause"}) {
    const auto binding =
        bind_or_die(kind, std::string_view(kind) == "process.pause" ? pause_parameters()
                                                                    : kill_parameters("start"));
    const auto rehearsed = client_->rehearse(binding);
    ASSERT_TRUE(rehearsed.ok()) << rehearsed.error().to_string();
    EXPECT_NE(rehearsed->find("reverted and verified"), std::string::npos);
  }
  EXPECT_EQ(find_victims().size(), 1u);
}

}  // namespace
}  // namespace squall::inject
