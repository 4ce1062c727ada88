#include "inject/process_table.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <string_view>

#include "base/files.h"

namespace squall::inject {

namespace {

constexpr int kStartTimeField = 22;  // proc(5)
constexpr pid_t kKernelThreads = 2;

// "PID (name) S PPID ...": the name may hold spaces and parentheses, so it ends at the last one.
std::optional<ProcessEntry> parse_stat(pid_t pid, std::string_view text) {
  const std::size_t open = text.find('(');
  const std::size_t close = text.rfind(')');
  if (open == text.npos || close == text.npos || close + 2 >= text.size()) return std::nullopt;
  ProcessEntry entry;
  entry.identity.pid = pid;
  entry.name = text.substr(open + 1, close - open - 1);
  std::string_view rest = text.substr(close + 2);
  for (int number = 3; !rest.empty(); ++number) {
    const std::string_view word = rest.substr(0, rest.find(' '));
    if (number == 3) entry.state = word[0];
    if (number == 4) std::from_chars(word.data(), word.data() + word.size(), entry.parent);
    if (number == kStartTimeField) {
      std::from_chars(word.data(), word.data() + word.size(), entry.identity.start_time);
      return entry;
    }
    rest.remove_prefix(std::min(rest.size(), word.size() + 1));
  }
  return std::nullopt;
}

// Absent when it is gone.
base::Result<std::optional<ProcessEntry>> read_entry(pid_t pid) {
  auto text = base::read_pseudo_file(fmt::format("/proc/{}/stat", pid));
  if (text.ok()) return parse_stat(pid, *text);
  if (text.error().code == base::ErrorCode::kNotFound) return std::optional<ProcessEntry>{};
  return std::move(text).error();
}

}  // namespace

base::Result<std::vector<ProcessEntry>> read_process_table() {
  SQUALL_ASSIGN(const std::vector<std::string> names, base::names_in_folder("/proc"));
  std::vector<ProcessEntry> table;
  for (const std::string& name : names) {
    if (name[0] < '1' || name[0] > '9') continue;
    SQUALL_ASSIGN(auto entry, read_entry(static_cast<pid_t>(std::atoi(name.c_str()))));
    if (entry) table.push_back(std::move(*entry));
  }
  return table;
}

std::vector<ProcessEntry> tree_of(const std::vector<ProcessEntry>& table,
                                  const base::ProcessIdentity& root) {
  std::vector<ProcessEntry> tree;
  for (const ProcessEntry& entry : table) {
    if (entry.identity == root) tree.push_back(entry);
  }
  for (std::size_t i = 0; i < tree.size(); ++i) {  // grows while we walk: breadth first
    if (tree.size() > table.size()) break;         // a number reborn while we read made a circle
    const pid_t parent = tree[i].identity.pid;
    for (const ProcessEntry& entry : table) {
      if (entry.parent == parent) tree.push_back(entry);
    }
  }
  return tree;
}

std::optional<char> process_state(const base::ProcessIdentity& identity) {
  const auto entry = read_entry(identity.pid);
  if (!entry.ok() || !*entry || (*entry)->identity != identity) return std::nullopt;
  return (*entry)->state;
}

base::Result<char> look_at_state(const base::ProcessIdentity& identity) {
  SQUALL_ASSIGN(const auto entry, read_entry(identity.pid));
  return entry && entry->identity == identity ? entry->state : 'X';
}

base::Instant started_at(const base::ProcessIdentity& identity) {
  static const auto ticks = static_cast<std::uint64_t>(::sysconf(_SC_CLK_TCK));
  const std::uint64_t nanoseconds = identity.start_time % ticks * (1'000'000'000 / ticks) +
                                    identity.start_time / ticks * 1'000'000'000;
  return base::instant_from_nanoseconds(static_cast<std::int64_t>(nanoseconds));
}

base::Result<std::optional<base::PidFd>> open_if_there(const base::ProcessIdentity& identity) {
  auto process = base::PidFd::open(identity);
  if (process.ok()) return std::optional{std::move(*process)};
  if (process.error().code == base::ErrorCode::kNotFound) return std::optional<base::PidFd>{};
  return std::move(process).error();
}

namespace {

base::Error refused(pid_t pid, std::string_view what) {
  return base::Error{.code = base::ErrorCode::kBlocked,
                     .message = fmt::format("process {} is {}", pid, what),
                     .hint = "narrow the service's selector so that it names only the service"};
}

}  // namespace

base::Status check_does_not_carry(pid_t pid, pid_t squall) {
  for (pid_t each = squall; each > 1;) {
    if (each == pid) return refused(pid, "Squall itself, or a process that started it");
    SQUALL_ASSIGN(const auto entry, read_entry(each));
    if (!entry) break;
    each = entry->parent;
  }
  return {};
}

base::Status check_not_forked_by(pid_t pid, pid_t squall) {
  // What a holder forks: its starter and its workers, by the names that they give themselves.
  // Services that it started again are its children, too, and are fair game.
  SQUALL_ASSIGN(const auto target, read_entry(pid));
  if (!target || !target->name.starts_with("squall-")) return {};
  for (pid_t each = target->parent; each > 1;) {
    if (each == squall) return refused(pid, "Squall itself");
    SQUALL_ASSIGN(const auto entry, read_entry(each));
    if (!entry) break;
    each = entry->parent;
  }
  return {};
}

base::Status check_not_ourselves(pid_t pid) {
  if (pid <= 1) return refused(pid, "the first process of this system: no fault is aimed at it");
  if (pid == kKernelThreads) return refused(pid, "the kernel's: no fault is aimed at it");
  return check_does_not_carry(pid, ::getpid());
}

}  // namespace squall::inject
