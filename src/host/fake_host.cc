#include "host/fake_host.h"

#include <fmt/format.h>

namespace squall::host {

Process& FakeHost::add_process(pid_t pid, pid_t parent, std::vector<std::string> argv) {
  Process process;
  process.identity = {.pid = pid, .start_time = next_start_time_++};
  process.parent = parent;
  process.state = 'S';
  if (!argv.empty()) {
    process.executable = argv[0];
    process.name = argv[0].substr(argv[0].rfind('/') + 1).substr(0, 15);
  }
  process.argv = std::move(argv);
  process.cgroup = "/";
  process.network_namespace = 1;
  return processes_[pid] = std::move(process);
}

Socket& FakeHost::add_listener(std::string address, std::uint16_t port, std::vector<pid_t> owners) {
  Socket socket;
  socket.protocol = address.find(':') == std::string::npos ? "tcp" : "tcp6";
  socket.state = SocketState::kListening;
  socket.local = {std::move(address), port};
  socket.inode = next_inode_;
  socket.cookie = next_inode_++;
  socket.owners = std::move(owners);
  sockets_.push_back(std::move(socket));
  return sockets_.back();
}

void FakeHost::add_connection(pid_t client, pid_t server, std::string address, std::uint16_t port) {
  const Endpoint client_end{address, next_port_++};
  const Endpoint server_end{std::move(address), port};
  for (const bool at_client : {true, false}) {
    Socket socket;
    socket.protocol = "tcp";
    socket.state = SocketState::kEstablished;
    socket.local = at_client ? client_end : server_end;
    socket.remote = at_client ? server_end : client_end;
    socket.inode = next_inode_;
    socket.cookie = next_inode_++;
    socket.owners = {at_client ? client : server};
    sockets_.push_back(std::move(socket));
  }
}

void FakeHost::remove_process(pid_t pid) {
  processes_.erase(pid);
  for (Socket& socket : sockets_) std::erase(socket.owners, pid);
  std::erase_if(sockets_, [](const Socket& socket) { return socket.owners.empty(); });
}

base::Result<std::vector<Process>> FakeHost::processes() const {
  std::vector<Process> all;
  for (const auto& [pid, process] : processes_) all.push_back(process);
  return all;
}

base::Result<Process> FakeHost::process(pid_t pid) const {
  const auto found = processes_.find(pid);
  if (found != processes_.end()) return found->second;
  return base::Error{.code = base::ErrorCode::kNotFound,
                     .message = fmt::format("process {} does not exist", pid)};
}

base::Result<ProcessUsage> FakeHost::usage(const base::ProcessIdentity& identity) const {
  SQUALL_ASSIGN(const Process found, process(identity.pid));
  if (found.identity != identity)
    return base::Error{.code = base::ErrorCode::kNotFound,
                       .message = fmt::format("process {} has ended", identity.pid)};
  const auto usage = usage_.find(identity.pid);
  return usage == usage_.end() ? ProcessUsage{} : usage->second;
}

base::Result<std::vector<Socket>> FakeHost::sockets(Owners owners) const {
  std::vector<Socket> all = sockets_;
  if (owners == Owners::kSkip) {
    for (Socket& socket : all) socket.owners.clear();
  }
  return all;
}

}  // namespace squall::host
