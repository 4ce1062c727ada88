// redis.failover with real servers and Sentinel, postgres.failover with a real streaming standby.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "base/text.h"
#include "inject/faults/failover/redis_exchange.h"
#include "integration/inject/fixture.h"

namespace squall::inject {
namespace {

class Failover : public InjectTest {
 protected:
  void TearDown() override {
    client_.reset();
    for (base::ChildProcess& server : servers_) {
      static_cast<void>(server.pidfd().signal(SIGKILL));
      static_cast<void>(server.wait(10s));
    }
    InjectTest::TearDown();
  }

  // Below the ephemeral range, so that nobody's outgoing connection takes it meanwhile.
  static std::uint16_t free_port() {
    static std::uint16_t next = static_cast<std::uint16_t>(11000 + ::getpid() % 15000);
    for (;; ++next) {
      const base::UniqueFd fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
      sockaddr_in name{};
      name.sin_family = AF_INET;
      name.sin_port = htons(next);
      name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&name), sizeof name) == 0) return next++;
    }
  }
  base::ChildProcess& start(const std::vector<std::string>& argv) {
    auto child = base::spawn({.argv = argv, .parent_death_signal = SIGKILL});
    EXPECT_TRUE(child.ok()) << argv.front();
    servers_.push_back(child.ok() ? std::move(*child) : base::ChildProcess{});
    return servers_.back();
  }
  static int run(const std::vector<std::string>& argv) {
    const auto output = base::run_command({.argv = argv}, 60s);
    return output.ok() ? output->exit_status : -1;
  }
  void write(const std::string& name, const std::string& text) const {
    ASSERT_TRUE(base::write_file_atomically(folder_ + "/" + name, text).ok());
  }
  static model::MemberSelector member(const std::string& name, std::uint16_t port) {
    model::MemberSelector member;
    member.name = member.role = name;
    member.listens = model::ListenAddress{.address = "127.0.0.1", .port = port, .unix_path = {}};
    return member;
  }

  std::vector<base::ChildProcess> servers_;
};

class RedisFailover : public Failover {
 protected:
  static base::Result<RedisReply> ask(std::uint16_t port, const std::vector<std::string>& words) {
    RedisExchange exchange{
        {.address = "127.0.0.1", .port = port, .user = {}, .password = "secret"}, words, 2s};
    while (true) {
      if (auto outcome = exchange.advance()) return std::move(*outcome);
      ::usleep(1000);
    }
  }
  static std::string role(std::uint16_t port) {
    const auto reply = ask(port, {"ROLE"});
    return reply.ok() && !reply->items.empty() ? reply->items[0].text : std::string{};
  }
  std::vector<std::string> server_argv(std::uint16_t port, std::uint16_t primary) const {
    const std::string name = "redis-" + std::to_string(port) + ".conf";
    write(name, "port " + std::to_string(port) + "\nbind 127.0.0.1\ndir " + folder_ +
                    "\nsave \"\"\nrequirepass secret\nmasterauth secret\n"
                    "repl-diskless-sync-delay 0\n");
    std::vector<std::string> argv{"/usr/bin/redis-server", folder_ + "/" + name};
    if (primary != 0)
      argv.insert(argv.end(), {"--replicaof", "127.0.0.1 " + std::to_string(primary)});
    return argv;
  }

  template <typename Reply>
  static bool is_known_well(const Reply& replicas) {
    if (replicas.items.size() != 1) return false;
    const auto& fields = replicas.items[0].items;
    for (std::size_t i = 0; i + 1 < fields.size(); i += 2) {
      if (fields[i].text == "master-link-status") return fields[i + 1].text == "ok";
    }
    return false;
  }

  // One primary, one replica, one Sentinel that needs nobody's vote.
  void start_all() {
    if (::access("/usr/bin/redis-server", X_OK) != 0 ||
        ::access("/usr/bin/redis-sentinel", X_OK) != 0)
      GTEST_SKIP() << "redis-server and redis-sentinel are not installed";
    first_ = free_port();
    second_ = free_port();
    sentinel_ = free_port();
    start(server_argv(first_, 0));
    start(server_argv(second_, first_));
    wait_until([&] { return role(first_) == "master" && role(second_) == "slave"; }, "redis");
    wait_until([&] { return ask(first_, {"ROLE"})->items[2].items.size() == 1; }, "the replica");
    const std::string name = std::to_string(first_);
    write("sentinel.conf",
          "port " + std::to_string(sentinel_) + "\nbind 127.0.0.1\ndir " + folder_ +
              "\nrequirepass secret\nsentinel monitor queue 127.0.0.1 " + name +
              " 1\nsentinel auth-pass queue secret\n"
              "sentinel down-after-milliseconds queue 500\nsentinel failover-timeout queue 3000\n");
    start({"/usr/bin/redis-sentinel", folder_ + "/sentinel.conf"});
    wait_until(
        [&] {
          const auto replicas = ask(sentinel_, {"SENTINEL", "REPLICAS", "queue"});
          return replicas.ok() && replicas->items.size() == 1;
        },
        "sentinel");
    // How often it looks for members that have the wrong role; ten seconds by default.
    EXPECT_TRUE(
        ask(sentinel_, {"SENTINEL", "DEBUG", "INFO-PERIOD", "500", "PUBLISH-PERIOD", "200"}).ok());
    // Before it has asked the replica how it is, it would promote nobody.
    wait_until(
        [&] {
          return is_known_well(*ask(sentinel_, {"SENTINEL", "REPLICAS", "queue"}));
        },
        "sentinel to know the replica");
    write("password", "secret\n");
    model::Service queue;
    queue.name = "queue";
    queue.kind = "redis";
    // The names say nothing about who is the primary.
    queue.members = {member("one", second_), member("two", first_)};
    queue.start = server_argv(first_, second_);
    model::Service sentinel;
    sentinel.name = "sentinel";
    sentinel.listens =
        model::ListenAddress{.address = "127.0.0.1", .port = sentinel_, .unix_path = {}};
    map_.services = {queue, sentinel};
  }
  Json with(Json more) const {
    Json parameters = {{"service", "queue"},
                       {"password_file", folder_ + "/password"},
                       {"restore", "start"},
                       {"limit", 20'000'000'000}};
    parameters.update(more);
    return parameters;
  }

  std::uint16_t first_ = 0;
  std::uint16_t second_ = 0;
  std::uint16_t sentinel_ = 0;
};

TEST_F(RedisFailover, AKilledPrimaryIsReplacedAndTheNewOneNamed) {
  start_all();
  if (IsSkipped()) return;
  const auto binding = bind_or_die("redis.failover", with({{"action", "kill"}}));
  ASSERT_EQ(binding.targets.size(), 1u);
  EXPECT_EQ(binding.targets[0].member, "two");
  EXPECT_EQ(binding.details.json().dump().find("secret\""), std::string::npos);
  start_holder();
  ASSERT_TRUE(client_->rehearse(binding).ok());
  const auto lease = arm(binding);
  wait_for(LeaseState::kEffective);
  const auto notice = wait_for_notice();
  EXPECT_NE(notice.text.find("one is the new primary"), std::string::npos) << notice.text;
  EXPECT_EQ(role(second_), "master");
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  const auto verified = wait_for(LeaseState::kVerified);
  EXPECT_EQ(proof_of(verified)["primary"], "one") << verified.text;
  EXPECT_EQ(proof_of(verified)["before"], "two");
  EXPECT_NE(verified.text.find("exactly one primary"), std::string::npos);
  EXPECT_EQ(role(first_), "slave");
  // What was started again is nobody's child.
  const auto members = host::find_members(host::real_host(), map_.services[0]);
  ASSERT_TRUE(members.ok());
  for (const auto& each : *members) {
    const auto process = base::PidFd::open(each.process.identity);
    if (process.ok()) static_cast<void>(process->signal(SIGKILL));
  }
}

TEST_F(RedisFailover, SentinelMovesTheRole) {
  start_all();
  if (IsSkipped()) return;
  const auto binding = bind_or_die(
      "redis.failover", with({{"action", "sentinel-failover"}, {"sentinel", "sentinel"}}));
  EXPECT_EQ(binding.mechanism, "Sentinel");
  EXPECT_EQ(binding.details.json()["master"], "queue");
  start_holder();
  const auto lease = arm(binding);
  const auto effective = wait_for(LeaseState::kEffective);
  EXPECT_EQ(proof_of(effective)["primary"], "one") << effective.text;
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  EXPECT_EQ(proof_of(wait_for(LeaseState::kVerified))["primary"], "one");
  EXPECT_EQ(role(first_), "slave");
}

TEST_F(RedisFailover, APausedPrimaryRunsOnAndBothAgreeAtTheEnd) {
  start_all();
  if (IsSkipped()) return;
  const auto binding = bind_or_die("redis.failover", with({{"action", "pause"}}));
  start_holder();
  const auto lease = arm(binding);
  wait_for(LeaseState::kEffective);
  EXPECT_NE(wait_for_notice().text.find("one is the new primary"), std::string::npos);
  // The holder's death ends it all the same.
  const auto leases = active_leases(state_);
  ASSERT_TRUE(leases.ok());
  ::kill((*leases)[0].holder.pid, SIGKILL);
  static_cast<void>(lease);
  const auto verified = wait_for(LeaseState::kVerified);
  EXPECT_EQ(proof_of(verified)["primary"], "one") << verified.text;
  EXPECT_EQ(role(first_), "slave");
}

TEST_F(RedisFailover, WithoutAHeirOrAPasswordItIsRefused) {
  start_all();
  if (IsSkipped()) return;
  auto parameters = with({{"action", "kill"}});
  parameters.erase("password_file");
  const auto locked = try_bind("redis.failover", parameters);
  ASSERT_FALSE(locked.ok());
  EXPECT_EQ(locked.error().code, base::ErrorCode::kPermission);
  static_cast<void>(servers_[1].pidfd().signal(SIGKILL));
  static_cast<void>(servers_[1].wait(10s));
  const auto alone = try_bind("redis.failover", with({{"action", "kill"}}));
  ASSERT_FALSE(alone.ok());
  EXPECT_NE(alone.error().to_string().find("no replica that could take over"), std::string::npos);
}

TEST_F(RedisFailover, TwoPrimariesAtTheEndAreToldLoudly) {
  start_all();
  if (IsSkipped()) return;
  auto parameters = with({{"action", "pause"}});
  parameters["limit"] = 2'000'000'000;
  const auto binding = bind_or_die("redis.failover", parameters);
  // Nobody tells the old one.
  static_cast<void>(servers_[2].pidfd().signal(SIGKILL));
  static_cast<void>(servers_[2].wait(10s));
  start_holder();
  const auto lease = arm(binding);
  wait_for(LeaseState::kEffective);
  ASSERT_TRUE(ask(second_, {"REPLICAOF", "NO", "ONE"}).ok());
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  const auto failed = wait_for(LeaseState::kFailed);
  EXPECT_NE(failed.text.find("2 PRIMARIES"), std::string::npos) << failed.text;
  ASSERT_TRUE(ask(second_, {"REPLICAOF", "127.0.0.1", std::to_string(first_)}).ok());
  wait_for_event([](const auto& e) { return e.state == LeaseState::kVerified; }, false, true);
}

class PostgresFailover : public Failover {
 protected:
  static std::vector<std::string> as_postgres(std::vector<std::string> words) {
    std::vector<std::string> argv{"/usr/bin/setpriv", "--reuid=postgres", "--regid=postgres",
                                  "--clear-groups", "--"};
    words[0] = kPrograms + words[0];
    argv.insert(argv.end(), words.begin(), words.end());
    return argv;
  }
  static constexpr const char* kFast[] = {"fsync=off", "shared_buffers=1MB", "max_connections=10",
                                          "wal_level=replica", "autovacuum=off"};
  std::vector<std::string> server_argv(const std::string& name, std::uint16_t port) const {
    std::vector<std::string> words{
        "postgres", "-D", folder_ + "/" + name, "-p", std::to_string(port), "-k",
        folder_,    "-h", "127.0.0.1"};
    for (const char* setting : kFast) words.insert(words.end(), {"-c", setting});
    return as_postgres(words);
  }
  bool answers(std::uint16_t port) const {
    return run({kPrograms + "pg_isready", "-q", "-h", "127.0.0.1", "-p", std::to_string(port)}) ==
           0;
  }
  std::string sql(std::uint16_t port, const std::string& text) const {
    const auto output = base::run_command(
        {.argv = as_postgres({"psql", "-qAt", "-h", folder_, "-p", std::to_string(port), "-d",
                              "postgres", "-c", text})},
        20s);
    return output.ok() ? std::string(base::trim(output->output)) : std::string{};
  }

  // Nobody answers within a second.
  bool sql_in_vain(std::uint16_t port) const {
    return run({kPrograms + "pg_isready", "-q", "-t", "1", "-h", "127.0.0.1", "-p",
                std::to_string(port)}) != 0;
  }

  void start_all() {
    if (::access((kPrograms + "initdb").c_str(), X_OK) != 0)
      GTEST_SKIP() << "postgresql-15 is not installed";
    ASSERT_EQ(::chmod(folder_.c_str(), 0777), 0);
    first_ = free_port();
    second_ = free_port();
    ASSERT_EQ(run(as_postgres({"initdb", "-D", folder_ + "/a", "--auth=trust", "--no-sync",
                               "--no-instructions", "--locale=C"})),
              0);
    start(server_argv("a", first_));
    wait_until([&] { return answers(first_); }, "the primary");
    ASSERT_EQ(run(as_postgres({"pg_basebackup", "-D", folder_ + "/b", "-R", "-X", "stream",
                               "--checkpoint=fast", "--no-sync", "-h", folder_, "-p",
                               std::to_string(first_)})),
              0);
    start(server_argv("b", second_));
    wait_until([&] { return answers(second_); }, "the standby");
    wait_until([&] { return sql(first_, "select count(*) from pg_stat_replication") == "1"; },
               "replication");
    model::Service database;
    database.name = "db";
    database.kind = "postgres";
    database.members = {member("b", second_), member("a", first_)};
    database.start = server_argv("a", first_);
    map_.services = {database};
  }
  static Json with(Json more) {
    Json parameters = {{"service", "db"}, {"limit", 20'000'000'000}};
    parameters.update(more);
    return parameters;
  }

  static inline const std::string kPrograms = "/usr/lib/postgresql/15/bin/";
  std::uint16_t first_ = 0;
  std::uint16_t second_ = 0;
};

TEST_F(PostgresFailover, AKilledPrimaryComesBackAndAStandbyIsPromoted) {
  start_all();
  if (IsSkipped()) return;
  ASSERT_FALSE(sql(first_, "create table kept as select 42 as value; select 1").empty());
  start_holder();
  const auto kill = arm(bind_or_die("postgres.failover", with({{"action", "kill"}})));
  wait_for(LeaseState::kEffective);
  // It is our child: a zombie would count as the owner of its data folder.
  static_cast<void>(servers_[0].wait(10s));
  ASSERT_TRUE(client_->revert(kill, "asked").ok());
  const auto again = wait_for(LeaseState::kVerified);
  EXPECT_EQ(proof_of(again)["primary"], "a") << again.text;
  EXPECT_NE(again.text.find("a is the primary again"), std::string::npos) << again.text;

  const auto twice =
      try_bind("postgres.failover", with({{"action", "promote"}, {"restore", "start"}}));
  ASSERT_FALSE(twice.ok());
  EXPECT_NE(twice.error().to_string().find("would be a second one"), std::string::npos);
  const auto binding = bind_or_die("postgres.failover", with({{"action", "promote"}}));
  EXPECT_EQ(binding.targets[0].member, "a");
  const auto promote = arm(binding);
  const auto effective = wait_for(LeaseState::kEffective);
  EXPECT_EQ(proof_of(effective)["primary"], "b") << effective.text;
  EXPECT_EQ(sql(second_, "select pg_is_in_recovery()"), "f");
  EXPECT_EQ(sql(second_, "select value from kept"), "42");
  EXPECT_FALSE(answers(first_));
  ASSERT_TRUE(client_->revert(promote, "asked").ok());
  const auto verified = wait_for(LeaseState::kVerified);
  EXPECT_EQ(proof_of(verified)["primary"], "b") << verified.text;
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/b/promote"));
}

TEST_F(PostgresFailover, APausedPrimaryRunsOnWhenTheHolderDies) {
  start_all();
  if (IsSkipped()) return;
  const auto binding = bind_or_die("postgres.failover", with({{"action", "pause"}}));
  start_holder();
  static_cast<void>(arm(binding));
  wait_for(LeaseState::kEffective);
  EXPECT_TRUE(sql_in_vain(first_));
  kill_holder();
  const auto verified = wait_for(LeaseState::kVerified);
  EXPECT_EQ(proof_of(verified)["primary"], "a") << verified.text;
  EXPECT_EQ(proof_of(verified)["roles"]["b"], "replica");
  EXPECT_EQ(sql(first_, "select pg_is_in_recovery()"), "f");
}

// The standby has not taken the request up yet. It must not do so any time later.
TEST_F(PostgresFailover, AReplayWithdrawsAPromotionThatHasNotBegunAndSaysThatThereIsNoPrimary) {
  start_all();
  if (IsSkipped()) return;
  auto parameters = with({{"action", "promote"}});
  parameters["limit"] = 2'000'000'000;
  const auto binding = bind_or_die("postgres.failover", parameters);
  ASSERT_TRUE(servers_[1].pidfd().signal(SIGSTOP).ok());
  start_holder();
  static_cast<void>(arm(binding));
  wait_until([&] { return std::filesystem::exists(folder_ + "/b/promote"); }, "the request");
  kill_holder();
  static_cast<void>(servers_[0].wait(10s));
  const auto failed = wait_for(LeaseState::kFailed);
  EXPECT_NE(failed.text.find("NO primary"), std::string::npos) << failed.text;
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/b/promote"));
  ASSERT_TRUE(servers_[1].pidfd().signal(SIGCONT).ok());
  EXPECT_EQ(sql(second_, "select pg_is_in_recovery()"), "t");
  // What the message asks for, by hand.
  EXPECT_EQ(sql(second_, "select pg_promote()"), "t");
  wait_for_event([](const auto& e) { return e.state == LeaseState::kVerified; }, false, true);
}

}  // namespace
}  // namespace squall::inject
