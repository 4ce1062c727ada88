#pragma once
// What the tests of network kinds share: servers on loopback ports of their own, and a map in which
// `users` from outside speak to `server`.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "integration/inject/fixture.h"

namespace squall::inject {

// A TCP server on a loopback port of its own, in this process.
class Server {
 public:
  explicit Server(int family = AF_INET) : family_(family) {
    listener_.reset(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_storage name = address(0);
    EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&name), size()), 0);
    EXPECT_EQ(::listen(listener_.get(), 16), 0);
    socklen_t length = sizeof name;
    ::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&name), &length);
    port_ = ntohs(family == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(&name)->sin6_port
                                     : reinterpret_cast<sockaddr_in*>(&name)->sin_port);
  }
  std::uint16_t port() const { return port_; }

  // Connects within `limit`: 0, or the error.
  int connect(base::UniqueFd& client, base::Duration limit) const {
    client.reset(::socket(family_, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const sockaddr_storage name = address(port_);
    if (::connect(client.get(), reinterpret_cast<const sockaddr*>(&name), size()) == 0) return 0;
    if (errno != EINPROGRESS) return errno;
    pollfd request{.fd = client.get(), .events = POLLOUT, .revents = 0};
    if (::poll(&request, 1, static_cast<int>(limit / 1ms)) == 0) return ETIMEDOUT;
    int error = 0;
    socklen_t length = sizeof error;
    ::getsockopt(client.get(), SOL_SOCKET, SO_ERROR, &error, &length);
    return error;
  }
  base::UniqueFd accept() const {
    return base::UniqueFd{::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)};
  }

 private:
  socklen_t size() const {
    return family_ == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
  }
  sockaddr_storage address(std::uint16_t port) const {
    sockaddr_storage storage{};
    storage.ss_family = static_cast<sa_family_t>(family_);
    if (family_ == AF_INET6) {
      auto* name = reinterpret_cast<sockaddr_in6*>(&storage);
      name->sin6_addr = in6addr_loopback;
      name->sin6_port = htons(port);
    } else {
      auto* name = reinterpret_cast<sockaddr_in*>(&storage);
      name->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      name->sin_port = htons(port);
    }
    return storage;
  }
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
