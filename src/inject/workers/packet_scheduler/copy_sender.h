#pragma once
// Sending whole IP packets.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <span>

#include "base/fd.h"
#include "base/result.h"
#include "inject/faults/network/nft_table.h"
#include "inject/workers/packet_scheduler/packet_fields.h"

namespace squall::inject {

// Sends packets that a worker made as if they were our own, marked so that no rule of ours queues
// them again. Through raw sockets, for what a packet socket puts on the loopback interface has no
// route and is refused as a martian.
class CopySender {
 public:
  static base::Result<CopySender> open() {
    CopySender sender;
    const std::uint32_t mark = kCopyBit;
    const int on = 1;
    for (const int family : {AF_INET, AF_INET6}) {
      base::UniqueFd& socket = family == AF_INET ? sender.four_ : sender.six_;
      socket.reset(::socket(family, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_RAW));
      if (!socket && errno == EAFNOSUPPORT) continue;
      if (!socket) return base::system_error("open a raw socket", errno);
      const int level = family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6;
      const int option = family == AF_INET ? IP_HDRINCL : IPV6_HDRINCL;
      if (::setsockopt(socket.get(), SOL_SOCKET, SO_MARK, &mark, sizeof mark) != 0 ||
          ::setsockopt(socket.get(), level, option, &on, sizeof on) != 0)
        return base::system_error("set up a raw socket", errno);
    }
    return sender;
  }

  bool send(std::span<const std::uint8_t> packet) const {
    const int version = version_of(packet);
    if (version == 4) {
      sockaddr_in to{};
      to.sin_family = AF_INET;
      std::memcpy(&to.sin_addr, &packet[16], sizeof to.sin_addr);
      return send(four_, packet, reinterpret_cast<const sockaddr*>(&to), sizeof to);
    }
    if (version != 6) return false;
    sockaddr_in6 to{};
    to.sin6_family = AF_INET6;
    std::memcpy(&to.sin6_addr, &packet[24], sizeof to.sin6_addr);
    return send(six_, packet, reinterpret_cast<const sockaddr*>(&to), sizeof to);
  }

 private:
  static bool send(const base::UniqueFd& socket, std::span<const std::uint8_t> packet,
                   const sockaddr* to, socklen_t size) {
    return socket.valid() && ::sendto(socket.get(), packet.data(), packet.size(), 0, to, size) ==
                                 static_cast<ssize_t>(packet.size());
  }
  base::UniqueFd four_;
  base::UniqueFd six_;
};

}  // namespace squall::inject
