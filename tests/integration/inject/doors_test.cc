// The warden's two sockets as strangers see them: what each knows, and what a flood, garbage and
// people who leave early do to the others.

#include <sys/socket.h>

#include "inject/public_socket.h"
#include "integration/inject/caller_fixture.h"

namespace squall::inject {
namespace {

class Doors : public CallerTest {
 protected:
  void SetUp() override {
    CallerTest::SetUp();
    if (IsSkipped()) return;
    start_warden();
    victim_ = start_victim_of(kAlice);
    pause_ = bind_or_die("process.pause", pause_parameters());
  }
  void TearDown() override {
    if (!state_.empty()) (void)release_kill_switch(state_);
    CallerTest::TearDown();
  }
  // As that account: what the socket answers, "hung up", or "silence" after 10 s.
  std::string answer_to(const Account& account, const std::vector<std::byte>& packet) const {
    return said_as(account, [&]() -> std::string {
      const auto socket = connect_to_public(StateDirectory{state_});
      if (!socket.ok()) return socket.error().message;
      if (!send_packet(socket->get(), packet).ok()) return "hung up";
      for (int i = 0; i < 1000; ++i) {
        const auto answer = receive_packet(socket->get());
        if (!answer.ok()) return "hung up";
        if (!answer->empty()) return "answered";
        ::usleep(10'000);
      }
      return "silence";
    });
  }

  base::ProcessIdentity victim_;
  model::FaultBinding pause_;
};

TEST_F(Doors, EverybodyMayStopARunThroughTheSecondSocket) {
  UserEngine engine(kAlice, options("run-of-alice"), pause_);
  engine.wait_for("effective");
  EXPECT_TRUE(stopped(victim_));
  const std::string said = said_as(kBob, [&] {
    const auto stopped = stop("run-of-alice", "root", "it hurts", state_);
    return stopped.ok() ? std::to_string(*stopped) : stopped.error().to_string();
  });
  EXPECT_EQ(said, "1");
  EXPECT_FALSE(stopped(victim_));
  EXPECT_NE(engine.wait_for("reverting").find("stopped"), std::string::npos);
}

TEST_F(Doors, StatusShowsEverybodyWhatIsActiveAndNobodysSecrets) {
  const std::string place = folder_of(kAlice);
  const auto secret = bind_or_die("command", {{"argv", {"touch", place + "/password-4711"}},
                                              {"revert_argv", {"true"}},
                                              {"timeout", 10'000'000'000}});
  UserEngine engine(kAlice, options(), secret);
  engine.wait_for("effective");
  const std::string said = said_as(kBob, [&]() -> std::string {
    const auto leases = active_leases(state_);
    if (!leases.ok() || leases->size() != 1) return "nothing to see";
    std::string text = leases->front().kind + " " + leases->front().owner + " ";
    for (const std::string& target : leases->front().targets) text += target;
    // The journals themselves are root's.
    for (const std::string& file : StateDirectory{state_}.lease_files())
      text += ::access(file.c_str(), R_OK) == 0 ? " readable" : " closed";
    return text;
  });
  EXPECT_EQ(said, "command user 61234 a command of user 61234 closed");
}

TEST_F(Doors, TheSecondSocketKnowsNothingElse) {
  UserEngine engine(kAlice, options(), pause_);
  engine.wait_for("effective");
  Hello hello;
  hello.options = options("another");
  EXPECT_EQ(answer_to(kBob, encode(hello).value()), "hung up");
  EXPECT_EQ(answer_to(kAlice, encode(hello).value()), "hung up");
  EXPECT_EQ(answer_to(kAlice, encode(ReleaseMessage{}).value()), "hung up");
  EXPECT_EQ(answer_to(kAlice, encode(ArmMessage{.lease = base::LeaseId::generate(),
                                                .request = {.binding = pause_, .duration = 5s}})
                                  .value()),
            "hung up");
  for (const Message& other : {Message{EndMessage{}}, Message{RenewMessage{}},
                               Message{RevertMessage{}}, Message{Finished{}}, Message{Ready{}}})
    EXPECT_EQ(answer_to(kBob, encode(other).value()), "hung up");
  EXPECT_EQ(answer_to(kBob, std::vector<std::byte>(512)), "hung up");
  EXPECT_EQ(answer_to(kBob, encode(StatusMessage{}).value()), "answered");
  EXPECT_TRUE(stopped(victim_));  // nobody was heard
}

TEST_F(Doors, StopAllIsForEverybodyAndReleaseForTheGroup) {
  UserEngine engine(kAlice, options(), pause_);
  engine.wait_for("effective");
  const std::string said = said_as(kBob, [&] {
    const auto ended = stop_everything("somebody", "incident 4711", state_);
    return ended.ok() ? std::to_string(*ended) : ended.error().to_string();
  });
  EXPECT_EQ(said, "1");
  EXPECT_FALSE(stopped(victim_));
  const KillSwitch engaged = kill_switch(state_).value();
  EXPECT_TRUE(engaged.engaged);
  EXPECT_EQ(engaged.who, "user 61235");  // by what the kernel says
  EXPECT_EQ(engaged.why, "incident 4711");
  const auto refusal = UserEngine(kAlice, options("run-2"), pause_).wait_for("failed");
  EXPECT_NE(refusal.find("by user 61235: incident 4711"), std::string::npos) << refusal;
  EXPECT_NE(refusal.find("squall release"), std::string::npos) << refusal;
  const auto released_by = [&](const Account& account) {
    return said_as(account, [&] {
      const auto released = release_kill_switch(state_);
      return released.ok() ? std::string("released") : released.error().message;
    });
  };
  EXPECT_NE(released_by(kBob).find("may not use the warden"), std::string::npos);
  EXPECT_TRUE(kill_switch(state_)->engaged);
  EXPECT_EQ(released_by(kAlice), "released");
  EXPECT_FALSE(kill_switch(state_)->engaged);
  UserEngine again(kAlice, options("run-3"), pause_);
  again.wait_for("effective");
}

// A hung engine and a hung holder at once: the warden answers, and ends both.
TEST_F(Doors, StopAllEndsWhatHangs) {
  UserEngine engine(kAlice, options(), pause_);
  engine.wait_for("effective");
  const auto holder = base::PidFd::open(run_files(StateDirectory{state_}).at(0).holder);
  ::kill(engine.pid(), SIGSTOP);
  ASSERT_TRUE(holder->signal(SIGSTOP).ok());
  const std::string said = said_as(kBob, [&] {
    const auto ended = stop_everything("somebody", "it hangs", state_);
    return ended.ok() ? std::string("ended") : ended.error().to_string();
  });
  EXPECT_EQ(said, "ended");
  EXPECT_FALSE(stopped(victim_));
  engine.kill();
}

TEST_F(Doors, AFloodOfOneUserLeavesTheOthersTheirTurn) {
  UserEngine engine(kAlice, options("run-of-alice"), pause_);
  engine.wait_for("effective");
  const pid_t flood = ::fork();
  if (flood == 0) {
    ::alarm(60);
    become(kAlice);
    std::vector<base::UniqueFd> kept;
    const std::vector<std::byte> garbage(4096);
    for (unsigned i = 0;; ++i) {
      auto socket = i % 2 == 0 ? connect_to_public(StateDirectory{state_})
                               : connect_to_warden(StateDirectory{state_});
      if (!socket.ok()) continue;
      if (i % 3 == 0) (void)send_packet(socket->get(), garbage);
      if (i % 5 == 0) (void)send_packet(socket->get(), encode(StatusMessage{}).value());
      kept.push_back(std::move(*socket));
      if (kept.size() > 200) kept.erase(kept.begin(), kept.begin() + 100);
    }
  }
  ::usleep(300'000);
  EXPECT_EQ(answer_to(kBob, encode(StatusMessage{}).value()), "answered");
  EXPECT_TRUE(stopped(victim_));
  engine.revert();
  engine.wait_for("verified");
  start_holder();  // root's
  arm(pause_);
  wait_for(LeaseState::kEffective);
  ::kill(flood, SIGKILL);
  ::waitpid(flood, nullptr, 0);
}

TEST_F(Doors, WhoDisappearsMidRequestLeavesNothingBehind) {
  for (int i = 0; i < 5; ++i) {
    said_as(kAlice, [&]() -> std::string {
      Hello hello;
      hello.options = options(fmt::format("gone-{}", i));
      hello.engine = base::identify_process(::getpid()).value();
      const auto warden = connect_to_warden(StateDirectory{state_});
      if (warden.ok() && i > 0) (void)send_packet(warden->get(), encode(hello).value());
      const auto everybody = connect_to_public(StateDirectory{state_});
      if (everybody.ok() && i > 2)
        (void)send_packet(everybody->get(), encode(StatusMessage{}).value());
      ::kill(::getpid(), SIGKILL);
      return {};
    });
  }
  UserEngine engine(kAlice, options(), pause_);
  engine.wait_for("effective");
  wait_until([&] { return run_files(StateDirectory{state_}).size() == 1; }, "the others' ends");
}

TEST_F(Doors, AKilledEngineOfAUserEndsItsRun) {
  UserEngine engine(kAlice, options(), pause_);
  engine.wait_for("effective");
  engine.kill();
  wait_until_runs(victim_);
  wait_until([&] { return active_leases(state_)->empty(); }, "the end of the lease");
}

TEST_F(Doors, EachHasTheRightsItSays) {
  struct stat info {};
  ASSERT_EQ(::stat((state_ + "/control.sock").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0660u);
  EXPECT_EQ(info.st_uid, 0u);
  EXPECT_EQ(info.st_gid, kMembers);
  ASSERT_EQ(::stat((state_ + "/public.sock").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0666u);
}

}  // namespace
}  // namespace squall::inject
