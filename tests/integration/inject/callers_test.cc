// Engines of others than root: what they may do, as whom it is done, and what they are refused
// whatever they say.

#include <sys/prctl.h>

#include "integration/inject/caller_fixture.h"

namespace squall::inject {
namespace {

using Callers = CallerTest;

TEST_F(Callers, AUserOfTheGroupPausesAProcessOfHisOwn) {
  start_warden();
  const auto victim = start_victim_of(kAlice);
  UserEngine engine(kAlice, options(), bind_or_die("process.pause", pause_parameters()), 30s,
                    /*rehearses=*/true);
  EXPECT_NE(engine.wait_for("rehearsed").find("scratch"), std::string::npos);
  engine.wait_for("effective");
  EXPECT_TRUE(stopped(victim));
  const LeaseRecord lease = only_lease();
  EXPECT_EQ(lease.grant.caller, kAlice);
  EXPECT_EQ(lease.owner, "user 61234");
  EXPECT_EQ(lease.engine.pid, engine.pid());
  engine.revert();
  engine.wait_for("verified");
  EXPECT_FALSE(stopped(victim));
}

TEST_F(Callers, WhoIsNotLetInIsToldWhatToDo) {
  const auto victim = start_victim_of(kBob);
  const auto binding = bind_or_die("process.pause", pause_parameters());
  EXPECT_NE(UserEngine(kAlice, options(), binding).wait_for("refused").find("no warden runs"),
            std::string::npos);
  start_warden();
  const std::string said = UserEngine(kBob, options(), binding).wait_for("refused");
  EXPECT_NE(said.find("serves the group 61299"), std::string::npos) << said;
  EXPECT_NE(said.find("usermod -aG 61299 61235"), std::string::npos) << said;
  const std::string report =
      said_as(kBob, [&] { return examine_warden(state_).text + examine_warden(state_).remedy; });
  EXPECT_NE(report.find("usermod"), std::string::npos) << report;
  EXPECT_TRUE(examine_warden(state_).usable);
  EXPECT_FALSE(stopped(victim));
}

TEST_F(Callers, AProcessOfAnotherUserIsRefused) {
  start_warden();
  const auto victim = start_victim_of(kBob);
  // Bound by root, as a forged binding would be.
  UserEngine engine(kAlice, options(), bind_or_die("process.pause", pause_parameters()), 30s,
                    /*rehearses=*/true);
  EXPECT_NE(engine.wait_for("unrehearsed").find("belongs to user 61235"), std::string::npos);
  const std::string said = engine.wait_for("failed");
  EXPECT_NE(said.find("belongs to user 61235"), std::string::npos) << said;
  EXPECT_NE(said.find("policy.yaml"), std::string::npos) << said;
  EXPECT_FALSE(stopped(victim));
}

// The child is found only when the tree is walked, after the gate has let its parent through.
TEST_F(Callers, AChildThatBelongsToAnotherUserIsNotTouched) {
  start_warden();
  start_victim_of(kAlice);
  auto binding = bind_or_die("process.pause", pause_parameters());
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe(pipe.data()), 0);
  const pid_t parent = ::fork();
  if (parent == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const pid_t child = ::fork();
    if (child != 0) become(kAlice);
    if (child == 0) ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::alarm(60);
    if (child != 0) [[maybe_unused]]
      const auto wrote = ::write(pipe[1], &child, sizeof child);
    while (true) ::pause();
  }
  pid_t child = 0;
  ASSERT_EQ(::read(pipe[0], &child, sizeof child), static_cast<ssize_t>(sizeof child));
  binding.targets[0].process = base::identify_process(parent).value();
  {
    UserEngine engine(kAlice, options(), binding);
    EXPECT_NE(engine.wait_for("failed").find("belongs to root"), std::string::npos);
  }
  EXPECT_FALSE(stopped(base::identify_process(parent).value()));
  EXPECT_FALSE(stopped(base::identify_process(child).value()));
  ::kill(child, SIGKILL);
  ::kill(parent, SIGKILL);
  ::waitpid(parent, nullptr, 0);
  ::close(pipe[0]);
  ::close(pipe[1]);
}

TEST_F(Callers, ForgedTargetsAreRefused) {
  start_warden();
  start_victim_of(kAlice);
  const auto honest = bind_or_die("process.pause", pause_parameters());
  const auto refused = [&](const model::FaultBinding& binding) {
    return UserEngine(kAlice, options(), binding).wait_for("failed");
  };
  auto forged = honest;
  forged.targets[0].process = {.pid = 1, .start_time = base::identify_process(1)->start_time};
  EXPECT_NE(refused(forged).find("process 1 "), std::string::npos);
  forged = honest;
  forged.targets[0].process.start_time += 1;  // a number that was given to another process
  EXPECT_FALSE(refused(forged).empty());
  forged = honest;
  forged.targets.clear();
  EXPECT_NE(refused(forged).find("names no processes"), std::string::npos);
  forged = honest;
  forged.mechanism = "cgroup v2 freezer";
  forged.details = model::Parameters{Json{{"cgroup", "/../../../etc"}}};
  EXPECT_FALSE(refused(forged).empty());
  forged.kind = "process.everything";
  EXPECT_NE(refused(forged).find("no such kind"), std::string::npos);
}

// With a warden the engine is in nobody's line, and his own: only the list of runs tells.
TEST_F(Callers, TheEngineItselfIsNoTarget) {
  start_warden();
  start_victim_of(kAlice);
  auto binding = bind_or_die("process.pause", pause_parameters());
  binding.fault = "at-itself";
  UserEngine engine(kAlice, options(), binding);
  EXPECT_NE(engine.wait_for("failed").find("Squall itself"), std::string::npos);
}

TEST_F(Callers, ForgedDetailsAreRefusedWhateverThePolicyAllows) {
  write_policy("allow: [{ groups: [61299], kinds: [network, resource, process], paths: [/] }]");
  start_warden();
  const auto victim = start_victim_of(kAlice);
  const std::string file = folder_ + "/memory.max";
  std::ofstream(file) << "before\n";
  model::FaultBinding binding = bind_or_die("process.pause", pause_parameters());
  binding.kind = "resource.memory_limit";
  binding.mechanism = "cgroup v2";
  binding.details = model::Parameters{Json{
      {"changes", {{{"file", file}, {"value", "after"}, {"former", "before"}, {"absent", "x"}}}},
      {"resources", {"cgroup" + file}}}};
  const auto refused = [&](const std::string& what) {
    const std::string said = UserEngine(kAlice, options(), binding).wait_for("failed");
    EXPECT_NE(said.find(what), std::string::npos) << said;
  };
  refused("is no cgroup");
  EXPECT_EQ(text_of(file), "before\n");
  binding.kind = "resource.disk_fill";
  binding.mechanism = "unnamed ballast file";
  ::symlink("/", (folder_ + "/link").c_str());
  binding.details = model::Parameters{Json{{"path", folder_ + "/link"}, {"size", 4096}}};
  refused("is not the real path");
  binding.details = model::Parameters{Json{{"path", state_}, {"size", 4096}}};
  refused("the journals");
  binding.kind = "network.blackhole";
  binding.details =
      model::Parameters{Json{{"rules",
                              {{{"chain", 1},
                                {"action", 0},
                                {"protocol", 6},
                                {"destination", {{"address", {127, 0, 0, 1}}, {"port", 0}}}}}}}};
  refused("names no port");
  binding.details =
      model::Parameters{Json{{"rules",
                              {{{"chain", 1},
                                {"action", 0},
                                {"protocol", 6},
                                {"destination", {{"address", Json::array()}, {"port", 22}}}}}}}};
  refused("SSH");
  EXPECT_FALSE(stopped(victim));
}

TEST_F(Callers, KindsThatReachFartherNeedARule) {
  start_warden();
  auto binding = bind_or_die("resource.cpu_load", {{"processors", 1}, {"load", 0.05}});
  {
    UserEngine engine(kAlice, options(), binding);
    EXPECT_NE(engine.wait_for("failed").find("no rule for resource.cpu_load"), std::string::npos);
  }
  write_policy("allow: [{ users: [61234], kinds: [resource.cpu_load], longest_fault: 5s }]");
  {
    UserEngine engine(kAlice, options(), binding, 6s);
    EXPECT_NE(engine.wait_for("failed").find("longer than 5s"), std::string::npos);
  }
  UserEngine engine(kAlice, options(), binding, 5s);
  engine.wait_for("effective");
  engine.revert();
  engine.wait_for("verified");
}

TEST_F(Callers, APolicyLetsThemTouchWhomItNames) {
  write_policy("allow: [{ groups: [61299], kinds: [process], targets: [61235] }]");
  start_warden();
  const auto victim = start_victim_of(kBob);
  {
    UserEngine engine(kAlice, options(), bind_or_die("process.pause", pause_parameters()));
    engine.wait_for("effective");
    EXPECT_TRUE(stopped(victim));
    engine.revert();
    engine.wait_for("verified");
  }
  // To start it again would be to run a program of Alice's as Bob.
  const auto kill = bind_or_die("process.kill", kill_parameters("start"));
  EXPECT_NE(UserEngine(kAlice, options(), kill).wait_for("failed").find("start: true"),
            std::string::npos);
  EXPECT_TRUE(process_state(victim).has_value());
  write_policy("allow: [{ groups: [61299], kinds: [process], targets: [61235], start: true }]");
  UserEngine engine(kAlice, options(), kill);
  engine.wait_for("effective");
  engine.revert();
  engine.wait_for("verified");
  ASSERT_EQ(find_victims().size(), 1u);
  EXPECT_EQ(account_of(find_victims()[0].process.identity)->user, kBob.user);
}

TEST_F(Callers, AServiceIsStartedAgainWithTheRightsOfItsOwner) {
  start_warden();
  start_victim_of(kAlice);
  UserEngine engine(kAlice, options(), bind_or_die("process.kill", kill_parameters("start")));
  engine.wait_for("effective");
  engine.revert();
  engine.wait_for("verified");
  ASSERT_EQ(find_victims().size(), 1u);
  const auto started = find_victims()[0].process.identity;
  EXPECT_EQ(account_of(started).value(), kAlice);
  const std::string status = text_of(fmt::format("/proc/{}/status", started.pid));
  EXPECT_NE(status.find("NoNewPrivs:\t1"), std::string::npos);
  EXPECT_NE(status.find("CapEff:\t0000000000000000"), std::string::npos);
}

// dd copies what the kernel says of dd itself.
class CallerCommands : public CallerTest {
 protected:
  model::FaultBinding command(const Account& account) {
    place_ = folder_of(account);
    return bind_or_die(
        "command", {{"argv", {"dd", "if=/proc/self/status", "of=" + place_ + "/made"}},
                    {"revert_argv", {"dd", "if=/proc/self/environ", "of=" + place_ + "/undone"}},
                    {"timeout", 10'000'000'000}});
  }
  std::string place_;
};

TEST_F(CallerCommands, RunWithTheCallersRightsAndNothingOfOurs) {
  start_warden();
  UserEngine engine(kAlice, options(), command(kAlice));
  engine.wait_for("effective");
  const std::string status = text_of(place_ + "/made");
  EXPECT_NE(status.find("Uid:\t61234\t61234\t61234\t61234"), std::string::npos) << status;
  EXPECT_NE(status.find("Gid:\t61234\t61234\t61234\t61234"), std::string::npos);
  EXPECT_NE(status.find("Groups:\t61234 61299"), std::string::npos);
  EXPECT_NE(status.find("NoNewPrivs:\t1"), std::string::npos);
  EXPECT_NE(status.find("CapPrm:\t0000000000000000"), std::string::npos);
  engine.revert();
  engine.wait_for("verified");
  const std::string environment = text_of(place_ + "/undone");
  EXPECT_EQ(owner_of(place_ + "/undone"), kAlice.user);
  EXPECT_EQ(environment.find("SECRET"), std::string::npos) << environment;
  EXPECT_NE(environment.find("PATH="), std::string::npos);
}

// A forged binding cannot say as whom: whatever it names, the caller's rights are all it gets.
TEST_F(CallerCommands, CannotWriteWhereTheCallerCannot) {
  start_warden();
  auto binding = command(kBob);  // a folder of Bob's
  Json details = binding.details.json();
  details["revert_argv"] = {"true"};
  details["user"] = 0;
  details["account"] = {{"user", 0}, {"group", 0}};
  binding.details = model::Parameters{details};
  UserEngine engine(kAlice, options(), binding);
  EXPECT_NE(engine.wait_for("failed").find("Permission denied"), std::string::npos);
  EXPECT_EQ(::access((place_ + "/made").c_str(), F_OK), -1);
}

TEST_F(CallerCommands, AreUndoneWithTheCallersRightsAlsoWhenAllWereKilled) {
  start_warden();
  auto engine = std::make_unique<UserEngine>(kAlice, options(), command(kAlice));
  engine->wait_for("effective");
  const auto holder = base::PidFd::open(run_files(StateDirectory{state_}).at(0).holder);
  ASSERT_TRUE(warden_->pidfd().signal(SIGSTOP).ok());
  ::kill(engine->pid(), SIGSTOP);
  ASSERT_TRUE(holder->signal(SIGKILL).ok());
  engine->kill();
  end_warden(SIGKILL);
  wait_until([&] { return holder->ended(); }, "the holder's end");
  ASSERT_EQ(::access((place_ + "/undone").c_str(), F_OK), -1);
  start_warden();
  wait_until([&] { return active_leases(state_)->empty(); }, "the replay");
  EXPECT_EQ(owner_of(place_ + "/undone"), kAlice.user);
  EXPECT_EQ(text_of(place_ + "/undone").find("SECRET"), std::string::npos);
}

TEST_F(Callers, WardenAndHolderKilledTheEngineWaitsForTheNextWarden) {
  start_warden();
  const auto victim = start_victim_of(kAlice);
  UserEngine engine(kAlice, options(), bind_or_die("process.pause", pause_parameters()));
  engine.wait_for("effective");
  const auto holder = base::PidFd::open(run_files(StateDirectory{state_}).at(0).holder);
  ASSERT_TRUE(warden_->pidfd().signal(SIGSTOP).ok());
  ASSERT_TRUE(holder->signal(SIGKILL).ok());
  end_warden(SIGKILL);
  start_warden();
  wait_until_runs(victim);
  wait_until([&] { return active_leases(state_)->empty(); }, "the end of the lease");
}

TEST_F(Callers, AHangingHolderOfAUserIsKilledByTheWarden) {
  start_warden();
  const auto victim = start_victim_of(kAlice);
  UserEngine engine(kAlice, options(), bind_or_die("process.pause", pause_parameters()));
  engine.wait_for("effective");
  const auto holder = base::PidFd::open(run_files(StateDirectory{state_}).at(0).holder);
  ASSERT_TRUE(holder->signal(SIGSTOP).ok());
  engine.wait_for("verified");
  EXPECT_FALSE(stopped(victim));
}

TEST_F(Callers, AGreetingIsNotBelieved) {
  start_warden();
  const auto victim = start_victim_of(kBob);
  const auto binding = bind_or_die("process.pause", pause_parameters());
  const std::string elsewhere = folder_of(kAlice);
  const std::string said = said_as(kAlice, [&]() -> std::string {
    Hello hello;
    hello.options = options();
    hello.options.state_directory = elsewhere;
    hello.owner = "root";
    hello.engine = base::identify_process(1).value();
    hello.caller = Account{};  // root
    hello.policy_file = elsewhere + "/policy.yaml";
    std::ofstream(hello.policy_file)
        << "allow: [{ users: [61234], kinds: [process], targets: [61235] }]";
    const auto warden = connect_to_warden(StateDirectory{state_});
    if (!warden.ok() || !send_packet(warden->get(), encode(hello).value()).ok()) return "not heard";
    base::UniqueFd holder;
    for (int i = 0; i < 500 && !holder; ++i) {
      ::usleep(10'000);
      if (!receive_packet(warden->get(), &holder).ok()) return "hung up";
    }
    const ArmMessage arm{.lease = base::LeaseId::generate(),
                         .request = {.binding = binding, .duration = 10s}};
    if (!send_packet(holder.get(), encode(arm).value()).ok()) return "not heard";
    for (int i = 0; i < 500; ++i) {
      const auto packet = receive_packet(holder.get());
      if (!packet.ok()) return "hung up";
      if (packet->empty()) {
        ::usleep(10'000);
        continue;
      }
      const auto message = decode(*packet);
      const auto* event = message.ok() ? std::get_if<LeaseEvent>(&*message) : nullptr;
      if (event != nullptr) return std::string(to_string(event->state)) + " " + event->text;
    }
    return "silence";
  });
  EXPECT_EQ(said.substr(0, 6), "failed") << said;
  EXPECT_NE(said.find("belongs to user 61235"), std::string::npos) << said;
  EXPECT_FALSE(stopped(victim));
  EXPECT_FALSE(std::filesystem::exists(elsewhere + "/leases"));
}

TEST_F(Callers, APolicyThatOthersCouldWriteIsRefusedLoudly) {
  start_warden();
  const auto victim = start_victim_of(kAlice);
  const auto binding = bind_or_die("process.pause", pause_parameters());
  const auto refused = [&](const std::string& what) {
    const std::string said = UserEngine(kAlice, options(), binding).wait_for("refused");
    EXPECT_NE(said.find(what), std::string::npos) << said;
  };
  write_policy("allow: []");
  ::chmod(policy_.c_str(), 0664);
  refused("may be written by others than root");
  ::chmod(policy_.c_str(), 0644);
  ASSERT_EQ(::chown(policy_.c_str(), kAlice.user, 0), 0);
  refused("belongs to user 61234");
  ::unlink(policy_.c_str());
  ASSERT_EQ(::symlink("/etc/hostname", policy_.c_str()), 0);
  refused("is a symbolic link");
  ::unlink(policy_.c_str());
  write_policy("allow: [{ groups: [61299], kinds: [proces] }]");
  refused("did you mean `process`?");
  // Root's runs need no policy.
  start_holder();
  arm(binding);
  wait_for(LeaseState::kEffective);
  EXPECT_TRUE(stopped(victim));
}

}  // namespace
}  // namespace squall::inject
