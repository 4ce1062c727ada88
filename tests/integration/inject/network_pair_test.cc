// Loss, blackhole and reset between two services, and what tells their packets apart.

#include <sys/stat.h>

#include <algorithm>
#include <cmath>

#include "inject/faults/network/nft_table.h"
#include "integration/inject/network_fixture.h"

namespace squall::inject {
namespace {

// A UDP socket on a loopback port, with room for every datagram of a test.
class Datagrams {
 public:
  explicit Datagrams(int family) : family_(family) {
    fd_.reset(::socket(family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const int room = 64 << 20;
    EXPECT_EQ(::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room), 0);
    EXPECT_EQ(bind_to(fd_, loopback_name(family, 0)), 0);
    port_ = port_of(fd_);
  }
  std::uint16_t port() const { return port_; }
  int fd() const { return fd_.get(); }
  std::string address() const { return family_ == AF_INET6 ? "::1" : "127.0.0.1"; }

  // The error of sending, or 0.
  int send(std::uint16_t port, const std::string& text) const {
    const sockaddr_storage name = loopback_name(family_, port);
    const ssize_t sent = ::sendto(fd_.get(), text.data(), text.size(), 0,
                                  reinterpret_cast<const sockaddr*>(&name), name_size(family_));
    return sent < 0 ? errno : 0;
  }
  // The texts that have arrived; `answer`: each is sent back.
  std::vector<std::string> receive(bool answer = false) const {
    std::vector<std::string> texts;
    while (true) {
      std::array<char, 64> buffer{};
      sockaddr_storage name{};
      socklen_t length = sizeof name;
      const ssize_t got = ::recvfrom(fd_.get(), buffer.data(), buffer.size(), 0,
                                     reinterpret_cast<sockaddr*>(&name), &length);
      if (got < 0) return texts;
      texts.emplace_back(buffer.data(), static_cast<std::size_t>(got));
      if (answer) {
        ::sendto(fd_.get(), buffer.data(), static_cast<std::size_t>(got), 0,
                 reinterpret_cast<const sockaddr*>(&name), length);
      }
    }
  }

 private:
  int family_;
  base::UniqueFd fd_;
  std::uint16_t port_ = 0;
};

int read_error(int fd) {
  std::array<char, 8> buffer{};
  if (!arrives(fd, 10s)) return ETIMEDOUT;
  return ::recv(fd, buffer.data(), buffer.size(), MSG_DONTWAIT) < 0 ? errno : 0;
}

class NetworkPairs : public NetworkTest {
 protected:
  static Json pair(const std::string& direction = "both") {
    return {{"from", "users"}, {"to", "server"}, {"direction", direction}};
  }
  static Json loss(double share, const std::string& direction = "both") {
    Json parameters = pair(direction);
    parameters["share"] = share;
    return parameters;
  }
  static Json reset(const std::string& fresh = "allow") {
    return {{"from", "users"}, {"to", "server"}, {"new", fresh}};
  }
  void measure_loss(int family, double share);
  void blackhole(int family, const std::string& direction);
  void reset_both(int family);
};

// ---- loss
// ------------------------------------------------------------------------------------------

void NetworkPairs::measure_loss(int family, double share) {
  constexpr std::uint64_t kSent = 20'000;
  const Datagrams server{family};
  const Datagrams client{family};
  add_server(server.port(), server.address());
  const auto binding = bind_or_die("network.loss", loss(share, "requests"));
  start_holder();
  const auto rehearsed = client_->rehearse(binding);
  ASSERT_TRUE(rehearsed.ok()) << rehearsed.error().to_string();
  const auto lease = arm(binding);
  wait_for(LeaseState::kArmed);
  int errors = 0;
  std::uint64_t received = 0;
  for (std::uint64_t i = 0; i < kSent; ++i) {
    errors += client.send(server.port(), "x") != 0 ? 1 : 0;
    if (i % 1000 == 0) received += server.receive().size();
  }
  EXPECT_EQ(errors, 0);  // silent: no EPERM
  EXPECT_NE(wait_for(LeaseState::kEffective).text.find("dropped"), std::string::npos);
  // All have been through the rules when the kernel says so.
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  const LeaseEvent reverted = wait_for(LeaseState::kReverted);
  const Json proof = base::parse_json(reverted.proof).value();
  const auto lost = proof["packets"].get<std::uint64_t>();
  EXPECT_EQ(proof["of"].get<std::uint64_t>(), kSent);
  received += server.receive().size();
  EXPECT_EQ(received + lost, kSent);
  const double measured = static_cast<double>(lost) / static_cast<double>(kSent);
  const double deviation = std::sqrt(share * (1 - share) / static_cast<double>(kSent));
  EXPECT_NEAR(measured, share, 5 * deviation) << reverted.text;
  RecordProperty("asked", std::to_string(100 * share));
  RecordProperty("measured", std::to_string(100 * measured));
  wait_for(LeaseState::kVerified);
  EXPECT_EQ(client.send(server.port(), "y"), 0);
  EXPECT_TRUE(arrives(server.fd(), 5s));
}

// Five standard deviations of 2 % over 20,000 packets are the bar: half a point.
TEST_F(NetworkPairs, LossIsTheShareThatWasAskedFor) {
  measure_loss(AF_INET, 0.02);
}

TEST_F(NetworkPairs, LossOfATenthOfAPercent) {
  measure_loss(AF_INET, 0.001);
}

TEST_F(NetworkPairs, LossOnIPv6) {
  measure_loss(AF_INET6, 0.3);
}

TEST_F(NetworkPairs, LossOfRepliesLeavesRequestsAlone) {
  const Datagrams server{AF_INET};
  const Datagrams client{AF_INET};
  add_server(server.port(), server.address());
  start_holder();
  const auto lease = arm(bind_or_die("network.loss", loss(1, "replies")));
  wait_for(LeaseState::kArmed);
  for (int i = 0; i < 100; ++i) ASSERT_EQ(client.send(server.port(), "x"), 0);
  std::size_t asked = 0;
  wait_until([&] { return (asked += server.receive(/*answer=*/true).size()) == 100; }, "requests");
  const Json proof = base::parse_json(wait_for(LeaseState::kEffective).proof).value();
  EXPECT_TRUE(client.receive().empty());
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kVerified);
  EXPECT_TRUE(client.receive().empty());
}

TEST_F(NetworkPairs, LossThatCannotBeSilentIsRefused) {
  add_server(5432, "192.0.2.77");  // reserved for documentation: not on this host
  const auto remote = try_bind("network.loss", loss(0.1));
  ASSERT_FALSE(remote.ok());
  EXPECT_EQ(remote.error().code, base::ErrorCode::kUnsupported);
  EXPECT_NE(remote.error().message.find("192.0.2.77:5432 is not on this host"), std::string::npos);
  EXPECT_NE(remote.error().hint.find("direction: replies"), std::string::npos);
  EXPECT_TRUE(try_bind("network.loss", loss(0.1, "replies")).ok());
  add_server(5432, "*");
  const auto outside = try_bind("network.loss", loss(0.1));
  ASSERT_FALSE(outside.ok());
  EXPECT_NE(outside.error().message.find("callers outside"), std::string::npos);
  EXPECT_TRUE(try_bind("network.loss", loss(0.1, "requests")).ok());
  EXPECT_FALSE(try_bind("network.loss", loss(1.5, "requests")).ok());
  EXPECT_FALSE(try_bind("network.loss", loss(0, "requests")).ok());
}

// ---- blackhole
// -------------------------------------------------------------------------------------

void NetworkPairs::blackhole(int family, const std::string& direction) {
  const Server server{family};
  add_server(server, family == AF_INET6 ? "::1" : "127.0.0.1");
  base::UniqueFd live;
  ASSERT_EQ(server.connect(live, 5s), 0);
  const base::UniqueFd accepted = server.accept();
  const auto binding = bind_or_die("network.blackhole", pair(direction));
  start_holder();
  const auto rehearsed = client_->rehearse(binding);
  ASSERT_TRUE(rehearsed.ok()) << rehearsed.error().to_string();
  const auto lease = arm(binding);
  wait_for(LeaseState::kArmed);
  ASSERT_EQ(::send(live.get(), "x", 1, MSG_NOSIGNAL), 1);
  EXPECT_EQ(arrives(accepted.get(), direction == "replies" ? 5s : 200ms), direction == "replies");
  ASSERT_EQ(::send(accepted.get(), "y", 1, MSG_NOSIGNAL), 1);
  EXPECT_EQ(arrives(live.get(), direction == "requests" ? 5s : 200ms), direction == "requests");
  base::UniqueFd fresh;
  EXPECT_EQ(server.connect(fresh, 200ms), ETIMEDOUT);
  wait_for(LeaseState::kEffective);
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kVerified);
  EXPECT_TRUE(arrives(accepted.get(), 20s));
  EXPECT_TRUE(arrives(live.get(), 20s));
  EXPECT_EQ(server.connect(fresh, 5s), 0);
}

TEST_F(NetworkPairs, BlackholeSwallowsBothDirections) {
  blackhole(AF_INET, "both");
}

TEST_F(NetworkPairs, BlackholeSwallowsRequestsOnly) {
  blackhole(AF_INET, "requests");
}

TEST_F(NetworkPairs, BlackholeSwallowsRepliesOnly) {
  blackhole(AF_INET, "replies");
}

TEST_F(NetworkPairs, BlackholeOnIPv6) {
  blackhole(AF_INET6, "replies");
}

TEST_F(NetworkPairs, AnotherPortOfTheServiceIsLeftAlone) {
  const Server server;
  const Server other;
  add_server(server);
  auto parameters = pair();
  parameters["port"] = server.port();
  start_holder();
  const auto lease = arm(bind_or_die("network.blackhole", parameters));
  wait_for(LeaseState::kArmed);
  base::UniqueFd fresh;
  EXPECT_EQ(other.connect(fresh, 5s), 0);
  EXPECT_EQ(server.connect(fresh, 100ms), ETIMEDOUT);
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kVerified);
}

TEST_F(NetworkPairs, RefuseResetsOnIPv6) {
  const Server server{AF_INET6};
  add_server(server, "::1");
  const auto binding = bind_or_die("network.refuse", {{"service", "server"}});
  start_holder();
  const auto rehearsed = client_->rehearse(binding);
  ASSERT_TRUE(rehearsed.ok()) << rehearsed.error().to_string();
  const auto lease = arm(binding);
  wait_for(LeaseState::kArmed);
  base::UniqueFd fresh;
  EXPECT_EQ(server.connect(fresh, 5s), ECONNREFUSED);
  wait_for(LeaseState::kEffective);
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kVerified);
  EXPECT_EQ(server.connect(fresh, 5s), 0);
}

// ---- reset
// -----------------------------------------------------------------------------------------

void NetworkPairs::reset_both(int family) {
  const Server server{family};
  const Server neighbour{family};
  add_server(server, family == AF_INET6 ? "::1" : "127.0.0.1");
  base::UniqueFd live;
  base::UniqueFd spared;
  ASSERT_EQ(server.connect(live, 5s), 0);
  ASSERT_EQ(neighbour.connect(spared, 5s), 0);
  const base::UniqueFd accepted = server.accept();
  const auto binding = bind_or_die("network.reset", reset());
  ASSERT_EQ(binding.targets.size(), 1u);
  EXPECT_NE(binding.targets[0].description.find("1 live connections from users to server"),
            std::string::npos);
  EXPECT_EQ(binding.lifetime, model::LifetimeClass::kOneWay);
  start_holder();
  const auto rehearsed = client_->rehearse(binding);
  ASSERT_TRUE(rehearsed.ok()) << rehearsed.error().to_string();
  const auto lease = arm(binding);
  EXPECT_NE(wait_for(LeaseState::kEffective).text.find("reset 1 connections"), std::string::npos);
  EXPECT_EQ(read_error(live.get()), ECONNRESET);
  EXPECT_EQ(read_error(accepted.get()), ECONNABORTED);
  EXPECT_FALSE(arrives(spared.get(), 50ms));  // no error either
  base::UniqueFd fresh;
  EXPECT_EQ(server.connect(fresh, 5s), 0);  // allowed, and lives on
  const base::UniqueFd second = server.accept();
  ASSERT_EQ(::send(fresh.get(), "x", 1, MSG_NOSIGNAL), 1);
  EXPECT_TRUE(arrives(second.get(), 5s));
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  EXPECT_NE(wait_for(LeaseState::kVerified).text.find("open new ones"), std::string::npos);
}

TEST_F(NetworkPairs, ResetBreaksLiveConnectionsOnce) {
  reset_both(AF_INET);
}

TEST_F(NetworkPairs, ResetOnIPv6) {
  reset_both(AF_INET6);
}

// A socket of the IPv6 family may well carry IPv4: to the kernel it is one connection.
TEST_F(NetworkPairs, ResetFindsConnectionsOfADualStackListener) {
  const base::UniqueFd listener{::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  sockaddr_in6 name{};
  name.sin6_family = AF_INET6;
  socklen_t length = sizeof name;
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&name), length), 0);
  ASSERT_EQ(::listen(listener.get(), 4), 0);
  ASSERT_EQ(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&name), &length), 0);
  const std::uint16_t port = ntohs(name.sin6_port);
  add_server(port, "::ffff:127.0.0.1");
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  const auto* peer = reinterpret_cast<const sockaddr*>(&address);
  const base::UniqueFd live{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  ASSERT_EQ(::connect(live.get(), peer, sizeof address), 0);
  const base::UniqueFd accepted{::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC)};
  start_holder();
  const auto lease = arm(bind_or_die("network.reset", reset("refuse")));
  wait_for(LeaseState::kEffective);
  EXPECT_EQ(read_error(live.get()), ECONNRESET);
  const base::UniqueFd fresh{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  EXPECT_EQ(::connect(fresh.get(), peer, sizeof address), -1);
  EXPECT_EQ(errno, ECONNREFUSED);
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kVerified);
}

TEST_F(NetworkPairs, ResetMayRefuseNewConnectionsMeanwhile) {
  const Server server;
  add_server(server);
  base::UniqueFd live;
  ASSERT_EQ(server.connect(live, 5s), 0);
  const base::UniqueFd accepted = server.accept();
  const auto binding = bind_or_die("network.reset", reset("refuse"));
  start_holder();
  const auto rehearsed = client_->rehearse(binding);
  ASSERT_TRUE(rehearsed.ok()) << rehearsed.error().to_string();
  const auto lease = arm(binding);
  wait_for(LeaseState::kEffective);
  EXPECT_EQ(read_error(live.get()), ECONNRESET);
  base::UniqueFd fresh;
  EXPECT_EQ(server.connect(fresh, 5s), ECONNREFUSED);
  kill_holder();
  wait_until([&] { return !NftTable::exists("squall_" + lease.text()).value(); }, "no table");
  EXPECT_NE(wait_for(LeaseState::kVerified).text.find("no table"), std::string::npos);
  EXPECT_EQ(server.connect(fresh, 5s), 0);
}

TEST_F(NetworkPairs, ResetWaitsForAConnectionWhenThereIsNone) {
  const Server server;
  add_server(server);
  start_holder();
  const auto lease = arm(bind_or_die("network.reset", reset()));
  EXPECT_NE(wait_for(LeaseState::kArmed).text.find("no connection"), std::string::npos);
  base::UniqueFd live;
  ASSERT_EQ(server.connect(live, 5s), 0);
  wait_for(LeaseState::kEffective);
  // Seen so early that the callee's end may not stand in the table yet, it is reset by either end.
  const int error = read_error(live.get());
  EXPECT_TRUE(error == ECONNRESET || error == ECONNABORTED) << error;
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kVerified);
}

// Same user, same address, same port, same group: only the owner of the socket tells them apart.
TEST_F(NetworkPairs, ResetHitsOnlyWhatTheCallersProcessesOpened) {
  const Server server;
  add_server(server);
  add_service(1);
  map_.services.back().depends_on = {"server"};
  const auto victim = start_victim({"connect=" + std::to_string(server.port())});
  const base::UniqueFd theirs = server.accept();
  base::UniqueFd ours;
  ASSERT_EQ(server.connect(ours, 5s), 0);
  const base::UniqueFd accepted = server.accept();
  const Json parameters = {{"from", "victim"}, {"to", "server"}, {"new", "allow"}};
  const auto binding = bind_or_die("network.reset", parameters);
  EXPECT_NE(binding.targets.at(0).description.find("1 live connections"), std::string::npos);
  start_holder();
  const auto lease = arm(binding);
  wait_for(LeaseState::kEffective);
  EXPECT_EQ(read_error(theirs.get()), ECONNABORTED);
  ASSERT_EQ(::send(ours.get(), "x", 1, MSG_NOSIGNAL), 1);
  EXPECT_TRUE(arrives(accepted.get(), 5s));
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kVerified);
  EXPECT_EQ(process_state(victim).value_or('X'), 'S');
}

// ---- told apart by cgroup
// --------------------------------------------------------------------------

class NetworkGroups : public NetworkPairs {
 protected:
  void SetUp() override {
    NetworkPairs::SetUp();
    if (IsSkipped()) return;
    const auto mounted =
        base::run_command({.argv = {"findmnt", "-nfo", "TARGET", "-t", "cgroup2"}}, 10s);
    if (!mounted.ok() || mounted->output.empty())
      GTEST_SKIP() << "no cgroup v2 hierarchy is mounted here";
    const std::string mount = mounted->output.substr(0, mounted->output.find('\n'));
    group_ = mount + "/squall-test-" + std::to_string(::getpid());
    if (::mkdir(group_.c_str(), 0755) != 0 && errno != EEXIST)
      GTEST_SKIP() << "no group can be made in " << mount;
  }
  void TearDown() override {
    for (const host::Member& member : find_victims()) ::kill(member.process.identity.pid, SIGKILL);
    if (!group_.empty())
      wait_until([&] { return ::rmdir(group_.c_str()) == 0 || errno == ENOENT; }, "an empty group");
    NetworkPairs::TearDown();
  }
  // A service that sends datagrams from a group of its own, and a neighbour outside of it.
  void add_callers(const Datagrams& server) {
    add_server(server.port(), server.address());
    add_service(1);
    map_.services.back().depends_on = {"server"};
    map_.services.back().process.argv_contains = "group=" + group_;
    model::Service second = map_.services.back();
    second.name = "second";
    second.process.argv_contains = "second=" + folder_;
    map_.services.push_back(second);
    start_victim({"second=" + folder_});
    start_victim({"group=" + group_, "knock=" + std::to_string(server.port())});
    wait_until([&] { return arrives(server.fd(), 1s); }, "a knock");
  }
  static bool any(const std::vector<std::string>& texts, char first) {
    return std::any_of(texts.begin(), texts.end(),
                       [&](const std::string& text) { return text.starts_with(first); });
  }
  std::string group_;
};

TEST_F(NetworkGroups, PartitionByGroupHitsThatGroupOnly) {
  const Datagrams server{AF_INET};
  const Datagrams client{AF_INET};
  add_callers(server);
  const auto binding = bind_or_die("network.partition", {{"from", "victim"}, {"to", "server"}});
  EXPECT_NE(binding.details.json().dump().find("it alone is in cgroup /squall-test-"),
            std::string::npos);
  start_holder();
  const auto rehearsed = client_->rehearse(binding);
  ASSERT_TRUE(rehearsed.ok()) << rehearsed.error().to_string();
  const auto lease = arm(binding);
  wait_for(LeaseState::kArmed);
  server.receive();  // what had arrived before
  wait_for(LeaseState::kEffective);
  ASSERT_EQ(client.send(server.port(), "ours"), 0);
  std::vector<std::string> texts;
  wait_until([&] { return !(texts = server.receive()).empty(); }, "a datagram of our own");
  EXPECT_TRUE(any(texts, 'o'));
  EXPECT_FALSE(any(texts, 'k'));
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kVerified);
  wait_until([&] { return any(server.receive(), 'k'); }, "knocks after the revert");
}

TEST_F(NetworkGroups, RepliesToAGroupVanishAlone) {
  const Datagrams server{AF_INET};
  const Datagrams client{AF_INET};
  add_callers(server);
  // A knock says how many answers its sender has had.
  wait_until(
      [&] {
        const auto t = server.receive(true);
        return !t.empty() && t.back() != "k0";
      },
      "an answer that arrived");
  start_holder();
  const auto lease = arm(bind_or_die(
      "network.blackhole", {{"from", "victim"}, {"to", "server"}, {"direction", "replies"}}));
  wait_for(LeaseState::kArmed);
  // Knocks go on, and from some moment on none of them has had a further answer.
  std::string last;
  int alike = 0;
  ASSERT_EQ(client.send(server.port(), "ours"), 0);
  wait_until(
      [&] {
        for (const std::string& text : server.receive(true)) {
          if (!text.starts_with('k')) continue;
          alike = text == last ? alike + 1 : 0;
          last = text;
        }
        return alike >= 20;
      },
      "knocks without answers");
  wait_for(LeaseState::kEffective);
  EXPECT_FALSE(client.receive().empty());  // the neighbour had its answer
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kVerified);
  wait_until(
      [&] {
        const auto t = server.receive(true);
        return !t.empty() && t.back() != last;
      },
      "answers again");
}

}  // namespace
}  // namespace squall::inject
