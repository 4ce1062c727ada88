#pragma once
// What the tests of network kinds share: servers on loopback ports of their own, and a map in which
// `users` from outside speak to `server`.

#include "integration/inject/fixture.h"
#include "integration/inject/socket_names.h"

namespace squall::inject {

// A TCP server on a loopback port of its own, in this process.
class Server {
 public:
  explicit Server(int family = AF_INET) : family_(family) {
    listener_.reset(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(bind_to(listener_, loopback_name(family, 0)), 0);
    EXPECT_EQ(::listen(listener_.get(), 16), 0);
    port_ = port_of(listener_);
  }
  std::uint16_t port() const { return port_; }

  // Connects within `limit`: 0, or the error.
  int connect(base::UniqueFd& client, base::Duration limit) const {
    client.reset(::socket(family_, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    return connect_within(client, loopback_name(family_, port_), limit);
  }
  base::UniqueFd accept() const {
    return base::UniqueFd{::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)};
  }

 private:
  int family_;
  base::UniqueFd listener_;
  std::uint16_t port_ = 0;
};

inline bool arrives(int fd, base::Duration limit) {
  pollfd request{.fd = fd, .events = POLLIN, .revents = 0};
  return ::poll(&request, 1, static_cast<int>(limit / 1ms)) > 0;
}

class NetworkTest : public InjectTest {
 protected:
  void add_server(const Server& server, const std::string& address = "127.0.0.1") {
    add_server(server.port(), address);
  }
  void add_server(std::uint16_t port, const std::string& address) {
    model::Service users;
    users.name = "users";
    users.external = true;
    users.depends_on = {"server"};
    model::Service service;
    service.name = "server";
    service.listens = model::ListenAddress{.address = address, .port = port};
    map_.services = {users, service};
  }
};

}  // namespace squall::inject
