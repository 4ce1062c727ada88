#include "inject/cgroup.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <vector>

#include "base/files.h"
#include "base/ids.h"
#include "base/text.h"
#include "inject/process_table.h"

namespace squall::inject {

namespace {

base::Result<std::string> file_of(const std::string& group, std::string_view name) {
  SQUALL_ASSIGN(const std::string mount, v2_mount());
  return fmt::format("{}{}/{}", mount, group, name);
}

base::Status write_value(const std::string& path, std::string_view value) {
  const base::UniqueFd file{::open(path.c_str(), O_WRONLY | O_CLOEXEC)};
  if (!file) return base::system_error("open " + path, errno);
  if (::write(file.get(), value.data(), value.size()) < 0)
    return base::system_error(fmt::format("write {} to {}", value, path), errno);
  return {};
}

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

base::Status check_holds_only(const std::string& group, const base::ProcessIdentity& root) {
  SQUALL_ASSIGN(const std::string mount, v2_mount());
  std::vector<pid_t> members;
  collect_members(mount + group, members);
  SQUALL_ASSIGN(const std::vector<ProcessEntry> table, read_process_table());
  const std::vector<ProcessEntry> tree = tree_of(table, root);
  const auto holds = [&](pid_t pid) {
    return std::find(members.begin(), members.end(), pid) != members.end();
  };
  const auto belongs = [&](pid_t pid) {
    return std::any_of(tree.begin(), tree.end(),
                       [&](const ProcessEntry& entry) { return entry.identity.pid == pid; });
  };
  for (const pid_t pid : members) {
    if (belongs(pid)) continue;
    return base::Error{.code = base::ErrorCode::kBlocked,
                       .message = fmt::format("cgroup {} also holds process {}", group, pid)};
  }
  for (const ProcessEntry& entry : tree) {
    if (entry.state == 'Z' || holds(entry.identity.pid)) continue;
    return base::Error{
        .code = base::ErrorCode::kBlocked,
        .message = fmt::format("process {} is outside of cgroup {}", entry.identity.pid, group)};
  }
  if (!tree.empty()) return {};
  return base::Error{.code = base::ErrorCode::kNotFound,
                     .message = fmt::format("process {} has ended", root.pid)};
}

base::Result<FreezeState> read_freeze(const std::string& group) {
  SQUALL_ASSIGN(const std::string freeze, file_of(group, "cgroup.freeze"));
  SQUALL_ASSIGN(const std::string events, file_of(group, "cgroup.events"));
  SQUALL_ASSIGN(const std::string asked, base::read_pseudo_file(freeze));
  SQUALL_ASSIGN(const std::string happened, base::read_pseudo_file(events));
  return FreezeState{.asked = base::trim(asked) == "1",
                     .frozen = happened.find("frozen 1") != std::string::npos};
}

base::Status write_freeze(const std::string& group, bool frozen) {
  SQUALL_ASSIGN(const std::string path, file_of(group, "cgroup.freeze"));
  return write_value(path, frozen ? "1" : "0");
}

base::Result<ScratchGroup> ScratchGroup::create() {
  SQUALL_ASSIGN(const std::string mount, v2_mount());
  const std::string group = "/squall-scratch-" + base::LeaseId::generate().text();
  if (::mkdir((mount + group).c_str(), 0755) != 0)
    return base::system_error("create cgroup " + group, errno);
  return ScratchGroup{group};
}

ScratchGroup::~ScratchGroup() {
  if (path_.empty()) return;
  const auto mount = v2_mount();
  if (mount.ok()) ::rmdir((*mount + path_).c_str());
}

base::Status ScratchGroup::add(pid_t pid) const {
  SQUALL_ASSIGN(const std::string path, file_of(path_, "cgroup.procs"));
  return write_value(path, fmt::format("{}", pid));
}

base::Status ScratchGroup::remove_process(pid_t pid) const {
  SQUALL_ASSIGN(const std::string path, file_of("", "cgroup.procs"));
  return write_value(path, fmt::format("{}", pid));
}

}  // namespace squall::inject
