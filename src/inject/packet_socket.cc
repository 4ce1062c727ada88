#include "inject/packet_socket.h"

#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace squall::inject {

base::Result<std::pair<base::UniqueFd, base::UniqueFd>> make_packet_sockets() {
  std::array<int, 2> pair{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair.data()) != 0)
    return base::system_error("create a socket pair", errno);
  return std::pair{base::UniqueFd{pair[0]}, base::UniqueFd{pair[1]}};
}

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77  // <asm-generic/socket.h> since Linux 6.5
#endif

// The process that connected, by what the kernel says and not by what it says itself.
base::Result<base::UniqueFd> peer_process(int socket, const base::ProcessIdentity& claimed) {
  int fd = -1;
  socklen_t size = sizeof fd;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, &fd, &size) == 0) return base::UniqueFd{fd};
  ucred peer{};
  size = sizeof peer;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
    return base::system_error("ask who connected", errno);
  // Before Linux 6.5 a number is all there is; with its start time it names one process.
  if (peer.pid != claimed.pid)
    return base::Error{.code = base::ErrorCode::kPermission,
                       .message = "the engine says that it is another process than it is"};
  SQUALL_TRY(base::PidFd::open(claimed));
  base::UniqueFd pidfd{static_cast<int>(::syscall(SYS_pidfd_open, peer.pid, 0))};
  if (!pidfd) return base::system_error("open a pidfd of the engine", errno);
  return pidfd;
}

namespace {

// The peer is as it was; the kernel has no room or no memory now.
bool may_work_later(int error) {
  return error == EAGAIN || error == EWOULDBLOCK || error == ENOMEM || error == ENOBUFS;
}

}  // namespace

base::Status send_packet(int socket, std::span<const std::byte> packet, int descriptor) {
  iovec bytes{.iov_base = const_cast<std::byte*>(packet.data()), .iov_len = packet.size()};
  msghdr message{};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  if (descriptor >= 0) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof descriptor);
    std::memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
  }
  while (true) {
    if (::sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return {};
    if (errno == EINTR) continue;
    if (may_work_later(errno))
      return base::Error{.code = base::ErrorCode::kExhausted, .message = "the peer does not read"};
    return base::Error{.code = base::ErrorCode::kUnavailable, .message = "the peer is gone"};
  }
}

namespace {

// The first descriptor that came, as ours; all others are closed.
base::UniqueFd take_descriptors(msghdr& message) {
  base::UniqueFd first;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int number = -1;
      std::memcpy(&number, CMSG_DATA(header) + i * sizeof number, sizeof number);
      base::UniqueFd descriptor{number};
      if (!first) first = std::move(descriptor);
    }
  }
  return first;
}

}  // namespace

base::Result<std::vector<std::byte>> receive_packet(int socket, base::UniqueFd* descriptor) {
  std::vector<std::byte> packet;
  bool sized = false;
  bool reset_seen = false;
  while (true) {
    iovec bytes{.iov_base = packet.data(), .iov_len = packet.size()};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(4 * sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &bytes;
    message.msg_iovlen = 1;
    message.msg_control = sized ? control.data() : nullptr;
    message.msg_controllen = sized ? control.size() : 0;
    // First only its size, so that an idle process does not keep room for the largest.
    const int flags = MSG_DONTWAIT | MSG_TRUNC | MSG_CMSG_CLOEXEC | (sized ? 0 : MSG_PEEK);
    const ssize_t got = ::recvmsg(socket, &message, flags);
    if (got < 0 && errno == EINTR) continue;
    // The peer closed without having read all that we sent. Linux reports that before it hands out
    // what the peer had said last, and once only.
    if (got < 0 && errno == ECONNRESET && !std::exchange(reset_seen, true)) continue;
    if (got < 0 && may_work_later(errno)) return std::vector<std::byte>{};
    if (got <= 0)
      return base::Error{.code = base::ErrorCode::kUnavailable, .message = "the peer is gone"};
    const auto size = static_cast<std::size_t>(got);
    if (!std::exchange(sized, true)) {
      packet.resize(std::min(size, kPacketLimit));
      continue;
    }
    base::UniqueFd came = take_descriptors(message);
    if (descriptor != nullptr) *descriptor = std::move(came);
    if (size > packet.size())
      return base::Error{.code = base::ErrorCode::kCorrupt,
                         .message = "a message is longer than the limit"};
    return packet;
  }
}

}  // namespace squall::inject
