// Network faults on a service that the map selects by container: in the container's own network.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

#include "inject/network_namespace.h"
#include "integration/inject/container_fixture.h"

namespace squall::inject {
namespace {

class ContainerNetworks : public ContainerTest {
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

  static NetworkNamespace network_of(const std::string& name) {
    const auto process = host::real_host().process(podman_->pid(name));
    if (!process.ok()) return {};
    return {.process = process->identity, .inode = process->network_namespace, .text = name};
  }

  static sockaddr_in address(const std::string& text, std::uint16_t port) {
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_port = htons(port);
    ::inet_pton(AF_INET, text.c_str(), &name.sin_addr);
    return name;
  }

  // Does a new TCP connection come about within the time?
  static bool answers(const std::string& host, std::uint16_t port, int milliseconds) {
    const base::UniqueFd fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    const sockaddr_in name = address(host, port);
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) == 0)
      return true;
    pollfd request{.fd = fd.get(), .events = POLLOUT, .revents = 0};
    if (::poll(&request, 1, milliseconds) <= 0) return false;
    int fault = 0;
    socklen_t size = sizeof fault;
    ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &fault, &size);
    return fault == 0;
  }

  void start_server(const std::string& name, const std::string& network,
                    const std::vector<std::string>& options = {}) {
    podman_->start(name, options, {"/bin/httpd", "-f", "-p", "8080", "-h", "/"});
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

  static constexpr base::Duration kDelay = 300ms;
  static Json latency(const std::string& from, const std::string& to) {
    return {{"from", from},        {"to", to},
            {"direction", "both"}, {"delay", base::Duration{kDelay}.count()},
            {"jitter", 0},         {"distribution", "uniform"},
            {"keep_order", true}};
  }
  static base::Duration time_to_connect(const std::string& host) {
    const base::Instant start = base::BootClock::now();
    EXPECT_TRUE(answers(host, 8080, 5000));
    return base::BootClock::now() - start;
  }
};

TEST_F(ContainerNetworks, APartitionCutsAContainerInItsOwnNetwork) {
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

TEST_F(ContainerNetworks, ATableInAContainersNetworkGoesWithItsHolder) {
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

TEST_F(ContainerNetworks, WhatAContainerCallsIsCutOnlyForIt) {
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
    const auto there = InNamespace::enter(network_of(box));
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

TEST_F(ContainerNetworks, LatencyHoldsBackWhatReachesAContainer) {
  start_server("box-1", "10.231.48");
  start_server("other", "10.231.49", {"--label", "app=other"});
  add_boxes();
  add_users();
  const auto binding = bind_or_die("network.latency", latency("users", "boxes"));
  ASSERT_TRUE(binding.details.json().contains("network_namespace"));
  start_holder();
  ASSERT_TRUE(client_->rehearse(binding).ok());
  const auto lease = arm(binding);
  wait_for(LeaseState::kArmed);
  EXPECT_GE(time_to_connect("10.231.48.2"), kDelay);
  EXPECT_LT(time_to_connect("10.231.49.2"), kDelay);
  EXPECT_NE(wait_for(LeaseState::kEffective).text.find("delayed"), std::string::npos);
  EXPECT_NE(inside("box-1", {"nft", "list", "tables"}).find("squall_"), std::string::npos);
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kVerified);
  EXPECT_LT(time_to_connect("10.231.48.2"), kDelay);
  EXPECT_EQ(inside("box-1", {"nft", "list", "tables"}).find("squall_"), std::string::npos);
}

TEST_F(ContainerNetworks, PacketsOfAContainerPassWhenTheHolderDies) {
  start_server("box-1", "10.231.50");
  add_boxes();
  add_users();
  start_holder();
  arm(bind_or_die("network.latency", latency("users", "boxes")));
  wait_for(LeaseState::kArmed);
  EXPECT_GE(time_to_connect("10.231.50.2"), kDelay);
  wait_for(LeaseState::kEffective);
  kill_holder();
  wait_for(LeaseState::kVerified);
  EXPECT_LT(time_to_connect("10.231.50.2"), kDelay);
}

TEST_F(ContainerNetworks, TheNetworkOfARestartedContainerIsToldAndNotTouched) {
  start_server("box-1", "10.231.51");
  add_boxes();
  add_users();
  start_holder();
  const auto lease = arm(bind_or_die("network.latency", latency("users", "boxes")));
  wait_for(LeaseState::kArmed);
  EXPECT_GE(time_to_connect("10.231.51.2"), kDelay);
  wait_for(LeaseState::kEffective);
  podman_->podman_says({"restart", "-t", "0", "box-1"});
  EXPECT_NE(wait_for_notice().text.find("its network with it"), std::string::npos);
  EXPECT_EQ(inside("box-1", {"nft", "list", "tables"}).find("squall_"), std::string::npos);
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kVerified);
}

TEST_F(ContainerNetworks, EveryKindThatHoldsPacketsWorksThere) {
  start_server("box-1", "10.231.52");
  add_boxes();
  add_users();
  start_holder();
  const std::vector<std::pair<std::string, Json>> kinds{
      {"network.bandwidth", {{"rate", 1 << 20}, {"buffer", 100'000'000}}},
      {"network.burst_loss", {{"share", 0.3}, {"burst", 3.0}, {"loss_between", 0.0}}},
      {"network.corrupt", {{"share", 0.5}, {"checksum", "wrong"}}},
      {"network.duplicate", {{"share", 0.5}}},
      {"network.reorder", {{"share", 0.5}, {"by", 2'000'000}}}};
  for (const auto& [kind, more] : kinds) {
    SCOPED_TRACE(kind);
    Json parameters = {{"from", "users"}, {"to", "boxes"}, {"direction", "both"}};
    parameters.update(more);
    const auto lease = arm(bind_or_die(kind, parameters));
    wait_for(LeaseState::kArmed);
    // Nobody reads them there, but they arrive.
    const base::UniqueFd talk{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
    const sockaddr_in name = address("10.231.52.2", 8080);
    const std::array<char, 1000> data{};
    for (int i = 0; i < 1000; ++i)
      ::sendto(talk.get(), data.data(), data.size(), 0, reinterpret_cast<const sockaddr*>(&name),
               sizeof name);
    wait_for(LeaseState::kEffective);
    ASSERT_TRUE(client_->revert(lease, "asked").ok());
    wait_for(LeaseState::kVerified);
  }
}

TEST_F(ContainerNetworks, LiveConnectionsToAContainerAreReset) {
  start_server("box-1", "10.231.53");
  add_boxes();
  add_users();
  const base::UniqueFd live{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  const sockaddr_in name = address("10.231.53.2", 8080);
  ASSERT_EQ(::connect(live.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name), 0);
  start_holder();
  const auto lease =
      arm(bind_or_die("network.reset", {{"from", "users"}, {"to", "boxes"}, {"new", "refuse"}}));
  EXPECT_NE(wait_for(LeaseState::kEffective).text.find("reset 1 connections"), std::string::npos);
  pollfd request{.fd = live.get(), .events = POLLIN, .revents = 0};
  ASSERT_EQ(::poll(&request, 1, 2000), 1);
  char byte = 0;
  EXPECT_EQ(::recv(live.get(), &byte, 1, 0), -1);
  EXPECT_EQ(errno, ECONNRESET);
  EXPECT_FALSE(answers("10.231.53.2", 8080, 300));
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kVerified);
  EXPECT_TRUE(answers("10.231.53.2", 8080, 3000));
}

TEST_F(ContainerNetworks, WhatAContainerAsksAboutNamesIsAnsweredWrongly) {
  start_server("box-1", "10.231.54");
  add_boxes();
  const Json parameters = {{"service", "boxes"}, {"name", "db"}, {"answer", "nxdomain"}};
  const auto binding = bind_or_die("network.dns", parameters);
  EXPECT_NE(binding.targets[0].description.find("alone is in its network"), std::string::npos);
  start_holder();
  ASSERT_TRUE(client_->rehearse(binding).ok());
  const auto lease = arm(binding);
  wait_for(LeaseState::kArmed);
  // A socket belongs to the namespace in which it is made.
  const auto ask = [&](char letter) {
    base::UniqueFd asking;
    {
      const auto there = InNamespace::enter(network_of("box-1"));
      EXPECT_TRUE(there.ok());
      asking.reset(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    }
    const std::array<char, 20> question{0x12, 0x34, 1, 0,   0,      1, 0, 0, 0, 0,
                                        0,    0,    2, 'd', letter, 0, 0, 1, 0, 1};
    const sockaddr_in name = address("10.231.54.1", 53);  // where nobody answers
    ::connect(asking.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name);
    ::send(asking.get(), question.data(), question.size(), 0);
    std::array<char, 512> answer{};
    pollfd request{.fd = asking.get(), .events = POLLIN, .revents = 0};
    if (::poll(&request, 1, 500) != 1 || ::recv(asking.get(), answer.data(), answer.size(), 0) < 12)
      return -1;
    return answer[3] & 0x0f;
  };
  EXPECT_EQ(ask('b'), 3);  // no such name
  EXPECT_EQ(ask('c'), -1);
  wait_for(LeaseState::kEffective);
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kVerified);
  EXPECT_EQ(ask('b'), -1);
}

TEST_F(ContainerNetworks, WhatCannotWorkThereIsRefusedWithTheReason) {
  start_server("box-1", "10.231.55");
  add_boxes();
  add_users();
  Json by_netem = latency("users", "boxes");
  by_netem["mechanism"] = "netem";
  const auto netem = try_bind("network.latency", by_netem);
  ASSERT_FALSE(netem.ok());
  EXPECT_NE(netem.error().to_string().find("this host's interfaces only"), std::string::npos);
  podman_->start("box-2");
  map_.services.front().expected_members = 2;
  const auto several =
      try_bind("network.partition", {{"from", "users"}, {"to", "boxes"}, {"direction", "both"}});
  ASSERT_FALSE(several.ok());
  EXPECT_NE(several.error().to_string().find("several network namespaces"), std::string::npos);
}

}  // namespace
}  // namespace squall::inject
