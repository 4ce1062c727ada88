// Pairs of which one end is on another host: a network namespace of the test's own, joined by a
// veth pair. All of it vanishes with the test's process, however that ends.

#include <sched.h>

#include <cmath>
#include <thread>

#include "integration/inject/network_fixture.h"

namespace squall::inject {
namespace {

class NetworkHosts : public NetworkTest, public ::testing::WithParamInterface<int> {
 protected:
  void SetUp() override {
    NetworkTest::SetUp();
    if (IsSkipped()) return;
    std::thread([&] {
      if (::unshare(CLONE_NEWNET) == 0)
        namespace_.reset(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    }).join();
    if (!namespace_) GTEST_SKIP() << "no network namespace can be made here";
    const std::string path =
        "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(namespace_.get());
    const std::string inside = "--net=" + path;
    const std::string link = "sq" + std::to_string(::getpid());
    link_ = link;
    if (!run({"ip", "link", "add", link, "type", "veth", "peer", "name", "far", "netns", path}))
      GTEST_SKIP() << "no veth pair can be made here";
    ASSERT_TRUE(run({"ip", "addr", "add", "10.231.77.1/24", "dev", link}));
    ASSERT_TRUE(run({"ip", "addr", "add", "fd77:231::1/64", "dev", link, "nodad"}));
    ASSERT_TRUE(run({"ip", "link", "set", link, "up"}));
    ASSERT_TRUE(run({"nsenter", inside, "ip", "addr", "add", "10.231.77.2/24", "dev", "far"}));
    ASSERT_TRUE(
        run({"nsenter", inside, "ip", "addr", "add", "fd77:231::2/64", "dev", "far", "nodad"}));
    ASSERT_TRUE(run({"nsenter", inside, "ip", "link", "set", "far", "up"}));
  }

  void TearDown() override {
    if (!link_.empty()) run({"ip", "link", "delete", link_});
    namespace_.reset();
    NetworkTest::TearDown();
  }

  static bool run(const std::vector<std::string>& argv) {
    const auto outcome = base::run_command({.argv = argv}, 10s);
    return outcome.ok() && outcome->exit_status == 0;
  }

  bool six() const { return GetParam() == AF_INET6; }
  std::string here() const { return six() ? "fd77:231::1" : "10.231.77.1"; }
  std::string there() const { return six() ? "fd77:231::2" : "10.231.77.2"; }

  // A socket belongs to the namespace in which it was made, whoever uses it.
  base::UniqueFd make_socket(int type, bool far) const {
    base::UniqueFd made;
    std::thread([&] {
      if (far && ::setns(namespace_.get(), CLONE_NEWNET) != 0) return;
      made.reset(::socket(GetParam(), type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    }).join();
    return made;
  }
  // Bound to a port of its own at its side.
  std::pair<base::UniqueFd, std::uint16_t> serve(int type, bool far) const {
    base::UniqueFd fd = make_socket(type, far);
    EXPECT_EQ(bind_to(fd, socket_name(GetParam(), far ? there() : here(), 0)), 0);
    if (type == SOCK_STREAM) {
      EXPECT_EQ(::listen(fd.get(), 16), 0);
    }
    const std::uint16_t port = port_of(fd);
    return {std::move(fd), port};
  }
  // From the other side: 0, or the error.
  int connect(base::UniqueFd& client, bool to_far, std::uint16_t port, base::Duration limit) const {
    client = make_socket(SOCK_STREAM, !to_far);
    return connect_within(client, socket_name(GetParam(), to_far ? there() : here(), port), limit);
  }
  base::UniqueFd accept(const base::UniqueFd& listener) const {
    arrives(listener.get(), 5s);
    return base::UniqueFd{::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC)};
  }
  static int read_error(int fd) {
    std::array<char, 8> buffer{};
    if (!arrives(fd, 10s)) return ETIMEDOUT;
    return ::recv(fd, buffer.data(), buffer.size(), MSG_DONTWAIT) < 0 ? errno : 0;
  }

  void cut(bool far, const std::string& kind);
  void reset(bool far);

  base::UniqueFd namespace_;
  std::string link_;
};

INSTANTIATE_TEST_SUITE_P(Families, NetworkHosts, ::testing::Values(AF_INET, AF_INET6),
                         [](const auto& family) {
                           return family.param == AF_INET ? "IPv4" : "IPv6";
                         });

// Between this host and the far one, which is the called end when `far`.
void NetworkHosts::cut(bool far, const std::string& kind) {
  const auto [listener, port] = serve(SOCK_STREAM, far);
  add_server(port, far ? there() : here());
  base::UniqueFd live;
  ASSERT_EQ(connect(live, far, port, 5s), 0);
  const base::UniqueFd accepted = accept(listener);
  const auto binding = bind_or_die(kind, {{"from", "users"}, {"to", "server"}});
  start_holder();
  const auto lease = arm(binding);
  wait_for(LeaseState::kArmed);
  ASSERT_EQ(::send(live.get(), "x", 1, MSG_NOSIGNAL), 1);
  EXPECT_FALSE(arrives(accepted.get(), 200ms));
  ASSERT_EQ(::send(accepted.get(), "y", 1, MSG_NOSIGNAL), 1);
  EXPECT_FALSE(arrives(live.get(), 200ms));
  base::UniqueFd fresh;
  EXPECT_EQ(connect(fresh, far, port, 200ms), ETIMEDOUT);
  wait_for(LeaseState::kEffective);
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kVerified);
  EXPECT_TRUE(arrives(accepted.get(), 20s));
  EXPECT_TRUE(arrives(live.get(), 20s));
  EXPECT_EQ(connect(fresh, far, port, 5s), 0);
}

TEST_P(NetworkHosts, CallersFromOutsideAreCut) {
  cut(/*far=*/false, "network.partition");
}

TEST_P(NetworkHosts, AServerOnAnotherHostIsCut) {
  cut(/*far=*/true, "network.blackhole");
}

TEST_P(NetworkHosts, RepliesFromAnotherHostAreLostInTheirShare) {
  constexpr int kSent = 5000;
  constexpr double kShare = 0.1;
  const auto [server, port] = serve(SOCK_DGRAM, /*far=*/true);
  const auto [client, client_port] = serve(SOCK_DGRAM, /*far=*/false);
  const int room = 32 << 20;
  ASSERT_EQ(::setsockopt(client.get(), SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room), 0);
  add_server(port, there());
  start_holder();
  const auto lease = arm(bind_or_die(
      "network.loss",
      {{"from", "users"}, {"to", "server"}, {"share", kShare}, {"direction", "replies"}}));
  wait_for(LeaseState::kArmed);
  const sockaddr_storage back = socket_name(GetParam(), here(), client_port);
  for (int i = 0; i < kSent; ++i) {
    ASSERT_EQ(::sendto(server.get(), "x", 1, 0, reinterpret_cast<const sockaddr*>(&back),
                       name_size(GetParam())),
              1);
  }
  int received = 0;
  std::array<char, 8> buffer{};
  // The last ones may still be on their way.
  while (arrives(client.get(), 300ms)) {
    while (::recv(client.get(), buffer.data(), buffer.size(), 0) > 0) ++received;
  }
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  const Json proof = base::parse_json(wait_for(LeaseState::kReverted).proof).value();
  wait_for(LeaseState::kVerified);
  EXPECT_EQ(proof["of"].get<int>(), kSent);
  EXPECT_EQ(proof["packets"].get<int>() + received, kSent);
  const double deviation = std::sqrt(kShare * (1 - kShare) * kSent);
  EXPECT_NEAR(proof["packets"].get<int>(), kShare * kSent, 5 * deviation);
}

// The called end, when it is here, is ended, so that the caller gets a reset from there; of a
// connection to another host only the caller's end is here.
void NetworkHosts::reset(bool far) {
  const auto [listener, port] = serve(SOCK_STREAM, far);
  add_server(port, far ? there() : here());
  base::UniqueFd live;
  ASSERT_EQ(connect(live, far, port, 5s), 0);
  const base::UniqueFd accepted = accept(listener);
  start_holder();
  const auto lease =
      arm(bind_or_die("network.reset", {{"from", "users"}, {"to", "server"}, {"new", "allow"}}));
  wait_for(LeaseState::kEffective);
  EXPECT_EQ(read_error(live.get()), far ? ECONNABORTED : ECONNRESET);
  EXPECT_EQ(read_error(accepted.get()), far ? ECONNRESET : ECONNABORTED);
  base::UniqueFd fresh;
  EXPECT_EQ(connect(fresh, far, port, 5s), 0);
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kVerified);
}

TEST_P(NetworkHosts, ConnectionsFromOutsideAreReset) {
  reset(/*far=*/false);
}

TEST_P(NetworkHosts, ConnectionsToAnotherHostAreReset) {
  reset(/*far=*/true);
}

TEST_P(NetworkHosts, RefusalElsewhereIsRefusedHere) {
  add_server(5432, there());
  const auto refused =
      try_bind("network.reset", {{"from", "users"}, {"to", "server"}, {"new", "refuse"}});
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message.find("is not on this host"), std::string::npos);
}

// Of two members one runs here, by the map, and the other on the far host.
TEST_P(NetworkHosts, AMemberOnAnotherHostIsCutFromTheOneHere) {
  // Its number is used for TCP by the member, and by nobody else.
  const auto [holder_of_number, near_port] = serve(SOCK_DGRAM, /*far=*/false);
  const auto [far_listener, far_port] = serve(SOCK_STREAM, /*far=*/true);
  const auto [other_listener, other_port] = serve(SOCK_STREAM, /*far=*/false);
  add_service(2).name = "db";
  model::Service& service = map_.services.back();
  service.members.resize(2);
  service.members[0].name = service.members[0].role = "near";
  service.members[0].listens = model::ListenAddress{.address = here(), .port = near_port};
  service.members[0].process = service.process;
  service.members[1].name = service.members[1].role = "far";
  service.members[1].listens = model::ListenAddress{.address = there(), .port = far_port};
  service.members[1].process.argv_contains = "not on this host";
  start_victim({"serve=" + here() + "," + std::to_string(near_port)});
  base::UniqueFd fresh;
  wait_until([&, port = near_port] { return connect(fresh, /*to_far=*/false, port, 5s) == 0; },
             "a member");
  const auto binding = bind_or_die("network.partition",
                                   {{"service", "db"}, {"shape", "isolate"}, {"member", "far"}});
  ASSERT_EQ(binding.targets.size(), 1u);
  EXPECT_EQ(binding.targets[0].description, "db/near and db/far");
  start_holder();
  const auto rehearsed = client_->rehearse(binding);
  ASSERT_TRUE(rehearsed.ok()) << rehearsed.error().to_string();
  const auto lease = arm(binding);
  wait_for(LeaseState::kArmed);
  EXPECT_EQ(connect(fresh, /*to_far=*/true, far_port, 200ms), ETIMEDOUT);
  EXPECT_EQ(connect(fresh, /*to_far=*/false, near_port, 200ms), ETIMEDOUT);
  EXPECT_EQ(connect(fresh, /*to_far=*/false, other_port, 5s), 0);
  wait_for(LeaseState::kEffective);
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kVerified);
  EXPECT_EQ(connect(fresh, /*to_far=*/true, far_port, 5s), 0);
  EXPECT_EQ(connect(fresh, /*to_far=*/false, near_port, 5s), 0);
}

}  // namespace
}  // namespace squall::inject
