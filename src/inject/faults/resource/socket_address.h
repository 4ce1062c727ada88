#pragma once
// An endpoint as the socket calls want it.

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstring>

#include "inject/faults/network/nft_table.h"

namespace squall::inject {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t size = 0;
  int family = AF_INET;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

// An endpoint without address is every address of IPv4.
inline SocketAddress socket_address(const PacketEndpoint& endpoint) {
  SocketAddress result;
  if (endpoint.address.size() == 16) {
    sockaddr_in6 address{};
    address.sin6_family = AF_INET6;
    address.sin6_port = htons(endpoint.port);
    std::memcpy(&address.sin6_addr, endpoint.address.data(), 16);
    std::memcpy(&result.storage, &address, sizeof address);
    result.size = sizeof address;
    result.family = AF_INET6;
    return result;
  }
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(endpoint.port);
  if (endpoint.address.size() == 4) std::memcpy(&address.sin_addr, endpoint.address.data(), 4);
  std::memcpy(&result.storage, &address, sizeof address);
  result.size = sizeof address;
  return result;
}

}  // namespace squall::inject
