#include "host/snapshot.h"

#include <algorithm>

namespace squall::host {

base::Result<Snapshot> Snapshot::take(const Host& host, Sockets sockets) {
  Snapshot snapshot;
  // Sockets first: whoever owns one then was there already.
  if (sockets == Sockets::kWithOwners) {
    SQUALL_ASSIGN(snapshot.sockets_, host.sockets(Host::Owners::kResolve));
  }
  SQUALL_ASSIGN(snapshot.processes_, host.processes());
  for (std::size_t i = 0; i < snapshot.processes_.size(); ++i)
    snapshot.index_by_pid_[snapshot.processes_[i].identity.pid] = i;

  const Process* self = snapshot.find(host.self());
  for (const Process* each = self; each != nullptr; each = snapshot.find(each->parent)) {
    if (!snapshot.ours_.insert(each->identity.pid).second) break;
  }
  if (self != nullptr && base_name(self->executable) == "squall") {
    for (const Process& process : snapshot.processes_) {
      if (process.executable == self->executable) snapshot.ours_.insert(process.identity.pid);
    }
  }
  return snapshot;
}

const Process* Snapshot::find(pid_t pid) const {
  const auto found = index_by_pid_.find(pid);
  return found == index_by_pid_.end() ? nullptr : &processes_[found->second];
}

bool Snapshot::is_ours(const Process& process) const {
  return ours_.contains(process.identity.pid);
}

ProcessList without_children(const ProcessList& list) {
  ProcessList parents;
  for (const Process* process : list) {
    const bool child = std::any_of(list.begin(), list.end(), [&](const Process* other) {
      return other != process && other->identity.pid == process->parent;
    });
    if (!child) parents.push_back(process);
  }
  return parents;
}

ProcessList standing_behind(const Snapshot& snapshot, const Socket& socket) {
  ProcessList owners;
  bool others = false;
  for (const pid_t pid : socket.owners) {
    const Process* process = snapshot.find(pid);
    if (process == nullptr) continue;
    owners.push_back(process);
    others = others || !is_init(*process);
  }
  if (others) std::erase_if(owners, [](const Process* process) { return is_init(*process); });
  return without_children(owners);
}

bool is_init(const Process& process) {
  return process.name == "systemd" || process.name == "init";
}

std::string_view base_name(std::string_view path) {
  return path.substr(path.rfind('/') + 1);
}

}  // namespace squall::host
