#include "inject/faults/network/nft_table.h"
#include "integration/inject/network_fixture.h"

namespace squall::inject {
namespace {

class NetworkFaults : public NetworkTest {
 protected:
  void run_partition(const Server& server);
};

void NetworkFaults::run_partition(const Server& server) {
  const auto binding = bind_or_die("network.partition", {{"from", "users"}, {"to", "server"}});
  base::UniqueFd live;
  ASSERT_EQ(server.connect(live, 5s), 0);
  const base::UniqueFd accepted = server.accept();
  start_holder();
  const auto rehearsed = client_->rehearse(binding);
  ASSERT_TRUE(rehearsed.ok()) << rehearsed.error().to_string();
  const auto lease = arm(binding);
  wait_for(LeaseState::kArmed);
  // A live connection is cut, both ways, and a new one hangs.
  ASSERT_EQ(::send(live.get(), "x", 1, MSG_NOSIGNAL), 1);
  EXPECT_FALSE(arrives(accepted.get(), 200ms));
  ASSERT_EQ(::send(accepted.get(), "y", 1, MSG_NOSIGNAL), 1);
  EXPECT_FALSE(arrives(live.get(), 200ms));
  base::UniqueFd fresh;
  EXPECT_EQ(server.connect(fresh, 200ms), ETIMEDOUT);
  EXPECT_NE(wait_for(LeaseState::kEffective).proof.find("packets"), std::string::npos);
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kVerified);
  EXPECT_TRUE(arrives(accepted.get(), 20s));  // retransmitted
  EXPECT_TRUE(arrives(live.get(), 20s));
  EXPECT_EQ(server.connect(fresh, 5s), 0);
}

TEST_F(NetworkFaults, PartitionCutsLiveAndNewConnections) {
  const Server server;
  add_server(server);
  run_partition(server);
}

TEST_F(NetworkFaults, PartitionCutsIPv6) {
  const Server server{AF_INET6};
  add_server(server, "::1");
  run_partition(server);
}

TEST_F(NetworkFaults, RefuseResetsNewConnectionsOnly) {
  const Server server;
  add_server(server);
  const auto binding = bind_or_die("network.refuse", {{"service", "server"}});
  base::UniqueFd live;
  ASSERT_EQ(server.connect(live, 5s), 0);
  const base::UniqueFd accepted = server.accept();
  start_holder();
  const auto lease = arm(binding);
  wait_for(LeaseState::kArmed);
  base::UniqueFd fresh;
  EXPECT_EQ(server.connect(fresh, 5s), ECONNREFUSED);
  wait_for(LeaseState::kEffective);
  ASSERT_EQ(::send(live.get(), "x", 1, MSG_NOSIGNAL), 1);
  EXPECT_TRUE(arrives(accepted.get(), 5s));
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kVerified);
  EXPECT_EQ(server.connect(fresh, 5s), 0);
}

TEST_F(NetworkFaults, NobodyElseCanTakeTheTableAway) {
  const Server server;
  add_server(server);
  start_holder();
  const auto lease = arm(bind_or_die("network.partition", {{"from", "users"}, {"to", "server"}}));
  wait_for(LeaseState::kArmed);
  const std::string table = "squall_" + lease.text();
  EXPECT_TRUE(NftTable::exists(table).value());
  const auto deleted = base::run_command({.argv = {"nft", "delete", "table", "inet", table}}, 10s);
  ASSERT_TRUE(deleted.ok());
  EXPECT_NE(deleted->exit_status, 0);
  EXPECT_TRUE(NftTable::exists(table).value());
}

TEST_F(NetworkFaults, AKilledHolderTakesItsTableAlong) {
  const Server server;
  add_server(server);
  start_holder();
  const auto lease = arm(bind_or_die("network.partition", {{"from", "users"}, {"to", "server"}}));
  wait_for(LeaseState::kArmed);
  kill_holder();
  wait_until([&] { return !NftTable::exists("squall_" + lease.text()).value(); }, "no table");
  await_replay();
  base::UniqueFd fresh;
  EXPECT_EQ(server.connect(fresh, 5s), 0);
}

TEST_F(NetworkFaults, APairThatCannotBeToldApartIsRefusedWithTheReason) {
  const Server server;
  add_server(server);
  // Both are the same process.
  add_service(1);
  map_.services.back().depends_on = {"server"};
  model::Service second = map_.services.back();
  second.name = "second";
  map_.services.push_back(second);
  start_victim();
  wait_until([&] { return find_victims().size() == 1; }, "a victim");
  const auto refused = try_bind("network.partition", {{"from", "victim"}, {"to", "server"}});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, base::ErrorCode::kUnsupported);
  EXPECT_NE(refused.error().message.find("service second"), std::string::npos);
  EXPECT_NE(refused.error().message.find("of second is also victim"), std::string::npos)
      << refused.error().message;
  EXPECT_NE(refused.error().hint.find("user of its own"), std::string::npos);
}

TEST_F(NetworkFaults, SquallsOwnEvidenceIsNeverCut) {
  const Server server;
  add_server(server);
  model::ProbeSpecification probe;
  probe.name = "stuck";
  probe.to = "server";
  map_.probes.push_back(probe);
  const auto refused = try_bind("network.refuse", {{"service", "server"}});
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message.find("stuck"), std::string::npos);
  EXPECT_FALSE(try_bind("network.partition", {{"from", "users"}, {"to", "server"}}).ok());
  map_.probes[0].from = "users";  // now it stands for the users, and is hit like them
  EXPECT_TRUE(try_bind("network.refuse", {{"service", "server"}}).ok());
  EXPECT_TRUE(try_bind("network.partition", {{"from", "users"}, {"to", "server"}}).ok());
}

TEST_F(NetworkFaults, PartitionByUserHitsThatUserOnly) {
  const Server server;
  add_server(server);
  model::Service other;
  other.name = "other";
  other.external = false;
  other.process = {.exe = "victim_for_tests", .argv_contains = folder_, .user = "nobody"};
  other.depends_on = {"server"};
  map_.services.push_back(other);
  const auto victim = base::spawn({.argv = {program("victim_for_tests"), folder_},
                                   .user = 65534,
                                   .parent_death_signal = SIGKILL});
  if (!victim.ok()) GTEST_SKIP() << "the build folder is closed to other users";
  map_.services[0].external = true;
  auto rules = [&](const model::FaultBinding& binding) {
    return binding.details.json()["rules"].dump();
  };
  const auto binding = try_bind("network.partition", {{"from", "other"}, {"to", "server"}});
  ASSERT_TRUE(victim->pidfd().signal(SIGKILL).ok());
  ASSERT_TRUE(binding.ok()) << binding.error().to_string() << binding.error().hint;
  EXPECT_NE(rules(*binding).find("65534"), std::string::npos);
  start_holder();
  const auto lease = arm(*binding);
  wait_for(LeaseState::kArmed);
  base::UniqueFd ours;
  EXPECT_EQ(server.connect(ours, 5s), 0);  // root passes
  const auto connect_as_nobody = base::run_command(
      {.argv = {"/usr/bin/python3", "-c",
                "import socket,sys; s=socket.socket(); s.settimeout(0.5); "
                "sys.exit(0 if s.connect_ex(('127.0.0.1', int(sys.argv[1])))==0 else 1)",
                std::to_string(server.port())},
       .user = 65534},
      20s);
  if (connect_as_nobody.ok()) {
    EXPECT_EQ(connect_as_nobody->exit_status, 1) << connect_as_nobody->error;
    EXPECT_NE(wait_for(LeaseState::kEffective).proof.find("packets"), std::string::npos);
  }
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kVerified);
}

// ---- command
// ---------------------------------------------------------------------------------------

class CommandFault : public InjectTest {
 protected:
  Json parameters(const std::vector<std::string>& argv) {
    return {{"argv", argv},
            {"revert_argv", Json::array({"/bin/rm", "-f", folder_ + "/flag"})},
            {"proof_argv", Json::array({"/usr/bin/test", "-e", folder_ + "/flag"})},
            {"timeout", 5'000'000'000}};
  }
  bool flag() const { return std::filesystem::exists(folder_ + "/flag"); }
};

TEST_F(CommandFault, RunsItsProgramsAndProvesBoth) {
  const auto binding = bind_or_die("command", parameters({"/usr/bin/touch", folder_ + "/flag"}));
  start_holder();
  ASSERT_TRUE(client_->rehearse(binding).ok());
  EXPECT_FALSE(flag());
  const auto lease = arm(binding);
  wait_for(LeaseState::kEffective);
  EXPECT_TRUE(flag());
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kVerified);
  EXPECT_FALSE(flag());
}

TEST_F(CommandFault, AProgramThatFailsIsAnErrorAndIsUndone) {
  start_holder();
  arm(bind_or_die("command", parameters({"/bin/false"})));
  const auto failed = wait_for(LeaseState::kFailed);
  EXPECT_FALSE(failed.still_active);
  EXPECT_NE(failed.text.find("ended with 1"), std::string::npos) << failed.text;
}

TEST_F(CommandFault, AProgramThatTakesTooLongIsKilled) {
  auto slow = parameters({"/bin/sleep", "60"});
  slow["timeout"] = 100'000'000;
  start_holder();
  arm(bind_or_die("command", slow));
  EXPECT_NE(wait_for(LeaseState::kFailed).text.find("was killed"), std::string::npos);
}

TEST_F(CommandFault, AProgramThatDoesNotExistIsRefusedAtBind) {
  const auto refused = try_bind("command", parameters({"/no/such/program"}));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, base::ErrorCode::kNotFound);
}

TEST_F(CommandFault, AKilledHolderIsUndoneFromTheDurableJournal) {
  start_holder();
  arm(bind_or_die("command", parameters({"/usr/bin/touch", folder_ + "/flag"})));
  wait_for(LeaseState::kEffective);
  EXPECT_EQ(files_with_suffix(StateDirectory{state_}.durable_leases(), ".lease").size(), 1u);
  kill_holder();
  await_replay();
  EXPECT_FALSE(flag());
}

TEST_F(CommandFault, ARevertThatFailsIsToldAndTriedAgain) {
  auto stubborn = parameters({"/usr/bin/touch", folder_ + "/flag"});
  stubborn["revert_argv"] = Json::array({"/bin/rm", folder_ + "/key"});  // fails without it
  stubborn.erase("proof_argv");
  start_holder();
  const auto lease = arm(bind_or_die("command", stubborn));
  wait_for(LeaseState::kEffective);
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  EXPECT_TRUE(wait_for(LeaseState::kFailed).still_active);
  ASSERT_TRUE(base::write_file_atomically(folder_ + "/key", "").ok());
  wait_for_event([](const auto& e) { return e.state == LeaseState::kVerified; }, false, true);
}

}  // namespace
}  // namespace squall::inject
