// The keeper as a service: one a host, which engines share and which a supervisor starts again.

#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cstring>

#include "inject/journal.h"
#include "inject/registry.h"
#include "inject/warden.h"
#include "inject/wire.h"
#include "integration/inject/fixture.h"

namespace squall::inject {
namespace {

class Warden : public InjectTest {
 protected:
  void SetUp() override {
    InjectTest::SetUp();
    if (IsSkipped()) return;
    add_service(1);
    victim_ = start_victim();
    wait_until([&] { return find_victims().size() == 1; }, "a victim");
    pause_ = bind_or_die("process.pause", pause_parameters());
  }
  void TearDown() override {
    client_.reset();
    if (warden_) end_warden(SIGTERM);
    InjectTest::TearDown();
  }

  base::SpawnOptions warden_options() const {
    return {.argv = {program("holder_for_tests"), "warden", state_},
            .parent_death_signal = SIGKILL};
  }
  void start_warden() {
    warden_ = base::spawn(warden_options()).value();
    wait_until([&] { return connect_to_warden(StateDirectory{state_}).ok(); }, "the warden");
  }
  int end_warden(int signal) {
    EXPECT_TRUE(warden_->pidfd().signal(signal).ok());
    const auto status = warden_->wait(20s);
    warden_.reset();
    EXPECT_TRUE(status.ok());
    return status.ok() ? *status : -1;
  }
  void pause_victim() {
    start_holder();
    arm(pause_);
    wait_for(LeaseState::kEffective);
    EXPECT_TRUE(stopped(victim_));
  }
  pid_t keeper_of_the_run() const {
    const pid_t holder = run_files(StateDirectory{state_}).at(0).holder.pid;
    for (const auto& entry : *read_process_table()) {
      if (entry.identity.pid == holder) return entry.parent;
    }
    return 0;
  }

  std::optional<base::ChildProcess> warden_;
  base::ProcessIdentity victim_;
  model::FaultBinding pause_;
};

TEST_F(Warden, ServesAnEngineWhichThenStartsNoKeeperOfItsOwn) {
  start_warden();
  pause_victim();
  EXPECT_EQ(keeper_of_the_run(), warden_->pid());
  ASSERT_TRUE(client_->revert_all("asked").ok());
  wait_for(LeaseState::kVerified);
  EXPECT_FALSE(stopped(victim_));
}

TEST_F(Warden, ThereIsOneAHost) {
  start_warden();
  const auto second = base::run_command(warden_options(), 10s);
  ASSERT_TRUE(second.ok());
  EXPECT_NE(second->exit_status, 0);
  EXPECT_NE(second->error.find("runs already"), std::string::npos) << second->error;
}

TEST_F(Warden, ToldToEndItRevertsEveryRunFirst) {
  start_warden();
  pause_victim();
  EXPECT_EQ(end_warden(SIGTERM), 0);
  EXPECT_FALSE(stopped(victim_));
  EXPECT_EQ(wait_for(LeaseState::kReverting).cause, "signal");
  wait_for(LeaseState::kVerified);
}

TEST_F(Warden, KilledItLeavesTheRevertToTheHolder) {
  start_warden();
  pause_victim();
  end_warden(SIGKILL);
  EXPECT_EQ(wait_for(LeaseState::kReverting).cause, "keeper gone");
  wait_for(LeaseState::kVerified);
  EXPECT_FALSE(stopped(victim_));
}

// Warden and holder killed: the engine starts a keeper of its own for the replay.
TEST_F(Warden, KilledWithTheHolderTheEngineSeesToIt) {
  start_warden();
  pause_victim();
  const auto holder = base::PidFd::open(run_files(StateDirectory{state_}).at(0).holder);
  ASSERT_TRUE(warden_->pidfd().signal(SIGSTOP).ok());
  ASSERT_TRUE(holder->signal(SIGKILL).ok());
  end_warden(SIGKILL);
  wait_for(LeaseState::kVerified);
  EXPECT_FALSE(stopped(victim_));
}

// As after a power cut that only the journal outlived, or when all of ours were killed at once.
TEST_F(Warden, StartedAgainItUndoesWhatWasLeft) {
  start_warden();
  pause_victim();
  auto journal = read_journal(StateDirectory{state_}.lease_files().at(0)).value();
  ASSERT_TRUE(client_->revert_all("asked").ok());
  wait_for(LeaseState::kVerified);
  client_.reset();
  end_warden(SIGTERM);
  journal.lease->holder.start_time -= 1;  // a dead one
  {
    auto left = LeaseJournal::create(StateDirectory{state_}.leases(), *journal.lease).value();
    for (const std::string& note : journal.notes) ASSERT_TRUE(left.note(note).ok());
  }
  ::kill(victim_.pid, SIGSTOP);
  wait_until([&] { return stopped(victim_); }, "a stopped victim");
  start_warden();
  wait_until_runs(victim_);
  wait_until([&] { return active_leases(state_)->empty(); }, "the end of the lease");
}

TEST_F(Warden, GarbageEndsOnlyTheConnectionItCameFrom) {
  start_warden();
  pause_victim();
  for (int i = 0; i < 3; ++i) {
    const auto socket = connect_to_warden(StateDirectory{state_});
    ASSERT_TRUE(socket.ok());
    const std::array<std::byte, 64> garbage{};
    ASSERT_TRUE(send_packet(socket->get(), garbage).ok());
    wait_until(
        [&] {
          const auto answer = receive_packet(socket->get());
          return !answer.ok();
        },
        "the warden to hang up");
  }
  const auto silent = connect_to_warden(StateDirectory{state_});
  ASSERT_TRUE(silent.ok());
  EXPECT_TRUE(stopped(victim_));
  ASSERT_TRUE(client_->revert_all("asked").ok());
  wait_for(LeaseState::kVerified);
}

TEST_F(Warden, TellsItsServiceManagerThatItIsReadyAndAlive) {
  const base::UniqueFd manager{::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = folder_ + "/notify";
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  ASSERT_EQ(::bind(manager.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  auto options = warden_options();
  options.environment =
      std::map<std::string, std::string>{{"NOTIFY_SOCKET", path}, {"WATCHDOG_USEC", "300000"}};
  warden_ = base::spawn(options).value();
  int alive = 0;
  bool ready = false;
  wait_until(
      [&] {
        std::array<char, 256> text{};
        if (::recv(manager.get(), text.data(), text.size() - 1, MSG_DONTWAIT) > 0) {
          const std::string_view said = text.data();
          ready = ready || said.starts_with("READY=1");
          alive += said == "WATCHDOG=1";
        }
        return ready && alive >= 3;
      },
      "three signs of life");
}

}  // namespace
}  // namespace squall::inject
