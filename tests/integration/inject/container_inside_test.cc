// Process, resource and network faults on a service that the map selects by container.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "inject/cgroup.h"
#include "inject/network_namespace.h"
#include "integration/inject/container_fixture.h"

namespace squall::inject {
namespace {

class InsideContainers : public ContainerTest {
 protected:
  static std::string run(const std::vector<std::string>& argv) {
    const auto output = base::run_command({.argv = argv}, 20s);
    EXPECT_TRUE(output.ok() && output->exit_status == 0) << base::join(argv, " ");
    return output.ok() ? output->output : std::string{};
  }

  // A network of its own for the container `name`, with us at .1 and it at .2 of `network`.
  void connect(const std::string& name, const std::string& network) {
    const std::string pid = std::to_string(podman_->pid(name));
    const std::string ours = "sqt" + pid;
    run({"ip", "link", "add", ours, "type", "veth", "peer", "name", "eth0", "netns", pid});
    run({"ip", "addr", "add", network + ".1/24", "dev", ours});
    run({"ip", "link", "set", ours, "up"});
    inside(name, {"ip", "addr", "add", network + ".2/24", "dev", "eth0"});
    inside(name, {"ip", "link", "set", "eth0", "up"});
  }
  static std::string inside(const std::string& name, const std::vector<std::string>& words) {
    std::vector<std::string> argv{"nsenter", "-t", std::to_string(podman_->pid(name)), "-n"};
    argv.insert(argv.end(), words.begin(), words.end());
    return run(argv);
  }

  // Does a new TCP connection come about within the time?
  static bool answers(const std::string& address, std::uint16_t port, int milliseconds) {
    const base::UniqueFd fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_port = htons(port);
    ::inet_pton(AF_INET, address.c_str(), &name.sin_addr);
    if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&name), sizeof name) == 0) return true;
    pollfd request{.fd = fd.get(), .events = POLLOUT, .revents = 0};
    if (::poll(&request, 1, milliseconds) <= 0) return false;
    int fault = 0;
    socklen_t size = sizeof fault;
    ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &fault, &size);
    return fault == 0;
  }

  void start_server(const std::string& name, const std::string& network) {
    podman_->start(name, {}, {"/bin/httpd", "-f", "-p", "8080", "-h", "/"});
    connect(name, network);
    wait_until([&] { return answers(network + ".2", 8080, 200); }, "the server in " + name);
  }
  void add_users() {
    model::Service users;
    users.name = "users";
    users.external = true;
    users.depends_on = {"boxes"};
    map_.services.push_back(users);
  }
};

TEST_F(InsideContainers, ProcessKindsFindTheMembersOfAContainer) {
  podman_->start("box-1", {}, {"/bin/sleep", "1000"});
  add_boxes();
  const pid_t pid = podman_->pid("box-1");
  const auto pause = bind_or_die("process.pause", chosen());
  ASSERT_EQ(pause.targets.size(), 1u);
  EXPECT_EQ(pause.targets[0].process.pid, pid);
  start_holder();
  const auto paused = arm(pause);
  wait_for(LeaseState::kEffective);
  ASSERT_TRUE(client_->revert(paused, "asked").ok());
  wait_for(LeaseState::kVerified);
  const Json with = {{"signal", "SIGKILL"}, {"restore", "none"}, {"limit", 20'000'000'000}};
  const auto killed = arm(bind_or_die("process.kill", chosen(with)));
  wait_for(LeaseState::kEffective);
  ASSERT_TRUE(client_->revert(killed, "asked").ok());
  wait_for(LeaseState::kVerified);
  wait_until([&] { return !podman_->is_running("box-1"); }, "the container to be down");
  auto start = with;
  start["restore"] = "start";
  podman_->podman_says({"start", "box-1"});
  const auto refused = try_bind("process.kill", chosen(start));
  ASSERT_FALSE(refused.ok());  // nobody says how it is started; container.kill knows
}

// A restarted container keeps its id, and what runs in it joins; the engine is not asked.
TEST_F(InsideContainers, ARestartedContainerJoinsAFaultOfItsProcesses) {
  podman_->start("box-1", {}, {"/bin/sleep", "1000"});
  add_boxes();
  const pid_t before = podman_->pid("box-1");
  auto parameters = chosen();
  parameters["mechanism"] = "signal";
  start_holder();
  const auto lease = arm(bind_or_die("process.pause", parameters));
  wait_for(LeaseState::kEffective);
  podman_->podman_says({"restart", "-t", "0", "box-1"});
  const auto notice = wait_for_event(
      [](const LeaseEvent& event) {
        return event.notice && event.text.find("came up in place") != std::string::npos;
      },
      true, true);
  EXPECT_NE(notice.text.find("of pid " + std::to_string(before)), std::string::npos) << notice.text;
  const auto fresh = base::identify_process(podman_->pid("box-1"));
  ASSERT_TRUE(fresh.ok());
  EXPECT_TRUE(stopped(*fresh));
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kVerified);
  wait_until_runs(*fresh);
}

TEST_F(InsideContainers, ResourceKindsActOnTheContainersOwnGroup) {
  podman_->start("box-1", {"--pids-limit", "50"}, {"/bin/sleep", "1000"});
  add_boxes();
  const auto binding = bind_or_die("resource.pids", chosen({{"limit", 7}}));
  EXPECT_NE(binding.details.json().dump().find("libpod-"), std::string::npos);
  const auto group = controller_group_of(podman_->pid("box-1"), "pids", "pids");
  ASSERT_TRUE(group.ok());
  const auto limit = [&] {
    return std::string(base::trim(base::read_pseudo_file(group->folder + "/pids.max").value()));
  };
  const std::string before = limit();
  start_holder();
  const auto lease = arm(binding);
  wait_for(LeaseState::kArmed);
  EXPECT_EQ(limit(), "7");
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kVerified);
  EXPECT_EQ(limit(), before);
}

TEST_F(InsideContainers, APartitionCutsAContainerInItsOwnNetwork) {
  start_server("box-1", "10.231.44");
  add_boxes();
  add_users();
  const auto binding =
      bind_or_die("network.partition", {{"from", "users"}, {"to", "boxes"}, {"direction", "both"}});
  ASSERT_TRUE(binding.details.json().contains("network_namespace"));
  start_holder();
  const auto lease = arm(binding);
  wait_for(LeaseState::kArmed);
  EXPECT_FALSE(answers("10.231.44.2", 8080, 300));
  EXPECT_GT(proof_of(wait_for(LeaseState::kEffective))["packets"], 0);
  EXPECT_NE(inside("box-1", {"nft", "list", "tables"}).find("squall_"), std::string::npos);
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kVerified);
  EXPECT_TRUE(answers("10.231.44.2", 8080, 3000));
  EXPECT_EQ(inside("box-1", {"nft", "list", "tables"}).find("squall_"), std::string::npos);
}

TEST_F(InsideContainers, ATableInAContainersNetworkGoesWithItsHolder) {
  start_server("box-1", "10.231.45");
  add_boxes();
  const auto binding = bind_or_die("network.refuse", {{"service", "boxes"}});
  start_holder();
  arm(binding);
  wait_for(LeaseState::kArmed);
  EXPECT_FALSE(answers("10.231.45.2", 8080, 300));
  wait_for(LeaseState::kEffective);
  const auto leases = active_leases(state_);
  ASSERT_TRUE(leases.ok());
  ::kill((*leases)[0].holder.pid, SIGKILL);
  wait_for(LeaseState::kVerified);
  EXPECT_TRUE(answers("10.231.45.2", 8080, 3000));
}

TEST_F(InsideContainers, WhatAContainerCallsIsCutOnlyForIt) {
  const base::UniqueFd listener{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  sockaddr_in name{};
  name.sin_family = AF_INET;
  socklen_t length = sizeof name;
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&name), sizeof name), 0);
  ASSERT_EQ(::listen(listener.get(), 16), 0);
  ASSERT_EQ(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&name), &length), 0);
  const std::uint16_t port = ntohs(name.sin_port);
  podman_->start("box-1");
  podman_->start("other", {"--label", "app=other"});
  connect("box-1", "10.231.46");
  connect("other", "10.231.47");
  add_boxes().depends_on = {"server"};
  map_.services.back().container = {.name = "box-1", .label = {}, .image = {}};
  model::Service server;
  server.name = "server";
  server.listens = model::ListenAddress{.address = "10.231.46.1", .port = port, .unix_path = {}};
  model::Service other = map_.services.back();
  other.name = "other";
  other.container = {.name = "other", .label = {}, .image = {}};
  map_.services.push_back(server);
  map_.services.push_back(other);
  const auto asks = [&](const std::string& box, const std::string& address) {
    const auto process = host::real_host().process(podman_->pid(box));
    if (!process.ok()) return false;
    const auto there = InNamespace::enter(
        {.process = process->identity, .inode = process->network_namespace, .text = box});
    return there.ok() && answers(address, port, 500);
  };
  ASSERT_TRUE(asks("box-1", "10.231.46.1"));
  const auto binding = bind_or_die("network.partition",
                                   {{"from", "boxes"}, {"to", "server"}, {"direction", "both"}});
  start_holder();
  const auto lease = arm(binding);
  wait_for(LeaseState::kArmed);
  EXPECT_FALSE(asks("box-1", "10.231.46.1"));
  EXPECT_TRUE(asks("other", "10.231.47.1"));
  wait_for(LeaseState::kEffective);
  podman_->podman_says({"restart", "-t", "0", "box-1"});
  EXPECT_NE(wait_for_notice().text.find("its network with it"), std::string::npos);
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kVerified);
}

TEST_F(InsideContainers, WhatCannotWorkThereIsRefusedWithTheReason) {
  start_server("box-1", "10.231.48");
  add_boxes();
  add_users();
  const auto latency = try_bind("network.latency", {{"from", "users"},
                                                    {"to", "boxes"},
                                                    {"direction", "both"},
                                                    {"delay", 10'000'000},
                                                    {"jitter", 0},
                                                    {"distribution", "uniform"},
                                                    {"keep_order", true}});
  ASSERT_FALSE(latency.ok());
  EXPECT_NE(latency.error().to_string().find("network namespace of its own"), std::string::npos);
  podman_->start("box-2");
  map_.services.front().expected_members = 2;
  const auto several =
      try_bind("network.partition", {{"from", "users"}, {"to", "boxes"}, {"direction", "both"}});
  ASSERT_FALSE(several.ok());
  EXPECT_NE(several.error().to_string().find("several network namespaces"), std::string::npos);
}

}  // namespace
}  // namespace squall::inject
