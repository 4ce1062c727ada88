#pragma once
// What the tests of the packet scheduler share: sockets that talk through the loopback interface of
// a network namespace of the test's own.

#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <fstream>

#include "inject/faults/network/nft_table.h"
#include "integration/inject/fixture.h"
#include "integration/inject/socket_names.h"

namespace squall::inject {

// Two sockets of the loopback interface: a datagram pair, or a listener and who connects to it.
class Talk {
 public:
  explicit Talk(int family = AF_INET, int type = SOCK_DGRAM) : family_(family) {
    server_.reset(::socket(family, type | SOCK_CLOEXEC, 0));
    client_.reset(::socket(family, type | SOCK_CLOEXEC, 0));
    const int room = 8 << 20;
    ::setsockopt(server_.get(), SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
    EXPECT_EQ(bind_to(server_, loopback_name(family, 0)), 0);
    port_ = port_of(server_);
    if (type == SOCK_STREAM) {
      EXPECT_EQ(::listen(server_.get(), 8), 0);
    } else {
      connect();
    }
  }
  std::uint16_t port() const { return port_; }
  int server() const { return server_.get(); }
  int client() const { return client_.get(); }

  void connect() const {
    const sockaddr_storage name = loopback_name(family_, port_);
    EXPECT_EQ(
        ::connect(client_.get(), reinterpret_cast<const sockaddr*>(&name), name_size(family_)), 0);
  }
  void send(std::uint32_t number) const {
    ASSERT_EQ(::send(client_.get(), &number, sizeof number, 0), 4);
  }
  // Empty when nothing came within `limit`.
  std::optional<std::uint32_t> receive(base::Duration limit) const {
    return receive_from(server_.get(), limit);
  }
  // One question, one answer.
  base::Duration round_trip() const {
    const base::Instant start = base::BootClock::now();
    send(1);
    pollfd request{.fd = server_.get(), .events = POLLIN, .revents = 0};
    EXPECT_EQ(::poll(&request, 1, 20'000), 1);
    std::uint32_t number = 0;
    sockaddr_storage peer{};
    socklen_t length = sizeof peer;
    auto* name = reinterpret_cast<sockaddr*>(&peer);
    EXPECT_EQ(::recvfrom(server_.get(), &number, sizeof number, 0, name, &length), 4);
    EXPECT_EQ(::sendto(server_.get(), &number, sizeof number, 0, name, length), 4);
    EXPECT_TRUE(receive_from(client_.get(), 20s).has_value());
    return base::BootClock::now() - start;
  }

  static std::optional<std::uint32_t> receive_from(int fd, base::Duration limit) {
    pollfd request{.fd = fd, .events = POLLIN, .revents = 0};
    std::uint32_t number = 0;
    if (::poll(&request, 1, static_cast<int>(limit / 1ms)) <= 0) return std::nullopt;
    if (::recv(fd, &number, sizeof number, 0) != 4) return std::nullopt;
    return number;
  }

 private:
  int family_;
  base::UniqueFd server_;
  base::UniqueFd client_;
  std::uint16_t port_ = 0;
};

// In a network namespace of its own: the kernel drops what is queued in a namespace whenever any
// hook of it goes, also one of another test.
class PacketSchedulerTest : public InjectTest {
 protected:
  void SetUp() override {
    InjectTest::SetUp();
    if (IsSkipped()) return;
    outside_.reset(::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
    ASSERT_EQ(::unshare(CLONE_NEWNET), 0);
    const base::UniqueFd socket{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
    ifreq request{};
    std::strcpy(request.ifr_name, "lo");
    request.ifr_flags = IFF_UP;
    ASSERT_EQ(::ioctl(socket.get(), SIOCSIFFLAGS, &request), 0);
  }
  void TearDown() override {
    InjectTest::TearDown();
    if (outside_) {
      EXPECT_EQ(::setns(outside_.get(), CLONE_NEWNET), 0);
    }
  }

  void add_server(const Talk& talk, const std::string& address = "127.0.0.1") {
    model::Service users;
    users.name = "users";
    users.external = true;
    users.depends_on = {"server"};
    model::Service service;
    service.name = "server";
    service.listens = model::ListenAddress{.address = address, .port = talk.port()};
    map_.services = {users, service};
  }

  static Json latency(base::Duration delay, base::Duration jitter = {},
                      const std::string& direction = "both", bool keep_order = true) {
    return {{"from", "users"},           {"to", "server"},
            {"delay", delay.count()},    {"jitter", jitter.count()},
            {"distribution", "uniform"}, {"direction", direction},
            {"keep_order", keep_order}};
  }

  // Arms it and waits until it stands.
  base::LeaseId arm_latency(Json parameters) {
    return arm_kind("network.latency", std::move(parameters));
  }
  base::LeaseId arm_kind(const std::string& kind, Json parameters) {
    if (client_ == nullptr) start_holder();
    const auto lease = arm(bind_or_die(kind, std::move(parameters)));
    auto worker = base::PidFd::open(proof_of(wait_for(LeaseState::kArmed)).value("worker", 0));
    EXPECT_TRUE(worker.ok());
    if (worker.ok()) worker_ = std::move(*worker);
    return lease;
  }
  Json revert(base::LeaseId lease) {
    EXPECT_TRUE(client_->revert(lease, "asked").ok());
    const auto reverted = wait_for(LeaseState::kReverted);
    wait_for(LeaseState::kVerified);
    EXPECT_TRUE(worker_.valid() && worker_.ended());
    return proof_of(reverted);
  }
  std::string worker_status(const std::string& name) const {
    std::ifstream file(fmt_path("status"));
    std::string line;
    while (std::getline(file, line)) {
      if (line.starts_with(name + ":"))
        return line.substr(line.find_first_not_of(" \t", name.size() + 1));
    }
    return {};
  }
  std::string fmt_path(const std::string& name) const {
    return "/proc/" + std::to_string(worker_.identity().pid) + "/" + name;
  }
  void wait_for_broken_fault() {
    EXPECT_FALSE(wait_for_notice().text.empty());
    EXPECT_EQ(wait_for(LeaseState::kReverting).cause, "fault broke");
    wait_for(LeaseState::kVerified);
  }

  base::UniqueFd outside_;
  base::PidFd worker_;
};

}  // namespace squall::inject
