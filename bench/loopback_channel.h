#pragma once
// Two sockets of the loopback interface, of which one sends to the other.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "base/fd.h"

namespace squall::bench {

struct Channel {
  base::UniqueFd server;
  base::UniqueFd client;  // connected, if SOCK_DGRAM
  std::uint16_t port = 0;
};

// `type`: SOCK_DGRAM, or SOCK_STREAM, of which the server listens then. Ends the program when it
// cannot: no figure is better than a wrong one.
inline Channel open_channel(int type) {
  Channel channel;
  channel.server.reset(::socket(AF_INET, type | SOCK_CLOEXEC, 0));
  channel.client.reset(::socket(AF_INET, type | SOCK_CLOEXEC, 0));
  const int room = 32 << 20;
  ::setsockopt(channel.server.get(), SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof name;
  auto* address = reinterpret_cast<sockaddr*>(&name);
  bool open = ::bind(channel.server.get(), address, size) == 0 &&
              ::getsockname(channel.server.get(), address, &size) == 0;
  channel.port = ntohs(name.sin_port);
  open = open && (type == SOCK_STREAM ? ::listen(channel.server.get(), 1)
                                      : ::connect(channel.client.get(), address, size)) == 0;
  if (open) return channel;
  std::perror("open a channel of the loopback interface");
  std::exit(1);
}

}  // namespace squall::bench
