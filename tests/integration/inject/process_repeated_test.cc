// Members that are killed again and again: process.kill with `every`, and process.crash_loop. The
// test is the supervisor.

#include <algorithm>
#include <atomic>
#include <thread>

#include "integration/inject/fixture.h"

namespace squall::inject {
namespace {

class RepeatedKills : public InjectTest {
 protected:
  void start_two_victims() {
    add_service(2);
    start_victim();
    start_victim();
    wait_until([&] { return find_victims().size() == 2; }, "two victims");
  }
  // Keeps `members` victims running while `during` runs.
  void supervise(std::size_t members, const std::function<void()>& during) {
    std::atomic<bool> over = false;
    std::thread supervisor([&] {
      while (!over) {
        if (find_victims().size() < members) start_victim_of_supervisor();
        ::usleep(5000);
      }
    });
    during();
    over = true;
    supervisor.join();
    for (base::ChildProcess& victim : supervised_) victims_.push_back(std::move(victim));
    supervised_.clear();
  }
  void start_victim_of_supervisor() {
    // It must outlive the thread that starts it, so it dies with nobody but by its own alarm.
    auto child = base::spawn({.argv = {program("victim_for_tests"), folder_}});
    ASSERT_TRUE(child.ok());
    const pid_t pid = child->pidfd().identity().pid;
    ++started_;
    supervised_.push_back(std::move(*child));
    wait_until(
        [&] {
          const auto victims = find_victims();
          return supervised_.back().pidfd().ended() ||
                 std::any_of(victims.begin(), victims.end(),
                             [&](const auto& each) { return each.process.identity.pid == pid; });
        },
        "the replacement to be there");
  }
  static Json loop_parameters(const std::string& restore, std::int64_t after = 50'000'000) {
    return {{"service", "victim"}, {"count", 1},         {"random", true},         {"after", after},
            {"most", 50},          {"restore", restore}, {"limit", 20'000'000'000}};
  }
  std::vector<base::ChildProcess> supervised_;
  std::atomic<int> started_ = 0;
};

TEST_F(RepeatedKills, KillAtAnIntervalHitsMembersThatRunThen) {
  start_two_victims();
  auto parameters = kill_parameters("await");
  parameters["every"] = 150'000'000;
  const auto binding = bind_or_die("process.kill", parameters);
  ASSERT_EQ(binding.targets.size(), 1u);
  start_holder();
  ASSERT_TRUE(client_->rehearse(binding).ok());
  base::LeaseId lease;
  supervise(2, [&] {
    lease = arm(binding);
    wait_for(LeaseState::kEffective);
    for (int i = 2; i <= 5; ++i) {
      const auto again = wait_for_notice();
      EXPECT_NE(again.text.find("kill " + std::to_string(i)), std::string::npos) << again.text;
    }
    ASSERT_TRUE(client_->revert(lease, "asked").ok());
    EXPECT_NE(wait_for(LeaseState::kReverted).text.find("killed in all"), std::string::npos);
    wait_for(LeaseState::kVerified);
  });
  EXPECT_GE(started_, 4);
  EXPECT_EQ(find_victims().size(), 2u);
}

TEST_F(RepeatedKills, WithoutASupervisorTheIntervalsPassAndAllAreStartedAtTheEnd) {
  start_two_victims();
  auto parameters = kill_parameters("start");
  parameters["every"] = 100'000'000;
  start_holder();
  const auto lease = arm(bind_or_die("process.kill", parameters));
  wait_for_event([](const auto& e) { return e.text.find("this interval passes") != e.text.npos; },
                 true, true);
  EXPECT_TRUE(find_victims().empty());
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kVerified);
  EXPECT_EQ(find_victims().size(), 2u);
}

TEST_F(RepeatedKills, AKilledHolderStillBringsBackWhatItsIntervalsKilled) {
  start_two_victims();
  auto parameters = kill_parameters("start");
  parameters["every"] = 100'000'000;
  start_holder();
  arm(bind_or_die("process.kill", parameters));
  wait_until([&] { return find_victims().empty(); }, "both to be killed");
  kill_holder();
  wait_for(LeaseState::kVerified);
  EXPECT_EQ(find_victims().size(), 2u);
}

TEST_F(RepeatedKills, CrashLoopKillsEachNewIncarnation) {
  start_two_victims();
  const auto binding = bind_or_die("process.crash_loop", loop_parameters("await"));
  ASSERT_EQ(binding.targets.size(), 1u);
  const auto spared = [&] {
    for (const auto& member : find_victims()) {
      if (!(member.process.identity == binding.targets[0].process)) return member.process.identity;
    }
    return base::ProcessIdentity{};
  }();
  start_holder();
  const auto rehearsed = client_->rehearse(binding);
  ASSERT_TRUE(rehearsed.ok()) << rehearsed.error().to_string();
  supervise(2, [&] {
    const auto lease = arm(binding);
    EXPECT_NE(wait_for(LeaseState::kEffective).proof.find("kills"), std::string::npos);
    for (int i = 2; i <= 4; ++i) {
      const auto again = wait_for_notice();
      EXPECT_NE(again.text.find("crash " + std::to_string(i)), std::string::npos) << again.text;
    }
    ASSERT_TRUE(client_->revert(lease, "asked").ok());
    EXPECT_NE(wait_for(LeaseState::kReverted).text.find("no more kills after"), std::string::npos);
    wait_for(LeaseState::kVerified);
    // Whoever runs now lives on.
    const auto now = find_victims();
    EXPECT_EQ(now.size(), 2u);
  });
  EXPECT_GE(started_, 3);
  const auto victims = find_victims();
  EXPECT_EQ(victims.size(), 2u);
  EXPECT_TRUE(std::any_of(victims.begin(), victims.end(),
                          [&](const auto& member) { return member.process.identity == spared; }));
}

TEST_F(RepeatedKills, CrashLoopEndsAtItsMost) {
  add_service(1);
  start_victim();
  wait_until([&] { return find_victims().size() == 1; }, "a victim");
  auto parameters = loop_parameters("await", 0);
  parameters["most"] = 3;
  start_holder();
  supervise(1, [&] {
    const auto lease = arm(bind_or_die("process.crash_loop", parameters));
    wait_for(LeaseState::kEffective);
    wait_until([&] { return started_ >= 3; }, "three replacements");
    // Seen again and again, where any other incarnation would be killed at the first sight of it.
    base::ProcessIdentity last;
    int looks = 0;
    wait_until(
        [&] {
          EXPECT_TRUE(client_->renew().ok());
          const auto victims = find_victims();
          if (victims.size() != 1) return false;
          looks = victims[0].process.identity == last ? looks + 1 : 0;
          last = victims[0].process.identity;
          return looks >= 20;
        },
        "the last one to live");
    ASSERT_TRUE(client_->revert(lease, "asked").ok());
    EXPECT_NE(wait_for(LeaseState::kReverted).text.find("after 3"), std::string::npos);
    wait_for(LeaseState::kVerified);
  });
  EXPECT_EQ(started_, 3);
}

TEST_F(RepeatedKills, AKilledHolderEndsTheCrashLoopAndStartsTheMember) {
  add_service(1);
  start_victim();
  wait_until([&] { return find_victims().size() == 1; }, "a victim");
  start_holder();
  arm(bind_or_die("process.crash_loop", loop_parameters("start")));
  wait_for(LeaseState::kEffective);
  start_victim();  // one more incarnation
  wait_for_notice();
  kill_holder();
  wait_for(LeaseState::kVerified);
  EXPECT_EQ(find_victims().size(), 1u);
}

TEST_F(RepeatedKills, AnIncarnationThatCrashesByItselfIsNoKillOfOurs) {
  add_service(1);
  start_victim();
  wait_until([&] { return find_victims().size() == 1; }, "a victim");
  start_holder();
  const auto lease =
      arm(bind_or_die("process.crash_loop", loop_parameters("await", 1'000'000'000)));
  wait_for(LeaseState::kEffective);
  const auto holder = active_leases(state_).value().at(0).holder;
  const auto first = start_victim();
  // The holder has taken it up when it holds a descriptor of it.
  wait_until(
      [&] {
        EXPECT_TRUE(client_->renew().ok());
        const std::string folder = "/proc/" + std::to_string(holder.pid) + "/fdinfo";
        const std::string line = "Pid:\t" + std::to_string(first.pid) + "\n";
        for (const auto& entry : std::filesystem::directory_iterator(folder)) {
          const auto text = base::read_pseudo_file(entry.path());
          if (text.ok() && text->find(line) != std::string::npos) return true;
        }
        return false;
      },
      "the holder to take it up");
  ::kill(first.pid, SIGKILL);
  const auto second = start_victim();
  const auto again = wait_for_notice();
  EXPECT_NE(again.text.find("pid " + std::to_string(second.pid)), std::string::npos) << again.text;
  EXPECT_NE(again.text.find("crash 2"), std::string::npos) << again.text;
  start_victim();
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  EXPECT_NE(wait_for(LeaseState::kReverted).text.find("after 2"), std::string::npos);
  wait_for(LeaseState::kVerified);
}

TEST_F(RepeatedKills, CrashLoopThatCannotStartIsRefused) {
  add_service(1).start.clear();
  start_victim();
  wait_until([&] { return find_victims().size() == 1; }, "a victim");
  const auto refused = try_bind("process.crash_loop", loop_parameters("start"));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, base::ErrorCode::kUnsupported);
  EXPECT_NE(refused.error().hint.find("await"), std::string::npos);
  EXPECT_TRUE(try_bind("process.crash_loop", loop_parameters("await")).ok());
}

}  // namespace
}  // namespace squall::inject
