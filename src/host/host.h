#pragma once
// What is on this machine, read-only. `Host` is the interface; real_host() reads /proc, sock_diag
// and cgroup files; FakeHost (host/fake_host.h) is filled by tests. Every answer is a snapshot:
// whoever acts on a process afterwards must open a PidFd by its identity.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "model/system_map.h"

namespace squall::host {

struct Process {
  base::ProcessIdentity identity;
  pid_t parent = 0;
  uid_t user = 0;          // effective
  char state = '?';        // as in /proc/PID/stat: R S D T Z ...
  std::string name;        // comm
  std::string executable;  // target of /proc/PID/exe; empty when unreadable (permission)
  std::vector<std::string> argv;
  std::string cgroup;                   // path in the v2 hierarchy; empty when in none
  std::string container;                // container id when the cgroup path shows one, else empty
  std::uint64_t network_namespace = 0;  // inode number
};

struct ProcessUsage {
  double processor_seconds = 0;  // user + system, since start
  std::uint64_t resident_bytes = 0;
  std::uint64_t descriptors = 0;  // 0 also when we may not see them (other user, no root)
  std::uint64_t threads = 0;
  char state = '?';  // as Process::state: a dead process that nobody has waited for is Z
};

struct Endpoint {
  // "127.0.0.1", "::1"; for UNIX sockets the path ("@name" if abstract). An IPv4 address mapped
  // into IPv6 is shown as IPv4, so that both ends of a connection compare equal.
  std::string address;
  std::uint16_t port = 0;
  bool operator==(const Endpoint&) const = default;
};

enum class SocketState { kListening, kEstablished, kOther };

struct Socket {
  std::string protocol;  // "tcp", "tcp6", "udp", "udp6", "unix"
  SocketState state = SocketState::kOther;
  Endpoint local;
  Endpoint remote;
  std::uint64_t inode = 0;
  std::uint64_t cookie = 0;     // sock_diag cookie; 0 when unknown
  std::uint32_t interface = 0;  // index of the one it is bound to; 0: none
  std::vector<pid_t> owners;    // processes that hold a descriptor of it
};

// A container that runs or is paused, as its engine (Docker, Podman) describes it.
struct Container {
  std::string id;  // 64 hex digits, as in Process::container
  std::string name;
  std::string image;
  std::map<std::string, std::string> labels;
  std::string engine;  // path of the UNIX socket on which its engine listens
};

// Thread-safe: every call reads anew and keeps nothing.
class Host {
 public:
  virtual ~Host() = default;
  // All processes but kernel threads, by ascending pid. Those that end while we read are left out.
  virtual base::Result<std::vector<Process>> processes() const = 0;
  // kNotFound when there is no such process.
  virtual base::Result<Process> process(pid_t pid) const = 0;
  virtual base::Result<ProcessUsage> usage(const base::ProcessIdentity& identity) const = 0;
  // All TCP and UDP sockets (but those in TIME_WAIT, which nobody owns) and the named or connected
  // UNIX sockets of the network namespace we are in. kResolve walks /proc/*/fd, which costs about a
  // millisecond for each thousand descriptors; other users' are seen by root only.
  enum class Owners { kSkip, kResolve };
  virtual base::Result<std::vector<Socket>> sockets(Owners owners) const = 0;
  virtual base::Result<std::string> hostname() const = 0;
  // Asks the container engines' UNIX sockets. An engine that is not there is no error.
  virtual base::Result<std::vector<Container>> containers() const = 0;
  // Our own process, which with its ancestors is never a member of a service: their argument lists
  // may well contain what a selector looks for.
  virtual pid_t self() const = 0;
  // Whether processes of other users are kept from us altogether (proc(5), hidepid).
  virtual bool hides_processes() const { return false; }
};

const Host& real_host();

// A member of a service as found on this host.
struct Member {
  std::string service;
  std::string name;  // the map's member name, or "worker-1" counted by start time
  Process process;   // the main process: the one that no other match is a parent of
};

// Every process that is a member of `service`: by process selector (exe, argv_contains, user,
// cgroup), else by container, else by listening address (whoever really stands behind it: the
// listener's owner, not a child that merely inherited the descriptor; a proxy such as docker-proxy
// is named in an error). A named member must fit all that its own entry says and, unless that has a
// process selector, the service's. `listens` narrows a process selector only when more processes
// fit than `members` expects. Sorted by start time; named members in the map's order. An empty list
// is not an error. kPermission when a process that may be a member hides what decides it.
base::Result<std::vector<Member>> find_members(const Host& host, const model::Service& service);

// Listening services, the programs that are connected to them (workers, clients), and the
// connections between them, for `squall init`. One entry an executable; SSH and ourselves left out.
// kPermission when there are listeners but all of their owners are hidden from us.
struct DiscoveredService {
  std::string name;  // from the executable, made unique
  std::vector<Process> processes;
  std::vector<Endpoint> listens;        // addresses with a port first, then UNIX sockets
  std::vector<std::string> depends_on;  // names of discovered services it is connected to
};
base::Result<std::vector<DiscoveredService>> discover_services(const Host& host);

}  // namespace squall::host
