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

// A target that was killed and brought back is another process: its number does not count.
std::string members_of(const model::Service& service) {
  const auto members = host::find_members(host::real_host(), service);
  if (!members.ok()) return members.error().to_string();
  std::vector<std::string> lines;
  for (const host::Member& member : *members) {
    const pid_t pid = member.process.identity.pid;
    // Asleep and running are one: what matters is stopped, traced or gone.
    const char state = inject::process_state(member.process.identity).value_or('X');
    lines.push_back(fmt::format("state {}\n{}\n{}{}{}", state == 'R' ? 'S' : state, tracer_of(pid),
                                text_of(fmt::format("/proc/{}/limits", pid)),
                                text_of(fmt::format("/proc/{}/cgroup", pid)),
                                text_of(fmt::format("/proc/{}/oom_score_adj", pid))));
  }
  std::sort(lines.begin(), lines.end());
  std::string text = fmt::format("{} members\n", lines.size());
  for (const std::string& line : lines) text += line;
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

Snapshot take_snapshot(const model::Service& service, const std::string& folder) {
  return {
      {"nft rules", output_of({"nft", "list", "ruleset"})},
      {"links", output_of({"ip", "-o", "link"})},
      {"addresses", output_of({"ip", "-o", "address"})},
      {"routes", output_of({"ip", "route", "show", "table", "all"})},
      {"routing rules", output_of({"ip", "rule"})},
      {"qdiscs", output_of({"tc", "qdisc", "show"})},
      {"listening sockets", output_of({"ss", "-Hlntu"})},
      {"mounts", text_of("/proc/self/mounts")},
      {"files", files_in(folder)},
      {"unit", text_of("/run/fake-units/sweep.service")},
      {"clock files", files_in("/run/squall-clock")},
      {"target", members_of(service)},
      {"watched files", watchers_of(folder)},
  };
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
