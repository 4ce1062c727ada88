// The kinds that squeeze a service through its cgroup, and those that use up its connections.

#include <sys/stat.h>
#include <sys/statvfs.h>

#include "inject/journal.h"
#include "integration/inject/fixture.h"
#include "support/servers.h"

namespace squall::inject {
namespace {

class ResourceGroups : public InjectTest {
 protected:
  void TearDown() override {
    client_.reset();
    InjectTest::TearDown();
    if (group_.empty()) return;
    wait_until([&] { return ::rmdir(group_.c_str()) == 0 || errno == ENOENT; }, "an empty group");
  }

  // A group of this test for the controller; false when this machine mounts none.
  bool make_group(const std::string& controller) {
    for (const std::string& folder :
         {"/sys/fs/cgroup/" + controller, std::string("/sys/fs/cgroup")}) {
      const auto here = base::read_pseudo_file(folder + "/cgroup.procs");
      if (!here.ok()) continue;
      // Version two: its groups have the controllers that the group above hands down.
      const base::UniqueFd handed{
          ::open((folder + "/cgroup.subtree_control").c_str(), O_WRONLY | O_CLOEXEC)};
      const std::string name = controller == "blkio" ? "io" : controller;
      if (handed) (void)base::write_all(handed.get(), "+" + name);
      const std::string path = folder + "/squall-test-" + std::to_string(::getpid());
      if (::mkdir(path.c_str(), 0755) != 0 && errno != EEXIST) continue;
      group_ = path;
      return !limit_file(controller).empty();
    }
    return false;
  }
  void add_to_group(const base::ProcessIdentity& process) {
    ASSERT_TRUE(write_value("cgroup.procs", std::to_string(process.pid)));
  }
  bool write_value(const std::string& file, const std::string& value) const {
    const base::UniqueFd fd{::open((group_ + "/" + file).c_str(), O_WRONLY | O_CLOEXEC)};
    return base::write_all(fd.get(), value).ok();
  }
  std::string value(const std::string& file) const {
    return base::read_pseudo_file(group_ + "/" + file).value_or("unreadable");
  }
  // The file that holds the limit, in v1 and v2.
  std::string limit_file(const std::string& controller) const {
    for (const std::string& file : files_.at(controller)) {
      if (std::filesystem::exists(group_ + "/" + file)) return file;
    }
    return {};
  }

  base::ProcessIdentity start_in_group(const std::vector<std::string>& words) {
    if (map_.services.empty()) add_service(1);
    const auto victim = start_victim(words);
    add_to_group(victim);
    return victim;
  }
  static Json parameters(const std::string& name, const Json& amount) {
    Json json = pause_parameters();
    json[name] = amount;
    return json;
  }
  LeaseEvent put_in_force(const model::FaultBinding& binding) {
    lease_ = arm(binding);
    return wait_for(LeaseState::kEffective);
  }
  LeaseEvent take_away() {
    EXPECT_TRUE(client_->revert(lease_, "asked").ok());
    return wait_for(LeaseState::kVerified);
  }
  void expect_rehearsal(const model::FaultBinding& binding) {
    const auto rehearsed = client_->rehearse(binding);
    ASSERT_TRUE(rehearsed.ok()) << rehearsed.error().to_string();
    EXPECT_NE(rehearsed->find("reverted and verified"), std::string::npos);
  }

  const std::map<std::string, std::vector<std::string>> files_ = {
      {"cpu", {"cpu.cfs_quota_us", "cpu.max"}},
      {"memory", {"memory.limit_in_bytes", "memory.max"}},
      {"pids", {"pids.max"}},
      {"blkio", {"blkio.throttle.write_bps_device", "io.max"}}};
  std::string group_;
  base::LeaseId lease_;
};

TEST_F(ResourceGroups, AQuotaThrottlesAndTheFormerOneComesBack) {
  if (!make_group("cpu")) GTEST_SKIP() << "no cgroup with the controller cpu";
  const auto victim = start_in_group({"burns"});
  const std::string file = limit_file("cpu");
  const std::string before = value(file);
  const auto binding = bind_or_die("resource.cpu_quota", parameters("processors", 0.1));
  start_holder();
  expect_rehearsal(binding);
  EXPECT_EQ(value(file), before);
  const auto effective = put_in_force(binding);
  EXPECT_NE(effective.text.find("throttled"), std::string::npos) << effective.text;
  // Over whole periods a busy loop has no more than its share.
  const auto used = [&] { return host::real_host().usage(victim)->processor_seconds; };
  const double first = used();
  const base::Instant start = base::BootClock::now();
  wait_until([&] { return base::BootClock::now() - start > 1500ms; }, "some periods");
  const double share = (used() - first) / base::to_seconds(base::BootClock::now() - start);
  RecordProperty("share", std::to_string(share));
  EXPECT_LT(share, 0.2);
  const auto verified = take_away();
  EXPECT_EQ(value(file), before) << verified.text;
}

TEST_F(ResourceGroups, AKilledHoldersQuotaIsUndoneFromItsJournal) {
  if (!make_group("cpu")) GTEST_SKIP() << "no cgroup with the controller cpu";
  start_in_group({"burns"});
  const std::string file = limit_file("cpu");
  ASSERT_TRUE(write_value(file, "90000"));
  const std::string before = value(file);
  start_holder();
  put_in_force(bind_or_die("resource.cpu_quota", parameters("processors", 0.2)));
  EXPECT_NE(value(file), before);
  kill_holder();
  await_replay();
  EXPECT_EQ(value(file), before);
}

TEST_F(ResourceGroups, WhatSomebodyElseWroteMeanwhileStays) {
  if (!make_group("cpu")) GTEST_SKIP() << "no cgroup with the controller cpu";
  start_in_group({"burns"});
  const std::string file = limit_file("cpu");
  const auto binding = bind_or_die("resource.cpu_quota", parameters("processors", 0.2));
  start_holder();
  put_in_force(binding);
  ASSERT_TRUE(write_value(file, "70000"));
  const std::string theirs = value(file);
  EXPECT_NE(take_away().text.find("somebody else wrote"), std::string::npos);
  EXPECT_EQ(value(file), theirs);
  // And what they wrote between bind and arm is not overwritten.
  arm(binding);
  EXPECT_NE(wait_for(LeaseState::kFailed).text.find("when the fault was bound"), std::string::npos);
  EXPECT_EQ(value(file), theirs);
}

TEST_F(ResourceGroups, AGroupThatHoldsOthersIsRefused) {
  if (!make_group("cpu")) GTEST_SKIP() << "no cgroup with the controller cpu";
  add_service(2);
  const auto first = start_victim();
  const auto second = start_victim();
  wait_until([&] { return find_victims().size() == 2; }, "two victims");
  auto binding = try_bind("resource.cpu_quota", parameters("processors", 0.1));
  ASSERT_FALSE(binding.ok());  // they are in the root group, or in ours
  if (binding.error().code == base::ErrorCode::kUnsupported) {
    EXPECT_NE(binding.error().hint.find("cgroup.procs"), std::string::npos);
  } else {
    EXPECT_EQ(binding.error().code, base::ErrorCode::kBlocked);
    EXPECT_NE(binding.error().message.find("also holds process"), std::string::npos);
  }
  add_to_group(first);
  add_to_group(second);
  binding = try_bind("resource.cpu_quota", parameters("processors", 0.1));
  ASSERT_FALSE(binding.ok());
  EXPECT_EQ(binding.error().code, base::ErrorCode::kBlocked);
  EXPECT_NE(binding.error().message.find("also holds process"), std::string::npos);
  EXPECT_NE(binding.error().hint.find("`count`"), std::string::npos);
  Json both = parameters("processors", 0.1);
  both["count"] = 2;
  EXPECT_TRUE(try_bind("resource.cpu_quota", both).ok());
  // Less than the kernel takes, and no squeeze.
  ASSERT_TRUE(write_value(limit_file("cpu"), "5000"));
  binding = try_bind("resource.cpu_quota", both);
  ASSERT_FALSE(binding.ok());
  EXPECT_NE(binding.error().message.find("already"), std::string::npos);
}

TEST_F(ResourceGroups, AServiceThatGrowsMeetsItsMemoryLimit) {
  if (!make_group("memory")) GTEST_SKIP() << "no cgroup with the controller memory";
  const auto victim = start_in_group({"grows"});
  const std::string file = limit_file("memory");
  const std::string before = value(file);
  start_holder();
  const auto binding = bind_or_die("resource.memory_limit", parameters("left", 32 << 20));
  expect_rehearsal(binding);
  const auto effective =
      put_in_force(bind_or_die("resource.memory_limit", parameters("left", 32 << 20)));
  EXPECT_NE(effective.text.find("in force"), std::string::npos);
  EXPECT_NE(wait_for_notice().text.find("the kernel killed 1"), std::string::npos);
  wait_until([&] { return process_state(victim).value_or('Z') == 'Z'; }, "the victim's end");
  take_away();
  EXPECT_EQ(value(file), before);
}

TEST_F(ResourceGroups, AMemoryLimitIsApproachedInSteps) {
  if (!make_group("memory")) GTEST_SKIP() << "no cgroup with the controller memory";
  const auto victim = start_in_group({"caches=" + folder_ + "/cached"});
  const std::string file = limit_file("memory");
  const std::string before = value(file);
  const std::string name = file == "memory.max" ? "memory.current" : "memory.usage_in_bytes";
  const auto used = [&] { return std::strtoull(value(name).c_str(), nullptr, 10); };
  wait_until([&] { return used() > (200u << 20); }, "200 MiB of page cache");
  start_holder();
  lease_ = arm(bind_or_die("resource.memory_limit", parameters("left", 8 << 20)));
  wait_for(LeaseState::kArmed);
  EXPECT_LT(used(), 64u << 20);
  // One note a step, each of them before its write.
  const auto journal = read_journal(StateDirectory{state_}.lease_files().at(0));
  ASSERT_TRUE(journal.ok());
  EXPECT_GE(journal->notes.size(), 3u);
  EXPECT_NE(process_state(victim).value_or('X'), 'X');
  take_away();
  EXPECT_EQ(value(file), before);
}

TEST_F(ResourceGroups, ALimitBelowWhatIsPinnedIsRefused) {
  if (!make_group("memory")) GTEST_SKIP() << "no cgroup with the controller memory";
  start_in_group({"grows"});
  wait_until(
      [&] {
        const std::string name =
            limit_file("memory") == "memory.max" ? "memory.current" : "memory.usage_in_bytes";
        return std::strtoull(value(name).c_str(), nullptr, 10) > (4u << 20);
      },
      "four mebibytes");
  const auto binding = try_bind("resource.memory_limit", parameters("limit", 1 << 20));
  ASSERT_FALSE(binding.ok());
  EXPECT_EQ(binding.error().code, base::ErrorCode::kBlocked);
  EXPECT_NE(binding.error().hint.find("left"), std::string::npos);
  EXPECT_FALSE(try_bind("resource.memory_limit", pause_parameters()).ok());
}

TEST_F(ResourceGroups, NoMoreProcessesCanBeStarted) {
  if (!make_group("pids")) GTEST_SKIP() << "no cgroup with the controller pids";
  const std::string report = folder_ + "/report";
  const auto says = [&](const std::string& text) {
    const auto content = base::read_file(report, 100);
    return content.ok() && content->find(text) != std::string::npos;
  };
  start_in_group({"starts=" + report});
  wait_until([&] { return says("1 ok"); }, "a child");
  const std::string before = value("pids.max");
  const auto binding = bind_or_die("resource.pids", parameters("limit", 1));
  start_holder();
  expect_rehearsal(binding);
  put_in_force(binding);
  wait_until([&] { return says("0 EAGAIN"); }, "EAGAIN");
  take_away();
  EXPECT_EQ(value("pids.max"), before);
  wait_until([&] { return says("1 ok"); }, "a child again");
}

TEST_F(ResourceGroups, ADiskIsSlowAndFastAgain) {
  if (!make_group("blkio")) GTEST_SKIP() << "no cgroup with the controller blkio";
  const std::string path = folder_ + "/written";
  const auto victim = start_in_group({"writes=" + path});
  Json wanted = parameters("write_bytes", 1 << 20);
  wanted["path"] = folder_;
  const auto binding = try_bind("resource.io_throttle", wanted);
  if (!binding.ok() && binding.error().code == base::ErrorCode::kUnsupported)
    GTEST_SKIP() << binding.error().message;
  ASSERT_TRUE(binding.ok()) << binding.error().to_string();
  const auto written = [&] {
    const auto text = base::read_pseudo_file("/proc/" + std::to_string(victim.pid) + "/io");
    const std::size_t at = text.ok() ? text->find("\nwrite_bytes: ") : std::string::npos;
    return at == std::string::npos ? 0.0 : std::atof(text->c_str() + at + 14);
  };
  wait_until([&] { return written() > 4 << 20; }, "the victim to write");
  const std::string file = limit_file("blkio");
  const std::string before = value(file);
  start_holder();
  expect_rehearsal(*binding);
  put_in_force(*binding);
  const base::Instant start = base::BootClock::now();
  const double first = written();
  wait_until([&] { return base::BootClock::now() - start > 2s; }, "two seconds");
  const double rate = (written() - first) / base::to_seconds(base::BootClock::now() - start);
  RecordProperty("bytes_per_second", std::to_string(rate));
  EXPECT_LT(rate, 1.6 * (1 << 20));
  take_away();
  EXPECT_EQ(value(file), before);
  const double after = written();
  wait_until([&] { return written() > after + (8 << 20); }, "the victim to write fast");
}

TEST_F(ResourceGroups, AThrottleNeedsARateAndADisk) {
  add_service(1);
  start_victim();
  wait_until([&] { return find_victims().size() == 1; }, "a victim");
  Json wanted = pause_parameters();
  wanted["path"] = "/dev/shm";
  auto binding = try_bind("resource.io_throttle", wanted);
  ASSERT_FALSE(binding.ok());
  EXPECT_NE(binding.error().message.find("no rate"), std::string::npos);
  wanted["write_bytes"] = 1 << 20;
  binding = try_bind("resource.io_throttle", wanted);
  ASSERT_FALSE(binding.ok());
  EXPECT_NE(binding.error().message.find("no disk"), std::string::npos);
}

// ---- resource.connections ------------------------------------------------------------------

class ResourceConnections : public ResourceGroups {
 protected:
  void add_server(std::uint16_t port) {
    model::Service service;
    service.name = "server";
    service.listens = model::ListenAddress{.address = "127.0.0.1", .port = port};
    map_.services.push_back(service);
  }
  static Json wanted(int count, const std::string& hold) {
    return {{"service", "server"},
            {"connections", count},
            {"hold", hold},
            {"user", "postgres"},
            {"database", "postgres"}};
  }
  static base::UniqueFd connect_to(std::uint16_t port) {
    base::UniqueFd client{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    EXPECT_EQ(::connect(client.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    return client;
  }
  static std::string ask(const base::UniqueFd& client, const std::string& text) {
    if (::send(client.get(), text.data(), text.size(), MSG_NOSIGNAL) < 0) return "not sent";
    std::array<char, 512> answer{};
    const ssize_t size = ::recv(client.get(), answer.data(), answer.size(), 0);
    return size <= 0 ? "nothing" : std::string(answer.data(), static_cast<std::size_t>(size));
  }
};

TEST_F(ResourceConnections, RedisTurnsNewClientsAwayAndKeepsItsOwn) {
  test::RedisServer redis;
  add_server(redis.port());
  const auto friendly = connect_to(redis.port());
  ASSERT_EQ(ask(friendly, "CONFIG SET maxclients 12\r\n"), "+OK\r\n");
  const auto binding = bind_or_die("resource.connections", wanted(40, "tcp"));
  start_holder();
  expect_rehearsal(binding);
  const auto effective = put_in_force(binding);
  EXPECT_NE(effective.text.find("max number of clients reached"), std::string::npos)
      << effective.text;
  EXPECT_NE(effective.proof.find("\"established\":11"), std::string::npos) << effective.proof;
  EXPECT_NE(ask(connect_to(redis.port()), "PING\r\n").find("max number"), std::string::npos);
  EXPECT_EQ(ask(friendly, "PING\r\n"), "+PONG\r\n");
  const auto verified = take_away();
  EXPECT_NE(verified.text.find("none of our connections"), std::string::npos) << verified.text;
  EXPECT_TRUE(
      test::eventually([&] { return ask(connect_to(redis.port()), "PING\r\n") == "+PONG\r\n"; }));
}

TEST_F(ResourceConnections, AConnectionThatTheServerClosesIsOpenedAgain) {
  test::RedisServer redis;
  add_server(redis.port());
  start_holder();
  put_in_force(bind_or_die("resource.connections", wanted(5, "tcp")));
  const auto client = connect_to(redis.port());
  EXPECT_EQ(ask(client, "CLIENT KILL TYPE normal SKIPME yes\r\n"), ":5\r\n");
  EXPECT_NE(wait_for_notice().text.find("opened again"), std::string::npos);
  EXPECT_TRUE(test::eventually([&] {
    return ask(client, "INFO clients\r\n").find("connected_clients:6") != std::string::npos;
  }));
  take_away();
  EXPECT_TRUE(test::eventually([&] {
    return ask(client, "INFO clients\r\n").find("connected_clients:1\r") != std::string::npos;
  }));
}

TEST_F(ResourceConnections, AKilledHolderFreesEveryPlace) {
  test::RedisServer redis;
  add_server(redis.port());
  start_holder();
  put_in_force(bind_or_die("resource.connections", wanted(500, "tcp")));
  const auto client = connect_to(redis.port());
  EXPECT_NE(ask(client, "INFO clients\r\n").find("connected_clients:501"), std::string::npos);
  kill_holder();
  await_replay();
  EXPECT_TRUE(test::eventually([&] {
    return ask(client, "INFO clients\r\n").find("connected_clients:1\r") != std::string::npos;
  }));
}

TEST_F(ResourceConnections, PostgresHasNoPlaceLeft) {
  test::PostgresServer postgres;
  const auto sql = [&](const std::string& statement) {
    const auto result =
        base::run_command({.argv = {"psql", "-X", "-d", postgres.dsn(), "-Atc", statement}}, 20s);
    return result.ok() ? result->output + result->error : result.error().to_string();
  };
  ASSERT_NE(sql("ALTER SYSTEM SET max_connections = 10").find("ALTER SYSTEM"), std::string::npos);
  postgres.stop();
  postgres.start();
  add_server(postgres.port());
  const auto binding = bind_or_die("resource.connections", wanted(15, "postgres"));
  start_holder();
  const auto effective = put_in_force(binding);
  EXPECT_NE(effective.text.find("too many clients already"), std::string::npos) << effective.text;
  EXPECT_NE(effective.proof.find("\"established\":10"), std::string::npos) << effective.proof;
  EXPECT_NE(sql("SELECT 42").find("too many clients"), std::string::npos);
  take_away();
  EXPECT_TRUE(test::eventually([&] { return sql("SELECT 42") == "42\n"; }));
}

TEST_F(ResourceConnections, AServerThatIsNotThereAndEvidenceAreRefused) {
  add_server(test::free_port());
  start_holder();
  arm(bind_or_die("resource.connections", wanted(3, "tcp")));
  EXPECT_NE(wait_for_notice().text.find("refused"), std::string::npos);
  model::ProbeSpecification probe;
  probe.name = "reads";
  probe.to = "server";
  map_.probes.push_back(probe);
  const auto binding = try_bind("resource.connections", wanted(3, "tcp"));
  ASSERT_FALSE(binding.ok());
  EXPECT_NE(binding.error().message.find("Squall's own evidence"), std::string::npos);
}

}  // namespace
}  // namespace squall::inject
