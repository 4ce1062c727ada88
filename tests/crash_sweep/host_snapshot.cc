#include "host_snapshot.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>

#include "base/files.h"
#include "base/process.h"
#include "base/text.h"
#include "host/host.h"
#include "inject/process_table.h"
#include "kernel_state.h"

namespace squall::crash_sweep {

namespace {

std::string output_of(std::vector<std::string> argv) {
  base::SpawnOptions options;
  options.argv = std::move(argv);
  const auto output = base::run_command(options, std::chrono::seconds(10), 1u << 20);
  return output.ok() ? output->output : output.error().to_string();
}

std::string text_of(const std::string& path) {
  const auto text = base::read_file(path, 1u << 20);
  return text.ok() ? *text : std::string();
}

// "TracerPid:\t0" when nobody traces it.
std::string tracer_of(pid_t pid) {
  const auto status = base::read_pseudo_file(fmt::format("/proc/{}/status", pid));
  const std::size_t at = status.ok() ? status->find("TracerPid:") : std::string::npos;
  return at == std::string::npos ? "" : status->substr(at, status->find('\n', at) - at);
}

// Whether the groups are frozen in which a process is, by the text of its /proc/PID/cgroup.
std::string freezers_of(const std::string& groups) {
  std::string text;
  for (const std::string& line : base::split(groups, '\n')) {
    const std::string path = line.substr(line.rfind(':') + 1);
    std::vector<std::string> files;
    if (line.find(":freezer:") != std::string::npos)
      files = {"/sys/fs/cgroup/freezer" + path + "/freezer.state"};
    if (line.starts_with("0::"))
      files = {"/sys/fs/cgroup" + path + "/cgroup.freeze",
               "/sys/fs/cgroup/unified" + path + "/cgroup.freeze"};
    for (const std::string& file : files) {
      const auto value = base::read_pseudo_file(file);
      if (value.ok()) text += fmt::format("{} {}", file.substr(file.rfind('/') + 1), *value);
    }
  }
  return text;
}

// Workers that still watch what lies in the folder: there is a mark on its inode.
std::string watchers_of(const std::string& folder) {
  struct stat info {};
  if (::stat((folder + "/data").c_str(), &info) != 0) return "";
  const std::string mark = fmt::format("fanotify ino:{:x} ", info.st_ino);
  const auto table = inject::read_process_table();
  std::string text;
  for (const auto& entry : table.ok() ? *table : std::vector<inject::ProcessEntry>{}) {
    if (!entry.name.starts_with("squall-")) continue;
    std::error_code ignored;
    for (const auto& item : std::filesystem::directory_iterator(
             fmt::format("/proc/{}/fdinfo", entry.identity.pid), ignored)) {
      const auto found = base::read_pseudo_file(item.path());
      if (found.ok() && found->find(mark) != std::string::npos) text += entry.name + "\n";
    }
  }
  return text;
}

std::string files_in(const std::string& folder) {
  std::vector<std::string> lines;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder, ignored)) {
    if (entry.path().string().find("/state") != std::string::npos) continue;
    lines.push_back(entry.path().string());
  }
  std::sort(lines.begin(), lines.end());
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

Snapshot network_by_tools() {
  return {
      {"nft rules", output_of({"nft", "list", "ruleset"})},
      {"links", output_of({"ip", "-o", "link"})},
      {"addresses", output_of({"ip", "-o", "address"})},
      {"routes", output_of({"ip", "route", "show", "table", "all"})},
      {"routing rules", output_of({"ip", "rule"})},
      {"qdiscs", output_of({"tc", "qdisc", "show"})},
      {"listening sockets", output_of({"ss", "-Hlntu"})},
  };
}

// What a group allows, of versions one and two; not what its processes use.
std::string values_of(const std::vector<std::string>& groups) {
  std::string text;
  for (const std::string& group : groups) {
    for (const char* file :
         {"cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.shares", "cpu.max", "cpu.weight",
          "memory.limit_in_bytes", "memory.soft_limit_in_bytes", "memory.max", "memory.high",
          "memory.swap.max", "pids.max", "io.max", "blkio.throttle.read_bps_device",
          "blkio.throttle.write_bps_device", "blkio.throttle.read_iops_device",
          "blkio.throttle.write_iops_device", "cgroup.procs", "cgroup.freeze"}) {
      const auto value = base::read_pseudo_file(group + "/" + file);
      if (!value.ok()) continue;
      // One that was brought back has another number.
      const bool processes = std::string_view(file) == "cgroup.procs";
      text += fmt::format(
          "{}/{} {}\n", group, file,
          processes ? fmt::format("{} processes", std::count(value->begin(), value->end(), '\n'))
                    : *value);
    }
  }
  return text;
}

// Lines of `text` that `other` has not, or not as often.
std::vector<std::string> only_in(const std::string& text, const std::string& other) {
  std::vector<std::string> theirs = base::split(other, '\n');
  std::vector<std::string> lines;
  for (const std::string& line : base::split(text, '\n')) {
    const auto same = std::find(theirs.begin(), theirs.end(), line);
    if (same == theirs.end())
      lines.push_back(line);
    else
      theirs.erase(same);
  }
  return lines;
}

}  // namespace

std::string members_text(const model::Service& service) {
  const auto members = host::find_members(host::real_host(), service);
  if (!members.ok()) return members.error().to_string();
  std::vector<std::string> lines;
  for (const host::Member& member : *members) {
    const pid_t pid = member.process.identity.pid;
    // Asleep and running are one: what matters is stopped, traced or gone. So is D, which everybody
    // is in for moments and the frozen are in for long: those are known by their group.
    const char state = inject::process_state(member.process.identity).value_or('X');
    const bool lives = state == 'R' || state == 'D';
    const std::string groups = text_of(fmt::format("/proc/{}/cgroup", pid));
    lines.push_back(fmt::format("state {}\n{}\n{}{}{}{}", lives ? 'S' : state, tracer_of(pid),
                                text_of(fmt::format("/proc/{}/limits", pid)), groups,
                                freezers_of(groups),
                                text_of(fmt::format("/proc/{}/oom_score_adj", pid))));
  }
  std::sort(lines.begin(), lines.end());
  std::string text = fmt::format("{} members\n", lines.size());
  for (const std::string& line : lines) text += line;
  return text;
}

Snapshot take_snapshot(const Stage& stage, const model::Service& service, bool by_tools) {
  Snapshot snapshot = by_tools ? network_by_tools() : network_state();
  snapshot["mounts"] = text_of("/proc/self/mounts");
  snapshot["files"] = files_in(stage.folder());
  snapshot["unit"] = text_of("/run/fake-units/sweep.service");
  snapshot["clock files"] = files_in("/run/squall-clock");
  snapshot["target"] = members_text(service);
  snapshot["watched files"] = watchers_of(stage.folder());
  snapshot["control groups"] = values_of(stage.groups());
  return snapshot;
}

std::string shown_by_tools() {
  std::string text;
  for (const auto& [what, shown] : network_by_tools()) text += what + ":\n" + shown;
  return text;
}

void add_bpf_links(Snapshot& snapshot) {
  snapshot["BPF links"] = output_of({"/usr/sbin/bpftool", "link", "show"});
}

std::vector<std::string> differences(const Snapshot& before, const Snapshot& after) {
  std::vector<std::string> lines;
  for (const auto& [what, was] : before) {
    const std::string& is = after.at(what);
    if (was == is) continue;
    std::string text = what + ":";
    for (const std::string& line : only_in(was, is)) text += "\n  - " + line;
    for (const std::string& line : only_in(is, was)) text += "\n  + " + line;
    lines.push_back(text);
  }
  return lines;
}

}  // namespace squall::crash_sweep
