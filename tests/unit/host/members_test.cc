#include <gtest/gtest.h>

#include "host/fake_host.h"
#include "host/host.h"

namespace squall::host {
namespace {

using base::ErrorCode;

std::vector<pid_t> pids(const std::vector<Member>& members) {
  std::vector<pid_t> result;
  for (const Member& member : members) result.push_back(member.process.identity.pid);
  return result;
}

std::vector<pid_t> found(const Host& host, const model::Service& service) {
  const auto members = find_members(host, service);
  EXPECT_TRUE(members.ok()) << members.error().to_string();
  return members.ok() ? pids(*members) : std::vector<pid_t>{};
}

model::ListenAddress at(std::string address, std::uint16_t port) {
  return {.address = std::move(address), .port = port};
}

// A workflow orchestrator's machine.
class Members : public testing::Test {
 protected:
  Members() {
    host_.add_process(1, 0, {"/usr/lib/systemd/systemd"}).name = "systemd";
    host_.add_process(50, 1, {"/opt/o/orchestrator-worker", "--name", "c"});
    host_.add_process(40, 1, {"/opt/o/orchestrator-worker", "--name", "b"});
    host_.add_process(30, 1, {"/opt/o/orchestrator-worker", "--name", "a"}).user = 1000;
    host_.add_process(100, 1, {"/usr/lib/postgresql/15/bin/postgres", "-D", "/data/primary"}).user =
        105;
    host_.add_process(101, 100, {"/usr/lib/postgresql/15/bin/postgres", "checkpointer"});
    host_.add_process(102, 100, {"/usr/lib/postgresql/15/bin/postgres", "walwriter"});
    host_.add_process(200, 1, {"/usr/lib/postgresql/15/bin/postgres", "-D", "/data/standby"});
    host_.add_process(201, 200, {"/usr/lib/postgresql/15/bin/postgres", "walreceiver"});
    host_.add_listener("127.0.0.1", 5432, {100, 101, 102});
    host_.add_listener("0.0.0.0", 5433, {200});
    service_.name = "worker";
  }

  ErrorCode error() {
    const auto members = find_members(host_, service_);
    EXPECT_FALSE(members.ok());
    return members.ok() ? ErrorCode::kInternal : members.error().code;
  }

  FakeHost host_;
  model::Service service_;
};

TEST_F(Members, ByExecutableSortedByStart) {
  service_.process.exe = "orchestrator-worker";
  const auto members = find_members(host_, service_).value();
  EXPECT_EQ(pids(members), (std::vector<pid_t>{50, 40, 30}));
  EXPECT_EQ(members[0].name, "worker-1");
  EXPECT_EQ(members[2].name, "worker-3");
  EXPECT_EQ(members[0].service, "worker");
}

TEST_F(Members, FullPathsAndPartsOfNames) {
  service_.process.exe = "/opt/o/orchestrator-worker";
  EXPECT_EQ(found(host_, service_).size(), 3u);
  service_.process.exe = "/usr/bin/orchestrator-worker";
  EXPECT_EQ(found(host_, service_).size(), 0u);
  service_.process.exe = "orchestrator";
  EXPECT_EQ(found(host_, service_).size(), 0u);
}

TEST_F(Members, AllConditionsMustHold) {
  service_.process = {.exe = "orchestrator-worker", .argv_contains = "b"};
  EXPECT_EQ(found(host_, service_), (std::vector<pid_t>{40}));
  service_.process = {.exe = "orchestrator-worker", .user = "1000"};
  EXPECT_EQ(found(host_, service_), (std::vector<pid_t>{30}));
  service_.process = {.exe = "orchestrator-worker", .user = "root"};
  EXPECT_EQ(found(host_, service_), (std::vector<pid_t>{50, 40}));
  service_.process = {.exe = "orchestrator-worker", .user = "squall-no-such-user"};
  EXPECT_EQ(error(), ErrorCode::kNotFound);
}

TEST_F(Members, ByCgroupAndBelow) {
  host_.add_process(60, 1, {"/bin/app"}).cgroup = "/system.slice/app.service";
  host_.add_process(61, 1, {"/bin/app"}).cgroup = "/system.slice/app.service/worker";
  host_.add_process(62, 1, {"/bin/app"}).cgroup = "/system.slice/app.service2";
  service_.process.cgroup = "/system.slice/app.service";
  EXPECT_EQ(found(host_, service_), (std::vector<pid_t>{60, 61}));
  service_.process.cgroup = "/system.slice/app.service/";
  EXPECT_EQ(found(host_, service_).size(), 2u);
}

TEST_F(Members, TheMainProcessNotItsForks) {
  service_.process.exe = "postgres";
  EXPECT_EQ(found(host_, service_), (std::vector<pid_t>{100, 200}));
}

TEST_F(Members, ByListenerNotWhoInheritedIt) {
  service_.listens = at("127.0.0.1", 5432);
  EXPECT_EQ(found(host_, service_), (std::vector<pid_t>{100}));
  service_.listens = at("127.0.0.1", 5433);  // bound to any address
  EXPECT_EQ(found(host_, service_), (std::vector<pid_t>{200}));
  service_.listens = at("localhost", 5432);
  EXPECT_EQ(found(host_, service_), (std::vector<pid_t>{100}));
  service_.listens = at("127.0.0.1", 9);
  EXPECT_TRUE(found(host_, service_).empty());
  service_.listens = at("10.0.0.1", 5432);  // bound to loopback only
  EXPECT_TRUE(found(host_, service_).empty());
}

TEST_F(Members, TheExactAddressIsPreferred) {
  host_.add_process(300, 1, {"/bin/other"});
  host_.add_listener("127.0.0.1", 5433, {300});
  service_.listens = at("127.0.0.1", 5433);
  EXPECT_EQ(found(host_, service_), (std::vector<pid_t>{300}));
}

TEST_F(Members, NamedMembersByTheirOwnAddress) {
  service_.name = "db";
  service_.process.exe = "postgres";
  service_.members = {{.name = "standby", .listens = at("127.0.0.1", 5433)},
                      {.name = "primary", .listens = at("127.0.0.1", 5432)}};
  const auto members = find_members(host_, service_).value();
  EXPECT_EQ(pids(members), (std::vector<pid_t>{200, 100}));
  EXPECT_EQ(members[0].name, "standby");
  service_.members[0].listens->port = 9;  // it does not run
  EXPECT_EQ(found(host_, service_), (std::vector<pid_t>{100}));
}

TEST_F(Members, NamedMembersMustBeTold) {
  service_.process.exe = "postgres";
  service_.members = {{.name = "primary"}};
  EXPECT_EQ(error(), ErrorCode::kConflict);  // fits both
  service_.members = {{.name = "a", .listens = at("127.0.0.1", 5432)},
                      {.name = "b", .listens = at("127.0.0.1", 5432)}};
  EXPECT_EQ(error(), ErrorCode::kConflict);  // the same
  service_.process = {};
  service_.members = {{.name = "primary"}};
  EXPECT_EQ(error(), ErrorCode::kBadFile);
  service_.members = {{.name = "p", .process = {.argv_contains = "/data/primary"}},
                      {.name = "s", .process = {.argv_contains = "/data/standby"}}};
  EXPECT_EQ(found(host_, service_), (std::vector<pid_t>{100, 200}));
}

TEST_F(Members, AnAddressNarrowsOnlyWhatIsTooMany) {
  service_.process.exe = "postgres";
  service_.listens = at("127.0.0.1", 5432);
  EXPECT_EQ(found(host_, service_).size(), 2u);
  service_.expected_members = 2;
  EXPECT_EQ(found(host_, service_).size(), 2u);
  service_.expected_members = 1;
  EXPECT_EQ(found(host_, service_), (std::vector<pid_t>{100}));
}

TEST_F(Members, SocketActivationIsSeenThrough) {
  host_.add_process(300, 1, {"/usr/bin/app"});
  host_.add_listener("127.0.0.1", 80, {1, 300});
  host_.add_listener("127.0.0.1", 81, {1});
  service_.listens = at("127.0.0.1", 80);
  EXPECT_EQ(found(host_, service_), (std::vector<pid_t>{300}));
  service_.listens = at("127.0.0.1", 81);
  EXPECT_EQ(error(), ErrorCode::kUnavailable);
}

TEST_F(Members, ProxiesAreNamedNotTaken) {
  host_.add_process(300, 1, {"/usr/bin/docker-proxy", "-proto", "tcp"});
  host_.add_listener("0.0.0.0", 6379, {300});
  service_.listens = at("127.0.0.1", 6379);
  const auto members = find_members(host_, service_);
  ASSERT_FALSE(members.ok());
  EXPECT_EQ(members.error().code, ErrorCode::kUnsupported);
  EXPECT_NE(members.error().message.find("docker-proxy"), std::string::npos);
  EXPECT_NE(members.error().hint.find("container"), std::string::npos);
}

TEST_F(Members, WhatIsHiddenIsSaid) {
  Process& hidden = host_.add_process(300, 1, {"/usr/bin/redis-server"});
  hidden.executable.clear();  // another user's
  service_.process.exe = "redis-server";
  EXPECT_EQ(error(), ErrorCode::kPermission);
  service_.process.exe = "orchestrator-worker";  // where it does not matter, nothing is said
  EXPECT_EQ(found(host_, service_).size(), 3u);
  host_.add_listener("127.0.0.1", 6379, {});
  service_ = {.name = "queue", .listens = at("127.0.0.1", 6379)};
  EXPECT_EQ(error(), ErrorCode::kPermission);
}

TEST_F(Members, NothingFoundIsNoAnswerWhereProcessesAreHidden) {
  host_.set_hides_processes(true);
  service_.process.exe = "nobody-runs-this";
  EXPECT_EQ(error(), ErrorCode::kPermission);
  service_.process.exe = "orchestrator-worker";
  EXPECT_EQ(found(host_, service_).size(), 3u);
}

TEST_F(Members, TheDeadAreNone) {
  host_.add_process(60, 1, {"/opt/o/orchestrator-worker"}).state = 'Z';
  service_.process.exe = "orchestrator-worker";
  EXPECT_EQ(found(host_, service_).size(), 3u);
}

TEST_F(Members, NeitherWeNorOurAncestors) {
  host_.add_process(900, 1, {"/bin/bash", "-c", "squall run orchestrator.yaml"});
  host_.add_process(901, 900, {"/usr/bin/squall", "run", "orchestrator.yaml"});
  host_.add_process(902, 901, {"/usr/bin/squall", "holder", "orchestrator"});
  host_.add_process(903, 1, {"/usr/bin/app", "orchestrator.yaml"});
  host_.set_self(901);
  service_.process.argv_contains = "orchestrator.yaml";
  EXPECT_EQ(found(host_, service_), (std::vector<pid_t>{903}));
  service_.process.argv_contains = "holder";
  EXPECT_TRUE(found(host_, service_).empty());
}

TEST_F(Members, ByContainer) {
  host_.add_process(400, 1, {"/usr/bin/conmon"});
  host_.add_process(401, 400, {"/bin/redis-server"}).container = "id1";
  host_.add_process(402, 401, {"/bin/child"}).container = "id1";
  host_.add_process(403, 400, {"/bin/sh"}).container = "id1";  // `exec` from outside
  host_.add_process(404, 400, {"/bin/redis-server"}).container = "id2";
  host_.add_container({.id = "id1", .name = "queue", .image = "redis:7", .labels = {{"app", "q"}}});
  host_.add_container({.id = "id2", .name = "cache", .image = "redis:7", .labels = {{"app", "c"}}});
  service_.container = {.name = "queue"};
  EXPECT_EQ(found(host_, service_), (std::vector<pid_t>{401}));
  service_.container = {.label = "app=c"};
  EXPECT_EQ(found(host_, service_), (std::vector<pid_t>{404}));
  service_.container = {.image = "redis"};
  EXPECT_EQ(found(host_, service_), (std::vector<pid_t>{401, 404}));
  service_.container = {.name = "queue", .label = "app=c"};
  EXPECT_TRUE(found(host_, service_).empty());
  service_.container = {.label = "app"};
  EXPECT_EQ(found(host_, service_).size(), 2u);
}

TEST_F(Members, NamedOnesByContainer) {
  host_.add_process(401, 1, {"/bin/redis-server"}).container = "id1";
  host_.add_process(404, 1, {"/bin/redis-server"}).container = "id2";
  host_.add_container({.id = "id1", .name = "queue", .image = "redis:7", .labels = {}});
  host_.add_container({.id = "id2", .name = "cache", .image = "redis:7", .labels = {}});
  model::MemberSelector first;
  first.name = "one";
  first.container.name = "cache";
  model::MemberSelector second;
  second.name = "two";
  second.container.name = "queue";
  service_.members = {first, second};
  EXPECT_EQ(found(host_, service_), (std::vector<pid_t>{404, 401}));
}

TEST_F(Members, ExternalServicesHaveNone) {
  service_.external = true;
  EXPECT_TRUE(found(host_, service_).empty());
}

TEST(Discovery, FindsListenersClientsAndConnections) {
  FakeHost host;
  host.add_process(1, 0, {"/sbin/init"}).name = "systemd";
  host.add_process(10, 1, {"/usr/sbin/sshd"});
  host.add_listener("0.0.0.0", 22, {10});
  host.add_process(100, 1, {"/usr/bin/postgres"});
  host.add_process(101, 100, {"/usr/bin/postgres"});  // a backend, which owns the connection
  host.add_listener("127.0.0.1", 5432, {100, 101});
  host.add_process(200, 1, {"/usr/bin/redis-server"});
  host.add_process(201, 1, {"/usr/bin/redis-server"});
  host.add_listener("127.0.0.1", 6379, {200});
  host.add_listener("127.0.0.1", 6380, {201});
  host.add_process(300, 1, {"/opt/api"});
  host.add_listener("127.0.0.1", 8080, {300});
  host.add_process(400, 1, {"/usr/bin/python3.11", "-u", "/opt/Billing_Report.py", "--fast"});
  host.add_connection(300, 101, "127.0.0.1", 5432);
  host.add_connection(300, 200, "127.0.0.1", 6379);
  host.add_connection(400, 300, "127.0.0.1", 8080);
  host.add_process(500, 1, {"/bin/idle"});
  const auto services = discover_services(host).value();
  std::map<std::string, DiscoveredService> by_name;
  for (const auto& service : services) by_name[service.name] = service;
  ASSERT_EQ(by_name.size(), 4u);
  EXPECT_EQ(by_name.at("api").depends_on, (std::vector<std::string>{"postgres", "redis-server"}));
  EXPECT_EQ(by_name.at("billing_report").depends_on, (std::vector<std::string>{"api"}));
  EXPECT_TRUE(by_name.at("billing_report").listens.empty());
  EXPECT_EQ(by_name.at("postgres").processes.size(), 1u);
  EXPECT_EQ(by_name.at("postgres").processes[0].identity.pid, 100);
  EXPECT_TRUE(by_name.at("postgres").depends_on.empty());
  EXPECT_EQ(by_name.at("redis-server").listens.size(), 2u);
  EXPECT_EQ(by_name.at("redis-server").processes.size(), 2u);
}

TEST(Discovery, SaysWhenAllIsHidden) {
  FakeHost host;
  EXPECT_TRUE(discover_services(host).value().empty());
  host.add_listener("127.0.0.1", 80, {});
  EXPECT_EQ(discover_services(host).error().code, ErrorCode::kPermission);
  host.add_process(7, 1, {"/bin/app"});
  host.add_listener("127.0.0.1", 81, {7});
  EXPECT_EQ(discover_services(host).value().size(), 1u);
}

TEST(Discovery, NamesAreUniqueAndPlain) {
  FakeHost host;
  host.add_process(100, 1, {"/opt/a/My App"});
  host.add_process(101, 1, {"/opt/b/My App"});
  host.add_listener("127.0.0.1", 1, {100});
  host.add_listener("127.0.0.1", 2, {101});
  const auto services = discover_services(host).value();
  ASSERT_EQ(services.size(), 2u);
  EXPECT_EQ(services[0].name, "my-app");
  EXPECT_EQ(services[1].name, "my-app-2");
}

TEST(Discovery, LeavesSquallOut) {
  FakeHost host;
  host.add_process(100, 1, {"/opt/elsewhere/squall", "warden"});
  host.add_listener("127.0.0.1", 1, {100});
  host.add_process(101, 1, {"/opt/app"});
  host.add_listener("127.0.0.1", 2, {101});
  const auto services = discover_services(host).value();
  ASSERT_EQ(services.size(), 1u);
  EXPECT_EQ(services[0].name, "app");
}

TEST(FakeHost, AnswersLikeTheRealOne) {
  FakeHost host;
  host.add_process(7, 1, {"/bin/x"});
  const auto identity = host.process(7).value().identity;
  host.set_usage(7, {.processor_seconds = 2});
  EXPECT_EQ(host.usage(identity).value().processor_seconds, 2);
  EXPECT_FALSE(host.usage({.pid = 7, .start_time = 1}).ok());
  host.add_listener("127.0.0.1", 1, {7});
  EXPECT_TRUE(host.sockets(Host::Owners::kSkip).value()[0].owners.empty());
  host.remove_process(7);
  EXPECT_FALSE(host.process(7).ok());
  EXPECT_TRUE(host.sockets(Host::Owners::kResolve).value().empty());
}

}  // namespace
}  // namespace squall::host
