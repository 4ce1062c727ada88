#include "host/proc_files.h"

#include <algorithm>
#include <array>
#include <charconv>

namespace squall::host {

namespace {

constexpr std::uint64_t kKernelThreadFlag = 0x00200000;  // PF_KTHREAD, include/linux/sched.h

template <typename T>
bool read_number(std::string_view text, T& value) {
  return std::from_chars(text.data(), text.data() + text.size(), value).ec == std::errc{};
}

// Takes the text up to `separator` off the front.
std::string_view take_until(std::string_view& text, char separator) {
  const auto at = std::min(text.find(separator), text.size());
  const std::string_view taken = text.substr(0, at);
  text.remove_prefix(std::min(at + 1, text.size()));
  return taken;
}

bool is_container_id(std::string_view text) {
  return text.size() == 64 && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

std::string_view container_in_component(std::string_view component) {
  if (component.find("-conmon-") != std::string_view::npos) return {};
  if (component.ends_with(".scope")) component.remove_suffix(6);
  if (const auto dash = component.rfind('-'); dash != std::string_view::npos)
    component.remove_prefix(dash + 1);
  if (const auto colon = component.rfind(':'); colon != std::string_view::npos)
    component.remove_prefix(colon + 1);  // "cri-containerd:ID"
  return is_container_id(component) ? component : std::string_view{};
}

}  // namespace

std::optional<StatFields> parse_stat(std::string_view text) {
  // The name may contain any character, also spaces and parentheses; the last one closes it.
  const auto open = text.find('(');
  const auto close = text.rfind(')');
  if (open == std::string_view::npos || close == std::string_view::npos || close < open ||
      close + 2 >= text.size())
    return std::nullopt;
  StatFields stat;
  stat.name = text.substr(open + 1, close - open - 1);
  text.remove_prefix(close + 2);
  std::array<std::string_view, 25> fields;  // numbered as in proc(5)
  for (std::size_t field = 3; field < fields.size(); ++field) {
    if (text.empty()) return std::nullopt;
    fields[field] = take_until(text, ' ');
  }
  stat.state = fields[3].empty() ? '?' : fields[3][0];
  std::uint64_t flags = 0;
  if (!read_number(fields[4], stat.parent) || !read_number(fields[9], flags) ||
      !read_number(fields[14], stat.user_ticks) || !read_number(fields[15], stat.system_ticks) ||
      !read_number(fields[20], stat.threads) || !read_number(fields[22], stat.start_time) ||
      !read_number(fields[24], stat.resident_pages))
    return std::nullopt;
  stat.kernel_thread = (flags & kKernelThreadFlag) != 0;
  return stat;
}

std::optional<uid_t> parse_status_user(std::string_view text) {
  // The name's line comes first, and the kernel escapes its line breaks.
  const auto at = text.find("\nUid:\t");
  if (at == std::string_view::npos) return std::nullopt;
  text.remove_prefix(at + 6);
  take_until(text, '\t');  // the real one
  uid_t user = 0;
  if (!read_number(text, user)) return std::nullopt;
  return user;
}

std::vector<std::string> parse_cmdline(std::string_view text) {
  std::vector<std::string> arguments;
  while (!text.empty()) arguments.emplace_back(take_until(text, '\0'));
  // Programs that write their title over the arguments leave empty ones behind.
  while (!arguments.empty() && arguments.back().empty()) arguments.pop_back();
  return arguments;
}

std::string_view parse_cgroup_path(std::string_view text) {
  while (!text.empty()) {
    const std::string_view line = take_until(text, '\n');
    if (line.starts_with("0::")) return line.substr(3);
  }
  return {};
}

std::string_view parse_container_id(std::string_view cgroup_text) {
  while (!cgroup_text.empty()) {
    std::string_view path = take_until(cgroup_text, '\n');
    take_until(path, ':');
    take_until(path, ':');
    while (!path.empty()) {
      const std::string_view id = container_in_component(take_until(path, '/'));
      if (!id.empty()) return id;
    }
  }
  return {};
}

std::uint64_t parse_link_inode(std::string_view link, std::string_view kind) {
  std::uint64_t inode = 0;
  if (!link.starts_with(kind) || !link.substr(kind.size()).starts_with(":[")) return 0;
  return read_number(link.substr(kind.size() + 2), inode) ? inode : 0;
}

}  // namespace squall::host
