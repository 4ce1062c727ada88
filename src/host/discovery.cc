// What `squall init` finds: who listens, who is connected to whom.

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "host/host.h"
#include "host/snapshot.h"

namespace squall::host {

namespace {

// Interpreters say little about the service; the script's name says more.
bool is_interpreter(std::string_view name) {
  for (const std::string_view known :
       {"python", "node", "ruby", "perl", "php", "java", "bash", "sh"}) {
    if (!name.starts_with(known)) continue;
    const std::string_view version = name.substr(known.size());
    if (version.find_first_not_of("0123456789.") == std::string_view::npos) return true;
  }
  return false;
}

// A name that a system map accepts without quotes.
std::string service_name(const Process& process) {
  std::string_view name =
      process.executable.empty() ? std::string_view(process.name) : base_name(process.executable);
  if (is_interpreter(name)) {
    for (std::size_t i = 1; i < process.argv.size(); ++i) {
      if (process.argv[i].empty() || process.argv[i][0] == '-') continue;
      const std::string_view script = base_name(process.argv[i]);
      if (!script.empty()) name = script.substr(0, std::max<std::size_t>(1, script.find('.')));
      break;
    }
  }
  std::string result;
  for (const char c : name) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
    if (c >= 'A' && c <= 'Z')
      result += static_cast<char>(c - 'A' + 'a');
    else if (plain || c == '_')
      result += c;
    else if (!result.empty() && result.back() != '-')
      result += '-';
  }
  while (result.ends_with('-')) result.pop_back();
  return result.empty() ? "service" : result;
}

class Discovery {
 public:
  explicit Discovery(Snapshot snapshot) : snapshot_(std::move(snapshot)) {}

  std::vector<DiscoveredService> run() {
    for (const Socket& socket : snapshot_.sockets()) {
      if (socket.state == SocketState::kListening && !socket.protocol.starts_with("udp"))
        add_listener(socket);
    }
    index_peers();
    // First the clients, so that their own connections find them.
    for (const Socket& socket : snapshot_.sockets()) {
      if (server_of(socket) != nullptr) add_client(socket);
    }
    for (const Socket& socket : snapshot_.sockets()) add_dependency(socket);
    return finish();
  }

 private:
  struct Found {
    ProcessList processes;
    std::vector<Endpoint> listens;
    std::set<const Found*> depends_on;
    std::string name;
  };

  bool wanted(const Process& process) const {
    const bool squall = snapshot_.is_ours(process) || base_name(process.executable) == "squall";
    return !squall && !is_init(process) && process.name != "sshd";
  }

  // One entry an executable and script.
  Found& entry_of(const Process& process) {
    const std::string key = (process.executable.empty() ? process.name : process.executable) +
                            '\n' + service_name(process);
    const auto [at, added] = found_.try_emplace(key);
    if (added) {
      order_.push_back(&at->second);
      at->second.name = service_name(process);
    }
    return at->second;
  }

  static void add_once(ProcessList& list, const Process* process) {
    if (std::find(list.begin(), list.end(), process) == list.end()) list.push_back(process);
  }

  void add_listener(const Socket& socket) {
    for (const Process* process : standing_behind(snapshot_, socket)) {
      if (!wanted(*process)) continue;
      Found& found = entry_of(*process);
      add_once(found.processes, process);
      if (std::find(found.listens.begin(), found.listens.end(), socket.local) ==
          found.listens.end())
        found.listens.push_back(socket.local);
      listeners_[key_of(socket)] = &found;
    }
  }

  static std::string key_of(const Socket& socket) {
    if (socket.protocol == "unix") return socket.local.address;
    return fmt::format(":{}", socket.local.port);
  }

  static std::string ends(const Endpoint& from, const Endpoint& to) {
    return fmt::format("{} {} {} {}", from.address, from.port, to.address, to.port);
  }

  // The other ends of all connections within this host.
  void index_peers() {
    for (const Socket& socket : snapshot_.sockets()) {
      if (socket.state == SocketState::kEstablished && socket.protocol.starts_with("tcp"))
        peers_[ends(socket.local, socket.remote)] = &socket;
    }
  }

  // The service at the other end, if `socket` is the client's end of a connection within this host.
  const Found* server_of(const Socket& socket) const {
    if (socket.state != SocketState::kEstablished) return nullptr;
    if (socket.protocol == "unix") {
      const auto listener = listeners_.find(socket.remote.address);
      return socket.remote.address.empty() || listener == listeners_.end() ? nullptr
                                                                           : listener->second;
    }
    const auto peer = peers_.find(ends(socket.remote, socket.local));
    if (peer == peers_.end()) return nullptr;
    const auto listener = listeners_.find(key_of(*peer->second));
    return listener == listeners_.end() ? nullptr : listener->second;
  }

  // The discovered service that a process or one of its ancestors belongs to.
  Found* service_of(const Process* process) {
    for (int depth = 0; process != nullptr && depth < 64; ++depth) {
      for (Found* found : order_) {
        if (std::find(found->processes.begin(), found->processes.end(), process) !=
            found->processes.end())
          return found;
      }
      process = snapshot_.find(process->parent);
    }
    return nullptr;
  }

  void add_client(const Socket& socket) {
    for (const Process* process : standing_behind(snapshot_, socket)) {
      if (!wanted(*process) || service_of(process) != nullptr) continue;
      add_once(entry_of(*process).processes, process);
    }
  }

  void add_dependency(const Socket& socket) {
    const Found* server = server_of(socket);
    if (server == nullptr) return;
    for (const Process* process : standing_behind(snapshot_, socket)) {
      Found* client = service_of(process);
      if (client != nullptr && client != server) client->depends_on.insert(server);
    }
  }

  std::vector<DiscoveredService> finish() {
    std::map<std::string, int> used;
    for (Found* found : order_) {
      const int count = ++used[found->name];
      if (count > 1) found->name += fmt::format("-{}", count);
    }
    std::vector<DiscoveredService> services;
    for (const Found* found : order_) {
      DiscoveredService service{.name = found->name, .listens = found->listens};
      std::stable_partition(service.listens.begin(), service.listens.end(),
                            [](const Endpoint& each) { return each.port != 0; });
      for (const Process* process : without_children(found->processes))
        service.processes.push_back(*process);
      for (const Found* server : found->depends_on) service.depends_on.push_back(server->name);
      std::sort(service.depends_on.begin(), service.depends_on.end());
      services.push_back(std::move(service));
    }
    std::sort(services.begin(), services.end(),
              [](const auto& a, const auto& b) { return a.name < b.name; });
    return services;
  }

  Snapshot snapshot_;
  std::map<std::string, Found> found_;  // by executable; nodes stay where they are
  std::vector<Found*> order_;
  std::map<std::string, Found*> listeners_;
  std::map<std::string, const Socket*> peers_;
};

}  // namespace

base::Result<std::vector<DiscoveredService>> discover_services(const Host& host) {
  SQUALL_ASSIGN(Snapshot snapshot, Snapshot::take(host, Snapshot::Sockets::kWithOwners));
  const bool hidden =
      std::any_of(snapshot.sockets().begin(), snapshot.sockets().end(), [](const Socket& socket) {
        return socket.state == SocketState::kListening && socket.owners.empty();
      });
  std::vector<DiscoveredService> services = Discovery(std::move(snapshot)).run();
  if (services.empty() && hidden) {
    return base::Error{.code = base::ErrorCode::kPermission,
                       .message =
                           "something listens on this host, but which processes they are is "
                           "hidden from us",
                       .hint = "run as root"};
  }
  return services;
}

}  // namespace squall::host
