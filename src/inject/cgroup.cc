#include "inject/cgroup.h"

#include <dirent.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <vector>

#include "base/files.h"
#include "base/text.h"
#include "inject/process_table.h"

namespace squall::inject {

namespace {

void collect_members(const std::string& folder, std::vector<pid_t>& members) {
  const auto text = base::read_pseudo_file(folder + "/cgroup.procs");
  if (text.ok()) {
    for (const std::string& line : base::split(*text, '\n')) {
      pid_t pid = 0;
      std::from_chars(line.data(), line.data() + line.size(), pid);
      if (!line.empty()) members.push_back(pid);
    }
  }
  DIR* handle = ::opendir(folder.c_str());
  if (handle == nullptr) return;
  while (const dirent* entry = ::readdir(handle)) {
    const std::string_view name = entry->d_name;
    if (entry->d_type == DT_DIR && name != "." && name != "..")
      collect_members(base::join_path(folder, name), members);
  }
  ::closedir(handle);
}

}  // namespace

base::Result<std::string> v2_mount() {
  SQUALL_ASSIGN(const std::string text, base::read_pseudo_file("/proc/self/mountinfo"));
  for (const std::string& line : base::split(text, '\n')) {
    if (line.find(" - cgroup2 ") == std::string::npos) continue;
    const std::vector<std::string> fields = base::split(line, ' ');
    if (fields.size() > 4) return fields[4];
  }
  return base::Error{.code = base::ErrorCode::kUnsupported,
                     .message = "the cgroup v2 hierarchy is not mounted",
                     .hint = "mount -t cgroup2 none /sys/fs/cgroup/unified"};
}

base::Result<std::string> v2_group_of(pid_t pid) {
  SQUALL_TRY(v2_mount());
  SQUALL_ASSIGN(const std::string text,
                base::read_pseudo_file(fmt::format("/proc/{}/cgroup", pid)));
  for (const std::string& line : base::split(text, '\n')) {
    if (!line.starts_with("0::")) continue;
    if (line.size() > 4) return line.substr(3);
  }
  return base::Error{.code = base::ErrorCode::kUnsupported,
                     .message = fmt::format("process {} is in no cgroup v2 of its own", pid)};
}

namespace {

// Neither the group nor the process table is read in one moment: a service that forks often has
// children that stand in one of them only.
constexpr int kLooks = 10;

base::Status look_who_is_in(const std::string& folder,
                            const std::vector<base::ProcessIdentity>& roots) {
  std::vector<pid_t> members;
  collect_members(folder, members);
  SQUALL_ASSIGN(const std::vector<ProcessEntry> table, read_process_table());
  std::vector<ProcessEntry> trees;
  for (const base::ProcessIdentity& root : roots) {
    const std::vector<ProcessEntry> tree = tree_of(table, root);
    if (tree.empty()) {
      return base::Error{.code = base::ErrorCode::kNotFound,
                         .message = fmt::format("process {} has ended", root.pid)};
    }
    trees.insert(trees.end(), tree.begin(), tree.end());
  }
  const auto belongs = [&](pid_t pid) {
    return std::any_of(trees.begin(), trees.end(),
                       [&](const ProcessEntry& entry) { return entry.identity.pid == pid; });
  };
  const auto has_ended = [&](pid_t pid) {
    return std::none_of(table.begin(), table.end(),
                        [&](const ProcessEntry& entry) { return entry.identity.pid == pid; });
  };
  for (const pid_t pid : members) {
    if (belongs(pid) || has_ended(pid)) continue;
    return base::Error{.code = base::ErrorCode::kBlocked,
                       .message = fmt::format("cgroup {} also holds process {}", folder, pid)};
  }
  for (const ProcessEntry& entry : trees) {
    const bool inside =
        std::find(members.begin(), members.end(), entry.identity.pid) != members.end();
    if (entry.state == 'Z' || inside) continue;
    return base::Error{
        .code = base::ErrorCode::kBlocked,
        .message = fmt::format("process {} is outside of cgroup {}", entry.identity.pid, folder)};
  }
  return {};
}

}  // namespace

base::Status check_folder_holds_only(const std::string& folder,
                                     const std::vector<base::ProcessIdentity>& roots) {
  base::Status seen = look_who_is_in(folder, roots);
  for (int look = 1; look < kLooks && !seen.ok(); ++look) seen = look_who_is_in(folder, roots);
  return seen;
}

bool folder_holds(const std::string& folder, pid_t pid) {
  std::vector<pid_t> members;
  collect_members(folder, members);
  return std::find(members.begin(), members.end(), pid) != members.end();
}

namespace {

struct Hierarchy {
  std::string mount;
  std::string root;  // the group that is mounted there; "/" but in containers
  bool v2 = false;
};

bool lists(std::string_view text, char separator, std::string_view word) {
  const std::vector<std::string> words = base::split(std::string(base::trim(text)), separator);
  return std::find(words.begin(), words.end(), word) != words.end();
}

base::Result<Hierarchy> hierarchy_of(std::string_view v1, std::string_view v2) {
  SQUALL_ASSIGN(const std::string text, base::read_pseudo_file("/proc/self/mountinfo"));
  for (const std::string& line : base::split(text, '\n')) {
    const std::vector<std::string> fields = base::split(line, ' ');
    if (fields.size() < 10) continue;
    const Hierarchy found{
        .mount = fields[4], .root = fields[3], .v2 = line.find(" - cgroup2 ") != std::string::npos};
    if (found.v2) {
      const auto has = base::read_pseudo_file(found.mount + "/cgroup.controllers");
      if (has.ok() && lists(*has, ' ', v2)) return found;
    } else if (line.find(" - cgroup ") != std::string::npos && lists(fields.back(), ',', v1)) {
      return found;
    }
  }
  return base::Error{
      .code = base::ErrorCode::kUnsupported,
      .message = fmt::format("no mounted cgroup hierarchy has the controller {}", v2),
      .hint = "mount -t cgroup2 none /sys/fs/cgroup, or start the container with its cgroups"};
}

}  // namespace

base::Result<ControllerGroup> controller_group_of(pid_t pid, std::string_view v1,
                                                  std::string_view v2) {
  SQUALL_ASSIGN(const Hierarchy hierarchy, hierarchy_of(v1, v2));
  SQUALL_ASSIGN(const std::string text,
                base::read_pseudo_file(fmt::format("/proc/{}/cgroup", pid)));
  for (const std::string& line : base::split(text, '\n')) {
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string_view controllers =
        std::string_view(line).substr(first + 1, second - first - 1);
    if (hierarchy.v2 ? !line.starts_with("0::") : !lists(controllers, ',', v1)) continue;
    ControllerGroup group{.folder = {}, .name = line.substr(second + 1), .v2 = hierarchy.v2};
    std::string below = group.name;
    if (hierarchy.root.size() > 1 && below.starts_with(hierarchy.root))
      below = below.substr(hierarchy.root.size());
    if (below.size() > 1) {
      group.folder = hierarchy.mount + below;
      return group;
    }
  }
  return base::Error{
      .code = base::ErrorCode::kUnsupported,
      .message = fmt::format("process {} is in no group of its own for the controller {}", pid, v2),
      .hint = fmt::format("start the service as a systemd unit or a container; or by hand: mkdir "
                          "{0}/NAME && echo {1} > {0}/NAME/cgroup.procs",
                          hierarchy.mount, pid)};
}

base::Result<ControllerGroup> controller_hierarchy(std::string_view v1, std::string_view v2) {
  SQUALL_ASSIGN(const Hierarchy hierarchy, hierarchy_of(v1, v2));
  return ControllerGroup{.folder = hierarchy.mount, .name = "/", .v2 = hierarchy.v2};
}

}  // namespace squall::inject
