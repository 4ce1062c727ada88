#include "host/socket_table.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <libmnl/libmnl.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>
#include <unordered_map>

#include "host/proc_files.h"

namespace squall::host {

namespace {

constexpr unsigned kReceiveBufferSize = 64 * 1024;

struct CloseNetlink {
  void operator()(mnl_socket* socket) const { mnl_socket_close(socket); }
};
using Netlink = std::unique_ptr<mnl_socket, CloseNetlink>;

struct CloseFolder {
  void operator()(DIR* folder) const { ::closedir(folder); }
};
using Folder = std::unique_ptr<DIR, CloseFolder>;

std::uint64_t cookie_of(const std::uint32_t (&words)[2]) {
  return std::uint64_t{words[1]} << 32 | words[0];
}

std::string address_text(int family, const std::uint32_t (&words)[4]) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const bool mapped =
      family == AF_INET6 && words[0] == 0 && words[1] == 0 && words[2] == htonl(0xFFFF);
  if (mapped)
    ::inet_ntop(AF_INET, &words[3], text.data(), text.size());
  else
    ::inet_ntop(family, words, text.data(), text.size());
  return text.data();
}

SocketState state_of(std::uint8_t kernel_state, int protocol) {
  if (kernel_state == TCP_ESTABLISHED) return SocketState::kEstablished;
  // A UDP socket that is not connected is in state CLOSE and receives from anybody.
  if (kernel_state == TCP_LISTEN || (protocol == IPPROTO_UDP && kernel_state == TCP_CLOSE))
    return SocketState::kListening;
  return SocketState::kOther;
}

struct InetDump {
  int protocol;
  std::vector<Socket>& sockets;
};

int on_inet_socket(const nlmsghdr* header, void* data) {
  auto& dump = *static_cast<InetDump*>(data);
  if (mnl_nlmsg_get_payload_len(header) < sizeof(inet_diag_msg)) return MNL_CB_OK;
  const auto* message = static_cast<const inet_diag_msg*>(mnl_nlmsg_get_payload(header));
  Socket socket;
  socket.protocol = dump.protocol == IPPROTO_TCP ? "tcp" : "udp";
  if (message->idiag_family == AF_INET6) socket.protocol += '6';
  socket.state = state_of(message->idiag_state, dump.protocol);
  socket.local = {address_text(message->idiag_family, message->id.idiag_src),
                  ntohs(message->id.idiag_sport)};
  socket.remote = {address_text(message->idiag_family, message->id.idiag_dst),
                   ntohs(message->id.idiag_dport)};
  socket.inode = message->idiag_inode;
  socket.cookie = cookie_of(message->id.idiag_cookie);
  socket.interface = message->id.idiag_if;
  dump.sockets.push_back(std::move(socket));
  return MNL_CB_OK;
}

struct UnixSocket {
  Socket socket;
  std::uint32_t peer = 0;  // inode
};

int on_unix_attribute(const nlattr* attribute, void* data) {
  auto& found = *static_cast<UnixSocket*>(data);
  const auto* bytes = static_cast<const char*>(mnl_attr_get_payload(attribute));
  const std::size_t size = mnl_attr_get_payload_len(attribute);
  if (mnl_attr_get_type(attribute) == UNIX_DIAG_NAME && size > 0) {
    std::string name(bytes, size);
    if (name[0] == '\0')
      name[0] = '@';
    else
      name.resize(std::strlen(name.c_str()));
    found.socket.local.address = std::move(name);
  } else if (mnl_attr_get_type(attribute) == UNIX_DIAG_PEER && size >= sizeof found.peer) {
    std::memcpy(&found.peer, bytes, sizeof found.peer);
  }
  return MNL_CB_OK;
}

int on_unix_socket(const nlmsghdr* header, void* data) {
  auto& sockets = *static_cast<std::vector<UnixSocket>*>(data);
  if (mnl_nlmsg_get_payload_len(header) < sizeof(unix_diag_msg)) return MNL_CB_OK;
  const auto* message = static_cast<const unix_diag_msg*>(mnl_nlmsg_get_payload(header));
  UnixSocket found;
  found.socket.protocol = "unix";
  found.socket.state = state_of(message->udiag_state, /*protocol=*/0);
  found.socket.inode = message->udiag_ino;
  found.socket.cookie = cookie_of(message->udiag_cookie);
  mnl_attr_parse(header, sizeof(unix_diag_msg), on_unix_attribute, &found);
  sockets.push_back(std::move(found));
  return MNL_CB_OK;
}

// Sends the request that `request` was made into and hands each answer to `on_answer`.
base::Status dump(mnl_socket* netlink, const nlmsghdr* request, mnl_cb_t on_answer, void* data) {
  if (mnl_socket_sendto(netlink, request, request->nlmsg_len) < 0)
    return base::system_error("ask the kernel for its sockets", errno);
  const auto buffer = std::make_unique<char[]>(kReceiveBufferSize);
  while (true) {
    const ssize_t size = mnl_socket_recvfrom(netlink, buffer.get(), kReceiveBufferSize);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return base::system_error("read the kernel's sockets", errno);
    const int more = mnl_cb_run(buffer.get(), static_cast<std::size_t>(size), request->nlmsg_seq,
                                mnl_socket_get_portid(netlink), on_answer, data);
    // ENOENT: this kernel has no such table (no IPv6, or a module that is not there).
    if (more < 0 && errno == ENOENT) return {};
    if (more < 0) return base::system_error("read the kernel's sockets", errno);
    if (more == MNL_CB_STOP) return {};
  }
}

nlmsghdr* new_request(char* buffer, std::uint32_t sequence) {
  nlmsghdr* header = mnl_nlmsg_put_header(buffer);
  header->nlmsg_type = SOCK_DIAG_BY_FAMILY;
  header->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  header->nlmsg_seq = sequence;
  return header;
}

// UNIX sockets with a name or a peer that has one. A client's socket has no name of its own: it is
// known by the name of the server's end.
void add_unix_sockets(std::vector<UnixSocket>& found, std::vector<Socket>& sockets) {
  std::unordered_map<std::uint64_t, const UnixSocket*> by_inode;
  for (const UnixSocket& each : found) by_inode[each.socket.inode] = &each;
  for (UnixSocket& each : found) {
    if (const auto peer = by_inode.find(each.peer); each.peer != 0 && peer != by_inode.end())
      each.socket.remote.address = peer->second->socket.local.address;
  }
  for (UnixSocket& each : found) {
    if (each.socket.local.address.empty() && each.socket.remote.address.empty()) continue;
    sockets.push_back(std::move(each.socket));
  }
}

}  // namespace

base::Result<std::vector<Socket>> read_socket_table() {
  const Netlink netlink{mnl_socket_open2(NETLINK_SOCK_DIAG, SOCK_CLOEXEC)};
  if (netlink == nullptr) return base::system_error("open a sock_diag socket", errno);
  if (mnl_socket_bind(netlink.get(), 0, MNL_SOCKET_AUTOPID) < 0)
    return base::system_error("bind a sock_diag socket", errno);

  std::vector<Socket> sockets;
  std::array<char, 512> buffer{};
  std::uint32_t sequence = 0;
  for (const int protocol : {IPPROTO_TCP, IPPROTO_UDP}) {
    for (const int family : {AF_INET, AF_INET6}) {
      nlmsghdr* header = new_request(buffer.data(), ++sequence);
      auto* request = static_cast<inet_diag_req_v2*>(
          mnl_nlmsg_put_extra_header(header, sizeof(inet_diag_req_v2)));
      request->sdiag_family = static_cast<std::uint8_t>(family);
      request->sdiag_protocol = static_cast<std::uint8_t>(protocol);
      request->idiag_states = ~(1u << TCP_TIME_WAIT);
      InetDump target{protocol, sockets};
      SQUALL_TRY(dump(netlink.get(), header, on_inet_socket, &target));
    }
  }
  nlmsghdr* header = new_request(buffer.data(), ++sequence);
  auto* request =
      static_cast<unix_diag_req*>(mnl_nlmsg_put_extra_header(header, sizeof(unix_diag_req)));
  request->sdiag_family = AF_UNIX;
  request->udiag_states = ~0u;
  request->udiag_show = UDIAG_SHOW_NAME | UDIAG_SHOW_PEER;
  std::vector<UnixSocket> found;
  SQUALL_TRY(dump(netlink.get(), header, on_unix_socket, &found));
  add_unix_sockets(found, sockets);
  return sockets;
}

namespace {

// Calls `visit` with the inode of every socket that `pid` holds a descriptor of.
template <typename Visit>
void for_each_socket(const char* pid, const Visit& visit) {
  const std::string path = fmt::format("/proc/{}/fd", pid);
  const Folder descriptors{::opendir(path.c_str())};
  if (descriptors == nullptr) return;
  std::array<char, 64> link;
  while (const dirent* entry = ::readdir(descriptors.get())) {
    if (entry->d_name[0] == '.') continue;
    const ssize_t size =
        ::readlinkat(::dirfd(descriptors.get()), entry->d_name, link.data(), link.size());
    if (size <= 0) continue;
    const std::uint64_t inode =
        parse_link_inode({link.data(), static_cast<std::size_t>(size)}, "socket");
    if (inode != 0) visit(inode);
  }
}

}  // namespace

void resolve_owners(std::vector<Socket>& sockets) {
  std::unordered_map<std::uint64_t, Socket*> by_inode;
  by_inode.reserve(sockets.size());
  for (Socket& socket : sockets) {
    if (socket.inode != 0) by_inode[socket.inode] = &socket;
  }
  const Folder processes{::opendir("/proc")};
  if (processes == nullptr) return;
  while (const dirent* entry = ::readdir(processes.get())) {
    const std::string_view name = entry->d_name;
    pid_t pid = 0;
    if (std::from_chars(name.data(), name.data() + name.size(), pid).ec != std::errc{}) continue;
    for_each_socket(entry->d_name, [&](std::uint64_t inode) {
      const auto found = by_inode.find(inode);
      if (found == by_inode.end()) return;
      std::vector<pid_t>& owners = found->second->owners;
      if (owners.empty() || owners.back() != pid) owners.push_back(pid);  // two descriptors of one
    });
  }
}

}  // namespace squall::host
