#pragma once
// SOCK_SEQPACKET sockets between engine, keeper, holder, starter and workers: one message a packet.

#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace squall::inject {

// The largest packet: Linux's default limit for one is 208 KiB.
inline constexpr std::size_t kPacketLimit = 160 * 1024;

base::Result<std::pair<base::UniqueFd, base::UniqueFd>> make_packet_sockets();

// Non-blocking. kExhausted when the peer's buffer is full, kUnavailable when it is gone.
// `descriptor`, when it is not -1, goes with it.
base::Status send_packet(int socket, std::span<const std::byte> packet, int descriptor = -1);
// Empty when nothing waits; kUnavailable when the peer is gone. A descriptor that came with it is
// put into `descriptor`, or closed when that is null.
base::Result<std::vector<std::byte>> receive_packet(int socket,
                                                    base::UniqueFd* descriptor = nullptr);

// A pidfd of the process that connected, by what the kernel says and not by what it says itself.
base::Result<base::UniqueFd> peer_process(int socket, const base::ProcessIdentity& claimed);

}  // namespace squall::inject
