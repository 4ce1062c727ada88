// Which processes are the members of a service.

#include <fmt/format.h>
#include <pwd.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "base/text.h"
#include "host/containers.h"
#include "host/host.h"
#include "host/snapshot.h"

namespace squall::host {

namespace {

using base::Error;
using base::ErrorCode;
using base::Result;

// Programs that hold a container's published port and only pass traffic on.
constexpr std::array<std::string_view, 8> kPortProxies{
    "docker-proxy", "rootlessport", "rootlesskit", "conmon",
    "slirp4netns",  "pasta",        "gvproxy",     "systemd-socket-proxyd"};

enum class Fit { kNo, kYes, kHidden };  // hidden: all that can be seen fits

Result<uid_t> user_id(const std::string& name) {
  uid_t number = 0;
  const char* end = name.data() + name.size();
  if (const auto [at, fault] = std::from_chars(name.data(), end, number);
      fault == std::errc{} && at == end)
    return number;
  std::vector<char> buffer(16384);
  passwd entry{};
  passwd* found = nullptr;
  if (::getpwnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found) != 0 ||
      found == nullptr) {
    return Error{.code = ErrorCode::kNotFound,
                 .message = fmt::format("there is no user `{}` on this host", name),
                 .hint = "correct `user` in the system map"};
  }
  return found->pw_uid;
}

Fit fits_executable(const Process& process, const std::string& wanted) {
  const bool full = wanted.find('/') != std::string::npos;
  if (!process.executable.empty()) {
    const bool fits = full ? process.executable == wanted : base_name(process.executable) == wanted;
    return fits ? Fit::kYes : Fit::kNo;
  }
  // /proc/PID/exe may be read by the same user and by root only. The names that all may see are not
  // proof: a process can change them. They only tell whether the answer matters.
  const std::string_view name = base_name(wanted);
  const bool likely = process.name == name.substr(0, 15) ||
                      (!process.argv.empty() && base_name(process.argv[0]) == name);
  return likely ? Fit::kHidden : Fit::kNo;
}

bool is_below(std::string_view path, std::string_view group) {
  while (group.size() > 1 && group.ends_with('/')) group.remove_suffix(1);
  return path == group || group == "/" ||
         (path.starts_with(group) && path.substr(group.size()).starts_with('/'));
}

Fit fits(const Process& process, const model::ProcessSelector& selector,
         std::optional<uid_t> user) {
  if (process.state == 'Z') return Fit::kNo;
  if (user && process.user != *user) return Fit::kNo;
  if (!selector.cgroup.empty() && !is_below(process.cgroup, selector.cgroup)) return Fit::kNo;
  if (!selector.argv_contains.empty() &&
      std::none_of(process.argv.begin(), process.argv.end(), [&](const std::string& argument) {
        return argument.find(selector.argv_contains) != std::string::npos;
      }))
    return Fit::kNo;
  return selector.exe.empty() ? Fit::kYes : fits_executable(process, selector.exe);
}

class Finder {
 public:
  Finder(const Host& host, const model::Service& service, Snapshot snapshot)
      : host_(host), service_(service), snapshot_(std::move(snapshot)) {}

  Result<std::vector<Member>> find() const {
    if (!service_.members.empty()) return find_named();
    ProcessList found;
    if (!service_.process.empty()) {
      SQUALL_ASSIGN(found, by_process(service_.process));
      SQUALL_TRY(narrow(found));
    } else if (!service_.container.empty()) {
      SQUALL_ASSIGN(found, by_container(service_.container));
    } else if (service_.listens) {
      SQUALL_ASSIGN(found, by_listener(*service_.listens));
    }
    std::sort(found.begin(), found.end(), [](const Process* a, const Process* b) {
      return std::pair(a->identity.start_time, a->identity.pid) <
             std::pair(b->identity.start_time, b->identity.pid);
    });
    std::vector<Member> members;
    for (const Process* process : found) {
      members.push_back(Member{.service = service_.name,
                               .name = fmt::format("{}-{}", service_.name, members.size() + 1),
                               .process = *process});
    }
    return members;
  }

 private:
  Result<std::vector<Member>> find_named() const {
    std::vector<Member> members;
    for (const model::MemberSelector& selector : service_.members) {
      SQUALL_ASSIGN(const ProcessList found, by_member(selector));
      if (found.size() > 1) {
        return Error{
            .code = ErrorCode::kConflict,
            .message = fmt::format("member `{}` of service `{}` fits {} processes: {}",
                                   selector.name, service_.name, found.size(), pids(found)),
            .hint = "give it a `listens` or a narrower `process` in the system map"};
      }
      if (found.empty()) continue;
      for (const Member& other : members) {
        if (other.process.identity != found[0]->identity) continue;
        return Error{.code = ErrorCode::kConflict,
                     .message = fmt::format("members `{}` and `{}` of service `{}` are the same "
                                            "process {}",
                                            other.name, selector.name, service_.name,
                                            found[0]->identity.pid),
                     .hint = "give each its own `listens` or `process` in the system map"};
      }
      members.push_back({.service = service_.name, .name = selector.name, .process = *found[0]});
    }
    return members;
  }

  Result<ProcessList> by_member(const model::MemberSelector& selector) const {
    const model::ProcessSelector& process =
        selector.process.empty() ? service_.process : selector.process;
    if (!selector.container.empty()) return by_container(selector.container);
    if (process.empty() && selector.listens) return by_listener(*selector.listens);
    if (process.empty()) {
      return Error{.code = ErrorCode::kBadFile,
                   .message = fmt::format("member `{}` of service `{}` says neither `listens` nor "
                                          "`process` nor `container`",
                                          selector.name, service_.name),
                   .hint = "say how to find it in the system map"};
    }
    SQUALL_ASSIGN(ProcessList found, by_process(process));
    if (!selector.listens) return found;
    SQUALL_ASSIGN(const ProcessList listening, by_listener(*selector.listens));
    std::erase_if(found, [&](const Process* each) {
      return std::find(listening.begin(), listening.end(), each) == listening.end();
    });
    return found;
  }

  Result<ProcessList> by_process(const model::ProcessSelector& selector) const {
    std::optional<uid_t> user;
    if (!selector.user.empty()) {
      SQUALL_ASSIGN(user, user_id(selector.user));
    }
    ProcessList found;
    for (const Process& process : snapshot_.processes()) {
      const Fit fit = snapshot_.is_ours(process) ? Fit::kNo : fits(process, selector, user);
      if (fit == Fit::kHidden) {
        return Error{.code = ErrorCode::kPermission,
                     .message = fmt::format("process {} ({}, user {}) may be a member of service "
                                            "`{}`, but which program it runs is hidden from us",
                                            process.identity.pid, base::printable(process.name),
                                            process.user, service_.name),
                     .hint = "run as root, or as that user"};
      }
      if (fit == Fit::kYes) found.push_back(&process);
    }
    return without_children(found);
  }

  // Where the same program runs more often than the map says, the listener decides.
  base::Status narrow(ProcessList& found) const {
    const auto expected = static_cast<std::size_t>(std::max(0, service_.expected_members));
    if (expected == 0 || found.size() <= expected || !service_.listens) return {};
    SQUALL_ASSIGN(const ProcessList listening, by_listener(*service_.listens));
    ProcessList both;
    for (const Process* process : found) {
      if (std::find(listening.begin(), listening.end(), process) != listening.end())
        both.push_back(process);
    }
    if (!both.empty()) found = std::move(both);
    return {};
  }

  Result<ProcessList> by_container(const model::ContainerSelector& selector) const {
    SQUALL_ASSIGN(const std::vector<Container> containers, host_.containers());
    ProcessList found;
    for (const Container& container : containers) {
      if (!selects(selector, container)) continue;
      ProcessList inside;
      for (const Process& process : snapshot_.processes()) {
        if (process.container == container.id && process.state != 'Z') inside.push_back(&process);
      }
      // A process that was brought in from outside (`docker exec`) has a parent outside as well;
      // the container's own came first.
      inside = without_children(inside);
      const auto first =
          std::min_element(inside.begin(), inside.end(), [](const Process* a, const Process* b) {
            return a->identity.start_time < b->identity.start_time;
          });
      if (first != inside.end()) found.push_back(*first);
    }
    return found;
  }

  Result<ProcessList> by_listener(const model::ListenAddress& listens) const {
    ProcessList found;
    for (const Socket* socket : listeners(listens)) {
      const ProcessList behind = standing_behind(snapshot_, *socket);
      if (behind.empty()) {
        return Error{.code = ErrorCode::kPermission,
                     .message = fmt::format("something listens on {} for service `{}`, but which "
                                            "process it is is hidden from us",
                                            listens.text(), service_.name),
                     .hint = "run as root, and outside of any container"};
      }
      for (const Process* process : behind) {
        SQUALL_TRY(check_is_service(*process, listens));
        if (std::find(found.begin(), found.end(), process) == found.end()) found.push_back(process);
      }
    }
    return without_children(found);
  }

  base::Status check_is_service(const Process& process, const model::ListenAddress& listens) const {
    const std::string_view program =
        process.executable.empty() ? std::string_view(process.name) : base_name(process.executable);
    if (std::find(kPortProxies.begin(), kPortProxies.end(), program) != kPortProxies.end()) {
      return Error{
          .code = ErrorCode::kUnsupported,
          .message = fmt::format("behind {} of service `{}` stands {} (process {}), which "
                                 "only passes traffic on, usually to a container",
                                 listens.text(), service_.name, program, process.identity.pid),
          .hint = "select the service by `container: { name: ... }` in the system map"};
    }
    if (is_init(process)) {
      return Error{.code = ErrorCode::kUnavailable,
                   .message = fmt::format("{} of service `{}` is held by {} for socket activation; "
                                          "the service itself does not run",
                                          listens.text(), service_.name, process.name),
                   .hint = "start the service first"};
    }
    return {};
  }

  // Listening sockets at the address: those bound to it exactly, else those bound to any address.
  std::vector<const Socket*> listeners(const model::ListenAddress& listens) const {
    std::vector<const Socket*> exact;
    std::vector<const Socket*> any;
    for (const Socket& socket : snapshot_.sockets()) {
      if (socket.state != SocketState::kListening) continue;
      if (!listens.unix_path.empty()) {
        if (socket.protocol == "unix" && socket.local.address == listens.unix_path)
          exact.push_back(&socket);
        continue;
      }
      if (!socket.protocol.starts_with("tcp") || socket.local.port != listens.port) continue;
      const std::string& bound = socket.local.address;
      const bool local_name = listens.address == "localhost" || listens.address.empty();
      if (bound == listens.address || (local_name && (bound == "127.0.0.1" || bound == "::1")))
        exact.push_back(&socket);
      else if (bound == "0.0.0.0" || bound == "::")
        any.push_back(&socket);
    }
    return exact.empty() ? any : exact;
  }

  static std::string pids(const ProcessList& list) {
    std::vector<std::string> texts;
    for (const Process* process : list) texts.push_back(std::to_string(process->identity.pid));
    return base::enumerate(texts);
  }

  const Host& host_;
  const model::Service& service_;
  Snapshot snapshot_;
};

// Owners of sockets cost a walk through all descriptors: only where an address decides.
bool needs_sockets(const model::Service& service) {
  return service.listens.has_value() || std::any_of(service.members.begin(), service.members.end(),
                                                    [](const model::MemberSelector& member) {
                                                      return member.listens.has_value();
                                                    });
}

}  // namespace

base::Result<std::vector<Member>> find_members(const Host& host, const model::Service& service) {
  if (service.external) return std::vector<Member>{};
  SQUALL_ASSIGN(Snapshot snapshot,
                Snapshot::take(host, needs_sockets(service) ? Snapshot::Sockets::kWithOwners
                                                            : Snapshot::Sockets::kNone));
  SQUALL_ASSIGN(std::vector<Member> members, Finder(host, service, std::move(snapshot)).find());
  if (members.empty() && host.hides_processes()) {
    return Error{.code = ErrorCode::kPermission,
                 .message = fmt::format("no process of service `{}` is to be seen, but this host "
                                        "hides other users' processes from us",
                                        service.name),
                 .hint = "run as root, or as the service's user"};
  }
  return members;
}

}  // namespace squall::host
