// The promise: whoever dies, hangs or is silent, the fault ends.

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <map>
#include <set>

#include "inject/journal.h"
#include "inject/registry.h"
#include "integration/inject/fixture.h"

namespace squall::inject {
namespace {

class Leases : public InjectTest {
 protected:
  void SetUp() override {
    InjectTest::SetUp();
    if (IsSkipped()) return;
    add_service(1);
    victim_ = start_victim();
    wait_until([&] { return find_victims().size() == 1; }, "a victim");
    pause_ = bind_or_die("process.pause", pause_parameters());
  }

  base::LeaseId pause_victim(base::Duration duration = 60s) {
    start_holder();
    const auto lease = arm(pause_, duration);
    wait_for(LeaseState::kEffective);
    EXPECT_TRUE(stopped(victim_));
    return lease;
  }

  base::ProcessIdentity holder() {
    const auto runs = run_files(StateDirectory{state_});
    return runs.empty() ? base::ProcessIdentity{} : runs[0].holder;
  }

  static pid_t parent_of(pid_t pid) {
    for (const auto& entry : *read_process_table()) {
      if (entry.identity.pid == pid) return entry.parent;
    }
    return 0;
  }

  base::ChildProcess start_engine(const std::string& seconds) {
    const std::string file = folder_ + "/binding.json";
    EXPECT_TRUE(base::write_file_atomically(file, model::to_json(pause_).dump()).ok());
    return base::spawn({.argv = {program("engine_for_tests"), program("holder_for_tests"), state_,
                                 file, seconds},
                        .parent_death_signal = SIGKILL})
        .value();
  }

  // Engine, keeper and holder are killed at once, as by a power cut that spares the victim.
  void leave_a_pause_behind() {
    auto engine = start_engine("60");
    wait_until([&] { return stopped(victim_); }, "the pause");
    const auto held = base::PidFd::open(holder());
    const auto kept = base::PidFd::open(parent_of(holder().pid));
    ASSERT_TRUE(held.ok() && kept.ok());
    const std::array dying{&engine.pidfd(), &*kept, &*held};
    for (const auto* process : dying) ASSERT_TRUE(process->signal(SIGSTOP).ok());
    for (const auto* process : dying) ASSERT_TRUE(process->signal(SIGKILL).ok());
    ASSERT_TRUE(engine.wait(10s).ok());
    wait_until([&] { return held->ended(); }, "the holder's death");
  }

  base::ProcessIdentity victim_;
  model::FaultBinding pause_;
};

TEST_F(Leases, TheDeadlineEndsIt) {
  pause_victim(300ms);
  EXPECT_EQ(wait_for(LeaseState::kReverting).cause, "deadline");
  wait_for(LeaseState::kVerified);
  EXPECT_FALSE(stopped(victim_));
}

TEST_F(Leases, MissedRenewalsEndIt) {
  auto quick = options();
  quick.renewal_limit = 300ms;
  client_ = HolderClient::start(quick).value();
  arm(pause_);
  const auto reverting = wait_for(LeaseState::kReverting, /*renewing=*/false);
  EXPECT_EQ(reverting.cause, "heartbeat missing");
  wait_for(LeaseState::kVerified);
  EXPECT_FALSE(stopped(victim_));
}

TEST_F(Leases, AKilledEngineEndsIt) {
  auto engine = start_engine("60");
  wait_until([&] { return stopped(victim_); }, "the pause");
  ASSERT_TRUE(engine.pidfd().signal(SIGKILL).ok());
  const base::Instant killed = base::BootClock::now();
  wait_until_runs(victim_);
  RecordProperty("milliseconds", std::to_string((base::BootClock::now() - killed) / 1ms));
  ASSERT_TRUE(engine.wait(10s).ok());
  wait_until([&] { return run_files(StateDirectory{state_}).empty(); }, "the holder's end");
}

TEST_F(Leases, AStoppedEngineEndsIt) {
  auto engine = start_engine("60");
  wait_until([&] { return stopped(victim_); }, "the pause");
  ASSERT_TRUE(engine.pidfd().signal(SIGSTOP).ok());
  wait_until_runs(victim_);
  ASSERT_TRUE(engine.pidfd().signal(SIGKILL).ok());
  ASSERT_TRUE(engine.wait(10s).ok());
  wait_until([&] { return run_files(StateDirectory{state_}).empty(); }, "the holder's end");
}

TEST_F(Leases, EverySignalToTheHolderEndsIt) {
  for (const int number : {SIGHUP, SIGTERM, SIGINT}) {
    events_.clear();
    pause_victim();
    ASSERT_TRUE(base::PidFd::open(holder())->signal(number).ok());
    EXPECT_EQ(wait_for(LeaseState::kReverting).cause, "signal");
    wait_for(LeaseState::kVerified);
    ASSERT_TRUE(client_->stop_notice().has_value());
    EXPECT_EQ(client_->stop_notice()->cause, "signal");
    EXPECT_FALSE(stopped(victim_));
    client_.reset();
  }
}

TEST_F(Leases, AKilledHolderIsReplayedWhileTheEngineLives) {
  pause_victim();
  ASSERT_TRUE(base::PidFd::open(holder())->signal(SIGKILL).ok());
  await_replay();
  EXPECT_FALSE(stopped(victim_));
  wait_until([&] { return !client_->take_events().ok(); }, "the client to say so");
  EXPECT_TRUE(client_->left_behind().empty());
}

TEST_F(Leases, AStoppedHolderIsKilledAndReplayed) {
  auto quick = options();
  quick.renewal_limit = 400ms;
  client_ = HolderClient::start(quick).value();
  arm(pause_);
  wait_for(LeaseState::kEffective);
  ASSERT_TRUE(base::PidFd::open(holder())->signal(SIGSTOP).ok());
  await_replay();
  EXPECT_FALSE(stopped(victim_));
}

// The promise of section "Who may be killed" of docs/safety-of-injection.md, sentence by sentence:
// any one of engine, keeper and holder, and any two of them.
class WhoMayBeKilled : public Leases, public testing::WithParamInterface<const char*> {};

TEST_P(WhoMayBeKilled, ThePauseEnds) {
  const std::string who = GetParam();
  auto engine = start_engine("60");
  wait_until([&] { return stopped(victim_); }, "the pause");
  const auto held = base::PidFd::open(holder());
  const auto kept = base::PidFd::open(parent_of(holder().pid));
  ASSERT_TRUE(held.ok() && kept.ok());
  // Stopped first, so that they die in the same moment and none acts on another's death.
  std::vector<const base::PidFd*> dying;
  if (who.find("engine") != std::string::npos) dying.push_back(&engine.pidfd());
  if (who.find("keeper") != std::string::npos) dying.push_back(&*kept);
  if (who.find("holder") != std::string::npos) dying.push_back(&*held);
  for (const auto* process : dying) ASSERT_TRUE(process->signal(SIGSTOP).ok());
  for (const auto* process : dying) ASSERT_TRUE(process->signal(SIGKILL).ok());
  const base::Instant killed = base::BootClock::now();
  wait_until_runs(victim_);
  RecordProperty("milliseconds", std::to_string((base::BootClock::now() - killed) / 1ms));
  wait_until([&] { return active_leases(state_)->empty(); }, "the end of the lease");
  if (!engine.pidfd().ended()) {
    EXPECT_TRUE(engine.pidfd().signal(SIGTERM).ok());
  }
  ASSERT_TRUE(engine.wait(10s).ok());
  wait_until([&] { return run_files(StateDirectory{state_}).empty(); }, "the holder's end");
  wait_until([&] { return kept->ended(); }, "the keeper's end");
}

INSTANTIATE_TEST_SUITE_P(OneOrTwo, WhoMayBeKilled,
                         testing::Values("engine", "keeper", "holder", "engine and keeper",
                                         "engine and holder", "keeper and holder"));

TEST_F(Leases, AStoppedHolderOfADeadEngineIsKilledByTheKeeper) {
  auto engine = start_engine("60");
  wait_until([&] { return stopped(victim_); }, "the pause");
  ASSERT_TRUE(base::PidFd::open(holder())->signal(SIGSTOP).ok());
  ASSERT_TRUE(engine.pidfd().signal(SIGKILL).ok());
  ASSERT_TRUE(engine.wait(10s).ok());
  wait_until_runs(victim_);
  wait_until([&] { return run_files(StateDirectory{state_}).empty(); }, "the replay's end");
}

TEST_F(Leases, AStoppedKeeperChangesNothing) {
  pause_victim();
  const auto kept = base::PidFd::open(parent_of(holder().pid));
  ASSERT_TRUE(kept.ok());
  ASSERT_TRUE(kept->signal(SIGSTOP).ok());
  ASSERT_TRUE(client_->revert_all("asked").ok());
  wait_for(LeaseState::kVerified);
  EXPECT_FALSE(stopped(victim_));
  ASSERT_TRUE(kept->signal(SIGCONT).ok());
  client_.reset();
}

TEST_F(Leases, ASignalToTheKeeperEndsItsRuns) {
  pause_victim();
  ASSERT_TRUE(base::PidFd::open(parent_of(holder().pid))->signal(SIGTERM).ok());
  EXPECT_EQ(wait_for(LeaseState::kReverting).cause, "signal");
  wait_for(LeaseState::kVerified);
  EXPECT_FALSE(stopped(victim_));
}

TEST_F(Leases, AllThreeKilledLeaveItToCleanup) {
  leave_a_pause_behind();
  const auto active = active_leases(state_);
  ASSERT_EQ(active->size(), 1u);
  EXPECT_FALSE((*active)[0].holder_alive);
  EXPECT_EQ((*active)[0].kind, "process.pause");
  EXPECT_TRUE(stopped(victim_));
  // Until then nobody may arm anything on the same target.
  start_holder();
  arm(pause_);
  EXPECT_NE(wait_for(LeaseState::kFailed).text.find("squall cleanup"), std::string::npos);
  const auto lines = cleanup(state_);
  ASSERT_TRUE(lines.ok()) << lines.error().to_string();
  EXPECT_FALSE(lines->empty());
  EXPECT_FALSE(stopped(victim_));
  EXPECT_TRUE(active_leases(state_)->empty());
  EXPECT_TRUE(cleanup(state_).ok());  // idempotent
}

TEST_F(Leases, WhatNeedNotBeUndoneIsForgottenOnDemand) {
  leave_a_pause_behind();
  EXPECT_EQ(forget("another-run", state_).error().code, base::ErrorCode::kNotFound);
  const auto lines = forget((*active_leases(state_))[0].run, state_);
  ASSERT_TRUE(lines.ok()) << lines.error().to_string();
  ASSERT_EQ(lines->size(), 1u);
  EXPECT_NE((*lines)[0].find("not undone"), std::string::npos);
  EXPECT_TRUE(stopped(victim_));  // as it was said
  EXPECT_TRUE(active_leases(state_)->empty());
  EXPECT_TRUE(cleanup(state_)->empty());
}

TEST_F(Leases, ALivingHoldersFaultIsNotForgotten) {
  pause_victim();
  EXPECT_EQ(forget("run-1", state_).error().code, base::ErrorCode::kConflict);
  EXPECT_EQ(active_leases(state_)->size(), 1u);
}

TEST_F(Leases, StopFromOutsideEndsTheRun) {
  pause_victim();
  ASSERT_EQ(active_leases(state_)->size(), 1u);
  const ActiveLease active = (*active_leases(state_))[0];
  EXPECT_EQ(active.run, "run-1");
  EXPECT_EQ(active.reason, "a test of the holder");
  EXPECT_TRUE(active.holder_alive);
  EXPECT_EQ(active.state, LeaseState::kEffective);
  EXPECT_GT(active.ends, base::BootClock::now());
  const auto missing = stop("another-run", "tester", "no reason", state_);
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code, base::ErrorCode::kNotFound);
  const auto ended = stop("run-1", "tester", "it hurts", state_);
  ASSERT_TRUE(ended.ok()) << ended.error().to_string();
  EXPECT_EQ(*ended, 1);
  EXPECT_FALSE(stopped(victim_));
  EXPECT_EQ(wait_for(LeaseState::kReverting).cause, "stopped");
  wait_for(LeaseState::kVerified);
  EXPECT_EQ(client_->stop_notice()->why, "it hurts");
  EXPECT_TRUE(active_leases(state_)->empty());
}

TEST_F(Leases, TheKillSwitchRefusesNewLeases) {
  ASSERT_TRUE(engage_kill_switch("tester", "incident 42", state_).ok());
  EXPECT_EQ(kill_switch(state_)->why, "incident 42");
  start_holder();
  arm(pause_);
  EXPECT_NE(wait_for(LeaseState::kFailed).text.find("incident 42"), std::string::npos);
  EXPECT_FALSE(stopped(victim_));
  ASSERT_TRUE(release_kill_switch(state_).ok());
  EXPECT_FALSE(kill_switch(state_)->engaged);
  arm(pause_);
  wait_for(LeaseState::kEffective);
}

TEST_F(Leases, TwoRunsOnTheSameTargetAreRefused) {
  pause_victim();
  auto second = HolderClient::start(options("run-2"));
  ASSERT_TRUE(second.ok());
  const auto first = std::exchange(client_, std::move(*second));
  arm(pause_);
  const auto failed = wait_for(LeaseState::kFailed);
  EXPECT_NE(failed.text.find("run run-1"), std::string::npos) << failed.text;
  EXPECT_TRUE(stopped(victim_));
}

TEST_F(Leases, EndingTheClientRevertsFirst) {
  pause_victim();
  client_.reset();
  EXPECT_FALSE(stopped(victim_));
}

TEST_F(Leases, NoPlaceForTheJournalMeansNoChange) {
  start_holder();
  std::filesystem::remove_all(state_ + "/leases");
  ASSERT_TRUE(base::write_file_atomically(state_ + "/leases", "in the way").ok());
  arm(pause_);
  EXPECT_NE(wait_for(LeaseState::kFailed).text.find("journal"), std::string::npos);
  EXPECT_FALSE(stopped(victim_));
  std::filesystem::remove(state_ + "/leases");
}

TEST_F(Leases, ADamagedJournalIsToldAndWhatCanBeReadIsUndone) {
  pause_victim();
  const auto held = base::PidFd::open(holder());
  // The client must not replay it: it belongs to this test.
  const auto files = StateDirectory{state_}.lease_files();
  ASSERT_EQ(files.size(), 1u);
  const std::string path = files[0];
  std::string content = base::read_file(path, 1 << 20).value();
  ASSERT_TRUE(client_->revert_all("asked").ok());
  wait_for(LeaseState::kVerified);
  client_.reset();
  ::kill(victim_.pid, SIGSTOP);
  content[content.find_last_not_of('\0')] ^= 1;
  ASSERT_TRUE(base::write_file_atomically(path, content).ok());
  const auto cleaned = cleanup(state_);
  ASSERT_FALSE(cleaned.ok());
  EXPECT_EQ(cleaned.error().code, base::ErrorCode::kRevertNotVerified);
  EXPECT_NE(cleaned.error().message.find(".damaged"), std::string::npos);
  EXPECT_FALSE(stopped(victim_));
  EXPECT_TRUE(cleanup(state_).ok());
}

TEST_F(Leases, AReplayLeavesAProcessRebornWithTheNumberAlone) {
  pause_victim();
  const std::string path = StateDirectory{state_}.lease_files().at(0);
  auto content = read_journal(path).value();
  ASSERT_TRUE(client_->revert_all("asked").ok());
  wait_for(LeaseState::kVerified);
  client_.reset();
  // The same journal, but of a process that had this number before.
  content.lease->binding.targets[0].process.start_time -= 1;
  content.lease->holder.start_time -= 1;
  auto journal = LeaseJournal::create(StateDirectory{state_}.leases(), *content.lease).value();
  const Json note = {
      {"stopping", Json::array({{{"pid", victim_.pid}, {"start_time", victim_.start_time - 1}}})}};
  ASSERT_TRUE(journal.note(note.dump()).ok());
  { const LeaseJournal closed = std::move(journal); }
  ::kill(victim_.pid, SIGSTOP);
  wait_until([&] { return stopped(victim_); }, "a stopped victim");
  ASSERT_TRUE(cleanup(state_).ok());
  EXPECT_TRUE(stopped(victim_));  // somebody else's
}

TEST_F(Leases, ADescriptorOfTheHolderLivesInNoOtherProcess) {
  pause_victim();
  const pid_t held = holder().pid;
  std::map<std::string, std::set<pid_t>> owners;
  for (const auto& entry : *read_process_table()) {
    std::error_code error;
    for (const auto& fd : std::filesystem::directory_iterator(
             "/proc/" + std::to_string(entry.identity.pid) + "/fd", error)) {
      const auto link = std::filesystem::read_symlink(fd.path(), error).string();
      if (link.starts_with("socket:")) owners[link].insert(entry.identity.pid);
    }
  }
  int sockets = 0;
  for (const auto& [socket, pids] : owners) {
    if (!pids.contains(held)) continue;
    ++sockets;
    EXPECT_EQ(pids.size(), 1u) << socket;
  }
  EXPECT_GE(sockets, 4);  // engine, keeper, starter, stop
}

TEST_F(Leases, NobodyAimsAtSquallItself) {
  start_holder();
  auto binding = pause_;
  for (const pid_t pid : {::getpid(), pid_t{1}}) {
    binding.targets[0].process = base::identify_process(pid).value();
    arm(binding);
    EXPECT_NE(wait_for(LeaseState::kFailed).text.find("narrow"), std::string::npos);
  }
}

// Nor at what keeps another run going: its engine is in our line, its starter is not.
TEST_F(Leases, WhatKeepsAnotherRunGoingIsNoTarget) {
  start_holder();
  auto second = HolderClient::start(options("run-2"));
  ASSERT_TRUE(second.ok());
  for (const RunFile& run : run_files(StateDirectory{state_})) {
    auto binding = pause_;
    for (const ProcessEntry& entry : *read_process_table()) {
      if (entry.identity != run.holder && entry.parent != run.holder.pid) continue;
      binding.targets[0].process = entry.identity;
      arm(binding);
      EXPECT_NE(wait_for(LeaseState::kFailed).text.find("Squall itself"), std::string::npos)
          << entry.name;
    }
  }
}

TEST_F(Leases, WithoutRootAWardenIsNeededAndItIsSaid) {
  ASSERT_EQ(::chmod(folder_.c_str(), 0755), 0);
  ASSERT_EQ(::seteuid(61234), 0);
  const auto refused = HolderClient::start(options());
  ASSERT_EQ(::seteuid(0), 0);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, base::ErrorCode::kUnavailable);
  EXPECT_NE(refused.error().message.find("no warden runs"), std::string::npos);
  EXPECT_NE(refused.error().hint.find("sudo"), std::string::npos);
}

}  // namespace
}  // namespace squall::inject
