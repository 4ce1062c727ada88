#pragma once
// Socket addresses of both families, for the tests of network kinds.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdint>
#include <string>

#include "base/clock.h"
#include "base/fd.h"

namespace squall::inject {

inline socklen_t name_size(int family) {
  return family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
}

// `address` in text, of `family`; `port` 0: any.
inline sockaddr_storage socket_name(int family, const std::string& address, std::uint16_t port) {
  sockaddr_storage storage{};
  storage.ss_family = static_cast<sa_family_t>(family);
  if (family == AF_INET6) {
    auto* name = reinterpret_cast<sockaddr_in6*>(&storage);
    ::inet_pton(AF_INET6, address.c_str(), &name->sin6_addr);
    name->sin6_port = htons(port);
  } else {
    auto* name = reinterpret_cast<sockaddr_in*>(&storage);
    ::inet_pton(AF_INET, address.c_str(), &name->sin_addr);
    name->sin_port = htons(port);
  }
  return storage;
}

inline sockaddr_storage loopback_name(int family, std::uint16_t port) {
  return socket_name(family, family == AF_INET6 ? "::1" : "127.0.0.1", port);
}

// 0, or the error of bind(2).
inline int bind_to(const base::UniqueFd& fd, const sockaddr_storage& name) {
  const auto* address = reinterpret_cast<const sockaddr*>(&name);
  return ::bind(fd.get(), address, name_size(name.ss_family)) == 0 ? 0 : errno;
}

// The port that a bound socket got.
inline std::uint16_t port_of(const base::UniqueFd& fd) {
  sockaddr_storage name{};
  socklen_t length = sizeof name;
  ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&name), &length);
  return ntohs(name.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(&name)->sin6_port
                                          : reinterpret_cast<sockaddr_in*>(&name)->sin_port);
}

// Connects a non-blocking socket within `limit`: 0, or the error.
inline int connect_within(const base::UniqueFd& fd, const sockaddr_storage& name,
                          base::Duration limit) {
  const auto* address = reinterpret_cast<const sockaddr*>(&name);
  if (::connect(fd.get(), address, name_size(name.ss_family)) == 0) return 0;
  if (errno != EINPROGRESS) return errno;
  pollfd request{.fd = fd.get(), .events = POLLOUT, .revents = 0};
  if (::poll(&request, 1, static_cast<int>(limit / std::chrono::milliseconds(1))) == 0)
    return ETIMEDOUT;
  int error = 0;
  socklen_t length = sizeof error;
  ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &length);
  return error;
}

}  // namespace squall::inject
