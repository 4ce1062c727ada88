#include "inject/faults/network/scope.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "base/text.h"
#include "inject/cgroup.h"
#include "inject/faults/process/targets.h"
#include "inject/network_namespace.h"
#include "inject/process_table.h"
#include "inject/service_json.h"

namespace squall::inject {

bool lies_at(const host::Endpoint& end, const std::vector<PacketEndpoint>& endpoints) {
  for (const PacketEndpoint& endpoint : endpoints) {
    if (end.port != endpoint.port) continue;
    if (endpoint.address.empty()) return true;
    const auto address = PacketEndpoint::parse(end.address, end.port);
    if (address.ok() && address->address == endpoint.address) return true;
  }
  return false;
}

namespace {

constexpr std::uint16_t kSshPort = 22;

void add_unique(std::vector<PacketEndpoint>& list, PacketEndpoint endpoint) {
  if (std::find(list.begin(), list.end(), endpoint) == list.end())
    list.push_back(std::move(endpoint));
}

bool same_address(const std::vector<std::uint8_t>& bytes, const sockaddr& address) {
  if (address.sa_family == AF_INET && bytes.size() == 4) {
    return std::memcmp(bytes.data(), &reinterpret_cast<const sockaddr_in&>(address).sin_addr, 4) ==
           0;
  }
  if (address.sa_family == AF_INET6 && bytes.size() == 16) {
    return std::memcmp(bytes.data(), &reinterpret_cast<const sockaddr_in6&>(address).sin6_addr,
                       16) == 0;
  }
  return false;
}

}  // namespace

base::Status check_ssh(const host::Host& host, const std::vector<PacketEndpoint>& endpoints) {
  const auto refused = [](const std::string& where) {
    return base::Error{
        .code = base::ErrorCode::kUnsupported,
        .message = fmt::format("{} is where SSH listens; Squall never cuts that", where),
        .hint = "name the port that is meant"};
  };
  for (const PacketEndpoint& endpoint : endpoints) {
    if (endpoint.port == kSshPort) return refused(endpoint.text());
  }
  const auto sockets = host.sockets(host::Host::Owners::kResolve);
  if (!sockets.ok()) return {};
  for (const host::Socket& socket : *sockets) {
    if (socket.state != host::SocketState::kListening || !lies_at(socket.local, endpoints))
      continue;
    for (const pid_t owner : socket.owners) {
      const auto process = host.process(owner);
      if (process.ok() && process->name == "sshd")
        return refused(fmt::format("port {}", socket.local.port));
    }
  }
  return {};
}

namespace {

bool probe_reaches(const model::ProbeSpecification& probe, const model::Service& service,
                   const std::vector<PacketEndpoint>& endpoints) {
  if (!probe.to.empty()) return probe.to == service.name;
  if (probe.kind != nullptr && !service.kind.empty() && probe.kind->name == service.kind)
    return true;  // its address stands in a file that is not read here: assume the worst
  const std::string text = probe.parameters.json().dump();
  return std::any_of(endpoints.begin(), endpoints.end(), [&](const PacketEndpoint& endpoint) {
    return text.find(fmt::format(":{}", endpoint.port)) != std::string::npos;
  });
}

// Somebody who is not `from` and speaks to the endpoints.
struct OtherCaller {
  std::string name;
  std::optional<std::uint32_t> user;  // absent: not on this host, or unknown
  std::string group;                  // v2; empty: the root, or unknown
  bool on_this_host = true;
};

class CallerSearch {
 public:
  CallerSearch(const BindRequest& request, const Party& from, const Party& to,
               const std::vector<PacketEndpoint>& endpoints)
      : request_(request), from_(from), to_(to), endpoints_(endpoints) {}

  base::Status run() {
    for (const host::Process& process : from_.processes) own_pids_.insert(process.identity.pid);
    find_declared();
    find_probes();
    return find_connected();
  }

  const std::vector<OtherCaller>& others() const { return others_; }
  const std::vector<host::Process>& own() const { return from_.processes; }
  const Party& from() const { return from_; }
  // Does `from` speak to the endpoints now, and only from its own address?
  bool speaks_from_own_address() const { return own_connections_ > 0 && strays_ == 0; }
  // Does somebody else speak to them from the address of `from`?
  bool address_is_shared() const { return shared_; }

 private:
  void add_other(OtherCaller caller) {
    const bool known = std::any_of(others_.begin(), others_.end(), [&](const OtherCaller& other) {
      return other.name == caller.name && other.user == caller.user && other.group == caller.group;
    });
    if (!known) others_.push_back(std::move(caller));
  }

  // Services that depend on `to` by the map, and the members beside a member.
  void find_declared() {
    for (const model::Service& service : request_.map.services) {
      const auto& needs = service.depends_on;
      const bool ends = service.name == from_.service || service.name == to_.service;
      const bool caller =
          !ends && std::find(needs.begin(), needs.end(), to_.service) != needs.end();
      if (!caller && !(from_.member && service.name == from_.service)) continue;
      using Members = base::Result<std::vector<host::Member>>;
      const Members members = service.external ? Members{std::vector<host::Member>{}}
                                               : host::find_members(request_.host, service);
      if (!members.ok() || members->empty()) {
        if (sees_only_residents()) continue;
        add_other({.name = "service " + service.name,
                   .user = {},
                   .group = {},
                   .on_this_host = !service.external});
        continue;
      }
      for (const host::Member& member : *members) {
        const pid_t pid = member.process.identity.pid;
        if (caller)
          add_process("service " + service.name, member.process);
        else if (!own_pids_.contains(pid) && !is_of(to_, pid))
          add_process(service.name + "/" + member.name, member.process);
      }
    }
  }

  static bool is_of(const Party& party, pid_t pid) {
    return std::any_of(party.processes.begin(), party.processes.end(),
                       [&](const auto& process) { return process.identity.pid == pid; });
  }

  void find_probes() {
    const model::Service* to = request_.map.service(to_.service);
    if (to == nullptr || sees_only_residents()) return;
    for (const std::string& name : evidence_probes(request_.map, *to, endpoints_, from_.service)) {
      add_other({.name = "Squall's own probe " + name,
                 .user = ::geteuid(),
                 .group = v2_group_of(::getpid()).value_or(std::string{})});
    }
  }

  // In a container's network only who is in it, too, sends packets of its own. What callers from
  // outside send arrives there like everybody's.
  bool sees_only_residents() const { return InNamespace::entered() && !from_.external; }

  void add_process(const std::string& name, const host::Process& process) {
    if (sees_only_residents() &&
        current_network_namespace().value_or(0) != process.network_namespace)
      return;
    add_other({.name = name,
               .user = process.user,
               .group = process.cgroup == "/" ? std::string{} : process.cgroup});
  }

  base::Status find_connected() {
    SQUALL_ASSIGN(const auto sockets, request_.host.sockets(host::Host::Owners::kResolve));
    std::set<std::pair<std::string, std::uint16_t>> local_ends;
    for (const host::Socket& socket : sockets)
      local_ends.emplace(socket.local.address, socket.local.port);
    for (const host::Socket& socket : sockets) {
      if (socket.state != host::SocketState::kEstablished) continue;
      if (lies_at(socket.remote, endpoints_)) add_owners(socket);
      const bool far = !local_ends.contains({socket.remote.address, socket.remote.port});
      const auto remote = PacketEndpoint::parse(socket.remote.address, socket.remote.port);
      const bool own = from_.processes.empty() && remote.ok() && !from_.address.empty() &&
                       remote->address == from_.address;
      if (lies_at(socket.local, endpoints_) && far && !from_.external && !own) {
        add_other({.name = "the host " + socket.remote.address,
                   .user = {},
                   .group = {},
                   .on_this_host = false});
      }
    }
    return {};
  }

  void add_owners(const host::Socket& socket) {
    const auto local = PacketEndpoint::parse(socket.local.address, socket.local.port);
    const bool from_address = local.ok() && local->address == from_.address;
    for (const pid_t owner : socket.owners) {
      const auto process = request_.host.process(owner);
      if (own_pids_.contains(owner) || (process.ok() && descends_from_own(*process))) {
        ++own_connections_;
        if (!from_address) ++strays_;
        continue;
      }
      shared_ = shared_ || from_address;
      // What Squall asks itself is in the map's probes.
      if (owner == ::getpid() || !process.ok() || is_of(to_, owner)) continue;
      add_process(fmt::format("{} (pid {})", process->name, owner), *process);
    }
  }

  bool descends_from_own(host::Process process) {
    for (int depth = 0; depth < 64 && process.parent > 1; ++depth) {
      if (own_pids_.contains(process.parent)) return true;
      auto parent = request_.host.process(process.parent);
      if (!parent.ok()) return false;
      process = std::move(*parent);
    }
    return false;
  }

  const BindRequest& request_;
  const Party& from_;
  const Party& to_;
  const std::vector<PacketEndpoint>& endpoints_;
  std::set<pid_t> own_pids_;
  std::vector<OtherCaller> others_;
  int own_connections_ = 0;
  int strays_ = 0;  // of them, those from another address
  bool shared_ = false;
};

std::string names_of(const std::vector<OtherCaller>& others) {
  std::vector<std::string> names;
  for (const OtherCaller& other : others) {
    if (std::find(names.begin(), names.end(), other.name) == names.end())
      names.push_back(other.name);
  }
  return base::enumerate(names);
}

std::optional<Telling> by_user(const CallerSearch& search) {
  if (search.own().empty()) return std::nullopt;
  const uid_t user = search.own().front().user;
  for (const host::Process& process : search.own()) {
    if (process.user != user) return std::nullopt;
  }
  for (const OtherCaller& other : search.others()) {
    if (other.on_this_host && other.user.value_or(user) == user) return std::nullopt;
  }
  return Telling{.way = Telling::Way::kUser,
                 .user = user,
                 .group = {},
                 .address = {},
                 .layout = {},
                 .text = fmt::format("it alone runs as user {}", user)};
}

std::optional<Telling> by_group(const CallerSearch& search) {
  if (search.own().empty()) return std::nullopt;
  const std::string group = search.own().front().cgroup;
  if (group.size() < 2) return std::nullopt;
  for (const host::Process& process : search.own()) {
    if (process.cgroup != group) return std::nullopt;
  }
  for (const OtherCaller& other : search.others()) {
    if (other.on_this_host && (!other.user || (other.group + "/").starts_with(group + "/")))
      return std::nullopt;
  }
  const auto mount = v2_mount();
  struct stat info {};
  if (!mount.ok() || ::stat((*mount + group).c_str(), &info) != 0) return std::nullopt;
  const auto level = static_cast<std::uint32_t>(std::count(group.begin(), group.end(), '/'));
  return Telling{.way = Telling::Way::kGroup,
                 .user = 0,
                 .group = {.id = info.st_ino, .level = level},
                 .address = {},
                 .layout = {},
                 .text = fmt::format("it alone is in cgroup {}", group)};
}

std::optional<Telling> by_address(const CallerSearch& search) {
  const Party& from = search.from();
  if (from.address.empty() || search.address_is_shared()) return std::nullopt;
  // A member on another host can only speak from there.
  if (!search.own().empty() && !search.speaks_from_own_address()) return std::nullopt;
  const PacketEndpoint shown{.address = from.address, .port = 0};
  std::string text = shown.text();
  text.resize(text.rfind(':'));
  return Telling{.way = Telling::Way::kAddress,
                 .user = 0,
                 .group = {},
                 .address = from.address,
                 .layout = {},
                 .text = fmt::format("it alone speaks from {}", text)};
}

// Children belong to their parents' pairs: nobody else may be among them.
base::Status check_descendants(const BindRequest& request, const Party& from,
                               const std::vector<base::ProcessIdentity>& callers) {
  SQUALL_ASSIGN(const auto table, read_process_table());
  std::set<pid_t> tree;
  for (const base::ProcessIdentity& caller : callers) {
    SQUALL_TRY(check_not_ourselves(caller.pid));
    for (const ProcessEntry& entry : tree_of(table, caller)) tree.insert(entry.identity.pid);
  }
  for (const model::Service& service : request.map.services) {
    if (service.external || (service.name == from.service && !from.member)) continue;
    const auto members = host::find_members(request.host, service);
    if (!members.ok()) continue;
    for (const host::Member& member : *members) {
      const base::ProcessIdentity& identity = member.process.identity;
      const bool own = std::find(callers.begin(), callers.end(), identity) != callers.end();
      if (!tree.contains(identity.pid) || (own && service.name == from.service)) continue;
      return base::Error{
          .code = base::ErrorCode::kUnsupported,
          .message = fmt::format("{} (pid {}) of {} {} {}", member.name, identity.pid, service.name,
                                 own ? "is also" : "was started by", from.name)};
    }
  }
  return {};
}

base::Result<Telling> by_sockets(const BindRequest& request, const Party& from,
                                 const std::vector<PacketEndpoint>& endpoints) {
  const auto no = [](std::string message) {
    return base::Error{.code = base::ErrorCode::kUnsupported, .message = std::move(message)};
  };
  if (from.processes.empty()) return no(from.name + " has no process on this host");
  for (const PacketEndpoint& endpoint : endpoints) {
    if (!is_local(endpoint))
      return no(
          fmt::format("a mark does not reach {}, which is not on this host", endpoint.text()));
  }
  SQUALL_ASSIGN(const host::Process self, request.host.process(request.host.self()));
  std::vector<base::ProcessIdentity> callers;
  for (const host::Process& process : from.processes) {
    if (process.network_namespace != self.network_namespace)
      return no(fmt::format("a mark does not leave the network namespace of {}", from.name));
    callers.push_back(process.identity);
  }
  SQUALL_TRY(check_descendants(request, from, callers));
  SQUALL_ASSIGN(const TaskLayout layout, PairMarker::check(callers));
  return Telling{.way = Telling::Way::kSockets,
                 .user = 0,
                 .group = {},
                 .address = {},
                 .layout = layout,
                 .text =
                     "by the sockets of its processes and their children (BPF), not of "
                     "processes that take their places"};
}

}  // namespace

base::Result<std::vector<PacketEndpoint>> endpoints_of(const BindRequest& request,
                                                       const model::Service& service,
                                                       std::uint16_t port) {
  std::vector<model::ListenAddress> addresses;
  if (service.listens) addresses.push_back(*service.listens);
  for (const model::MemberSelector& member : service.members) {
    if (member.listens) addresses.push_back(*member.listens);
  }
  std::vector<PacketEndpoint> endpoints;
  for (const model::ListenAddress& address : addresses) {
    if (address.port == 0 || (port != 0 && address.port != port)) continue;
    SQUALL_ASSIGN(PacketEndpoint endpoint, PacketEndpoint::parse(address.address, address.port));
    add_unique(endpoints, std::move(endpoint));
  }
  if (endpoints.empty() && !service.external) {
    SQUALL_ASSIGN(const auto members, host::find_members(request.host, service));
    SQUALL_ASSIGN(const auto sockets, request.host.sockets(host::Host::Owners::kResolve));
    for (const host::Socket& socket : sockets) {
      const bool theirs = std::any_of(members.begin(), members.end(), [&](const auto& member) {
        return std::find(socket.owners.begin(), socket.owners.end(), member.process.identity.pid) !=
               socket.owners.end();
      });
      if (!theirs || socket.state != host::SocketState::kListening || socket.local.port == 0)
        continue;
      if (port != 0 && socket.local.port != port) continue;
      SQUALL_ASSIGN(PacketEndpoint endpoint,
                    PacketEndpoint::parse(socket.local.address, socket.local.port));
      add_unique(endpoints, std::move(endpoint));
    }
  }
  if (endpoints.empty()) {
    return base::Error{
        .code = base::ErrorCode::kUnsupported,
        .message = fmt::format("service {} listens on no IP address{} that Squall can see",
                               service.name, port != 0 ? fmt::format(" with port {}", port) : ""),
        .hint = "give it a `listens: ADDRESS:PORT` in the map; UNIX sockets cannot be cut"};
  }
  SQUALL_TRY(check_ssh(request.host, endpoints));
  return endpoints;
}

base::Result<std::vector<PacketEndpoint>> endpoints_of_member(
    const BindRequest& request, const std::string& name,
    const std::optional<model::ListenAddress>& listens, const host::Process* process) {
  std::vector<PacketEndpoint> endpoints;
  if (listens && listens->port != 0) {
    SQUALL_ASSIGN(PacketEndpoint endpoint, PacketEndpoint::parse(listens->address, listens->port));
    endpoints.push_back(std::move(endpoint));
  } else if (process != nullptr) {
    SQUALL_ASSIGN(const auto sockets, request.host.sockets(host::Host::Owners::kResolve));
    for (const host::Socket& socket : sockets) {
      const auto& owners = socket.owners;
      if (socket.state != host::SocketState::kListening || !socket.protocol.starts_with("tcp") ||
          std::find(owners.begin(), owners.end(), process->identity.pid) == owners.end())
        continue;
      SQUALL_ASSIGN(PacketEndpoint endpoint,
                    PacketEndpoint::parse(socket.local.address, socket.local.port));
      add_unique(endpoints, std::move(endpoint));
    }
  }
  if (endpoints.empty()) {
    return base::Error{
        .code = base::ErrorCode::kUnsupported,
        .message = fmt::format("member {} listens on no IP address that Squall can see", name),
        .hint = "give it a `listens: ADDRESS:PORT` in the map"};
  }
  SQUALL_TRY(check_ssh(request.host, endpoints));
  return endpoints;
}

bool is_local(const PacketEndpoint& endpoint) {
  if (endpoint.address.empty()) return true;
  if (endpoint.address.size() == 4 && endpoint.address[0] == 127) return true;
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return false;
  bool found = false;
  for (const ifaddrs* item = list; item != nullptr; item = item->ifa_next)
    found = found || (item->ifa_addr != nullptr && same_address(endpoint.address, *item->ifa_addr));
  ::freeifaddrs(list);
  return found;
}

std::vector<std::string> evidence_probes(const model::SystemMap& map, const model::Service& service,
                                         const std::vector<PacketEndpoint>& endpoints,
                                         std::string_view stands_for) {
  std::vector<std::string> names;
  for (const model::ProbeSpecification& probe : map.probes) {
    const bool part = !probe.from.empty() && (stands_for.empty() || probe.from == stands_for);
    if (!part && probe_reaches(probe, service, endpoints)) names.push_back(probe.name);
  }
  return names;
}

bool is_loopback(const PacketEndpoint& endpoint) {
  static constexpr std::array<std::uint8_t, 16> kSix{0, 0, 0, 0, 0, 0, 0, 0,
                                                     0, 0, 0, 0, 0, 0, 0, 1};
  if (endpoint.address.size() == 4) return endpoint.address[0] == 127;
  return std::equal(kSix.begin(), kSix.end(), endpoint.address.begin(), endpoint.address.end());
}

base::Result<Party> calling_party(const BindRequest& request, const model::Service& service) {
  Party party{.name = service.name,
              .service = service.name,
              .external = service.external,
              .member = false,
              .processes = {},
              .address = {}};
  if (service.external) return party;
  SQUALL_ASSIGN(const auto members, host::find_members(request.host, service));
  if (members.empty()) {
    return base::Error{.code = base::ErrorCode::kNotFound,
                       .message = fmt::format("service {} matches no process", service.name),
                       .hint = "is it running?"};
  }
  base::Json targets = base::Json::array();
  for (const host::Member& member : members) {
    party.processes.push_back(member.process);
    targets.push_back(to_json(Target{.member = member.name,
                                     .identity = member.process.identity,
                                     .description = describe_member(member)}));
  }
  party.joining = base::Json{{"service", to_json(service)}, {"members", targets}}.dump();
  return party;
}

base::Result<Telling> tell_apart(const BindRequest& request, const Party& from, const Party& to,
                                 const std::vector<PacketEndpoint>& endpoints, bool replies) {
  CallerSearch search{request, from, to, endpoints};
  SQUALL_TRY(search.run());
  // A member is never alone where its peers call, too, now or in a moment.
  const bool peers_call = from.member && std::any_of(endpoints.begin(), endpoints.end(), is_local);
  if (search.others().empty() && !peers_call) {
    return Telling{.way = Telling::Way::kAlone,
                   .user = 0,
                   .group = {},
                   .address = {},
                   .layout = {},
                   .text = "nobody else speaks to it"};
  }
  if (auto telling = by_address(search)) return *telling;
  const auto user = by_user(search);
  if (user && !replies) return *user;
  if (auto telling = by_group(search)) return *telling;
  const auto sockets = by_sockets(request, from, endpoints);
  if (sockets.ok()) return *sockets;
  if (user) return *user;
  std::string others = names_of(search.others());
  if (others.empty()) others = "its peers";
  base::Error error{
      .code = base::ErrorCode::kUnsupported,
      .message = fmt::format("the packets of {} to {} cannot be told apart on this host from those "
                             "of {}; nor by the sockets of its processes: {}",
                             from.name, to.name, others, sockets.error().to_string()),
      .hint =
          fmt::format("run {} under a user of its own, or in a cgroup v2 of its own; or give {} "
                      "an address of its own for {}; a probe that stands for {} says `from: {}`",
                      from.name, to.name, from.name, from.name, from.name)};
  if (from.member) {
    error.hint = fmt::format(
        "run {} under a user of its own, in a cgroup v2 of its own, or on an address of its own "
        "from which it also opens its connections",
        from.name);
  }
  return error;
}

}  // namespace squall::inject
