#pragma once
// Processes and sockets as found at one moment, with the questions that members and discovery
// share.

#include <optional>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/result.h"
#include "host/host.h"

namespace squall::host {

using ProcessList = std::vector<const Process*>;

class Snapshot {
 public:
  enum class Sockets { kNone, kWithOwners };
  static base::Result<Snapshot> take(const Host& host, Sockets sockets);

  const std::vector<Process>& processes() const { return processes_; }
  const std::vector<Socket>& sockets() const { return sockets_; }
  const Process* find(pid_t pid) const;  // null when it is not there
  // Us and our ancestors, and our other processes.
  bool is_ours(const Process& process) const;

 private:
  std::vector<Process> processes_;
  std::vector<Socket> sockets_;
  std::unordered_map<pid_t, std::size_t> index_by_pid_;
  std::unordered_set<pid_t> ours_;
};

// Those of `list` whose parent is not in it: PostgreSQL without its backends.
ProcessList without_children(const ProcessList& list);

// The processes that really stand behind a socket: its owners, but neither children that merely
// inherited it nor an init that keeps it for socket activation.
ProcessList standing_behind(const Snapshot& snapshot, const Socket& socket);

// systemd and its like.
bool is_init(const Process& process);

// The last component of a path.
std::string_view base_name(std::string_view path);

}  // namespace squall::host
