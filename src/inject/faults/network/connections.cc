#include "inject/faults/network/connections.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <libmnl/libmnl.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <memory>

#include "inject/faults/network/scope.h"

namespace squall::inject {

namespace {

using Ends =
    std::pair<std::pair<std::string, std::uint16_t>, std::pair<std::string, std::uint16_t>>;

Ends ends_of(const host::Endpoint& from, const host::Endpoint& to) {
  return {{from.address, from.port}, {to.address, to.port}};
}

bool is_live_tcp(const host::Socket& socket) {
  return socket.protocol.starts_with("tcp") && socket.state == host::SocketState::kEstablished;
}

bool descends_from(const host::Host& host, pid_t pid,
                   const std::vector<base::ProcessIdentity>& ancestors) {
  for (int depth = 0; depth < 64 && pid > 1; ++depth) {
    const auto process = host.process(pid);
    if (!process.ok()) return false;
    if (std::find(ancestors.begin(), ancestors.end(), process->identity) != ancestors.end())
      return true;
    pid = process->parent;
  }
  return false;
}

struct CloseNetlink {
  void operator()(mnl_socket* socket) const { mnl_socket_close(socket); }
};

base::Error destroy_error(const host::Socket& socket, int error_number) {
  base::Error error =
      base::system_error("reset the connection " + describe_connection(socket), error_number);
  if (error_number == ENOENT) error.code = base::ErrorCode::kNotFound;
  if (error_number == EPERM) {
    error.code = base::ErrorCode::kPermission;
    error.hint =
        "CAP_NET_ADMIN is needed: run as root, and in a container with --cap-add NET_ADMIN";
  }
  if (error_number == EOPNOTSUPP) {
    error.code = base::ErrorCode::kUnsupported;
    error.hint = "the kernel is built without CONFIG_INET_DIAG_DESTROY; use network.blackhole";
  }
  return error;
}

}  // namespace

base::Result<std::vector<host::Socket>> find_connections(const host::Host& host,
                                                         const ConnectionScope& scope) {
  const auto touches = [&](const host::Socket& socket) {
    return is_live_tcp(socket) &&
           (lies_at(socket.local, scope.endpoints) || lies_at(socket.remote, scope.endpoints));
  };
  // Owners are dear: they are looked up only when there is somebody to look up.
  SQUALL_ASSIGN(auto sockets, host.sockets(host::Host::Owners::kSkip));
  if (std::none_of(sockets.begin(), sockets.end(), touches)) return std::vector<host::Socket>{};
  if (!scope.callers.empty()) {
    SQUALL_ASSIGN(sockets, host.sockets(host::Host::Owners::kResolve));
  }
  std::map<Ends, const host::Socket*> by_ends;
  for (const host::Socket& socket : sockets) {
    if (is_live_tcp(socket)) by_ends[ends_of(socket.local, socket.remote)] = &socket;
  }
  std::vector<host::Socket> found;
  for (const host::Socket& socket : sockets) {
    if (!touches(socket)) continue;
    const auto peer = by_ends.find(ends_of(socket.remote, socket.local));
    const bool calls = lies_at(socket.remote, scope.endpoints);
    if (scope.callers.empty()) {
      if (lies_at(socket.local, scope.endpoints) || peer == by_ends.end()) found.push_back(socket);
      continue;
    }
    const auto theirs = [&](pid_t owner) { return descends_from(host, owner, scope.callers); };
    if (!calls || std::none_of(socket.owners.begin(), socket.owners.end(), theirs)) continue;
    found.push_back(peer == by_ends.end() ? socket : *peer->second);
  }
  return found;
}

base::Status destroy_connection(const host::Socket& socket) {
  const std::unique_ptr<mnl_socket, CloseNetlink> netlink{
      mnl_socket_open2(NETLINK_SOCK_DIAG, SOCK_CLOEXEC)};
  if (netlink == nullptr || mnl_socket_bind(netlink.get(), 0, MNL_SOCKET_AUTOPID) < 0)
    return base::system_error("open a sock_diag socket", errno);
  std::array<char, 8192> buffer{};
  nlmsghdr* header = mnl_nlmsg_put_header(buffer.data());
  header->nlmsg_type = SOCK_DESTROY;
  header->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
  header->nlmsg_seq = 1;
  auto* request =
      static_cast<inet_diag_req_v2*>(mnl_nlmsg_put_extra_header(header, sizeof(inet_diag_req_v2)));
  // A mapped address is found as the IPv4 address that it is.
  const bool six = socket.local.address.find(':') != std::string::npos;
  request->sdiag_family = six ? AF_INET6 : AF_INET;
  request->sdiag_protocol = IPPROTO_TCP;
  request->idiag_states = 1u << TCP_ESTABLISHED;
  request->id.idiag_sport = htons(socket.local.port);
  request->id.idiag_dport = htons(socket.remote.port);
  request->id.idiag_if = socket.interface;
  // The cookie names this very socket: another one with the same ends is left alone.
  request->id.idiag_cookie[0] = static_cast<std::uint32_t>(socket.cookie);
  request->id.idiag_cookie[1] = static_cast<std::uint32_t>(socket.cookie >> 32);
  if (::inet_pton(request->sdiag_family, socket.local.address.c_str(), request->id.idiag_src) !=
          1 ||
      ::inet_pton(request->sdiag_family, socket.remote.address.c_str(), request->id.idiag_dst) != 1)
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = describe_connection(socket) + " is no TCP connection"};
  if (mnl_socket_sendto(netlink.get(), header, header->nlmsg_len) < 0)
    return destroy_error(socket, errno);
  // The kernel works on it while it is sent: the answer waits.
  const ssize_t got =
      ::recv(mnl_socket_get_fd(netlink.get()), buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (got < 0) return destroy_error(socket, errno);
  if (mnl_cb_run(buffer.data(), static_cast<std::size_t>(got), 1,
                 mnl_socket_get_portid(netlink.get()), nullptr, nullptr) < 0)
    return destroy_error(socket, errno);
  return {};
}

std::string describe_connection(const host::Socket& socket) {
  const auto text = [](const host::Endpoint& end) {
    const bool six = end.address.find(':') != std::string::npos;
    return six ? fmt::format("[{}]:{}", end.address, end.port)
               : fmt::format("{}:{}", end.address, end.port);
  };
  return fmt::format("{} to {}", text(socket.remote), text(socket.local));
}

}  // namespace squall::inject
