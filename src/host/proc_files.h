#pragma once
// The formats of the kernel's files about processes, apart from reading them: pure functions.

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace squall::host {

// The fields of /proc/PID/stat that we use; see proc(5).
struct StatFields {
  std::string_view name;
  char state = '?';
  pid_t parent = 0;
  bool kernel_thread = false;
  std::uint64_t user_ticks = 0;
  std::uint64_t system_ticks = 0;
  std::uint64_t threads = 0;
  std::uint64_t start_time = 0;
  std::uint64_t resident_pages = 0;
};
std::optional<StatFields> parse_stat(std::string_view text);

// The effective user id of /proc/PID/status.
std::optional<uid_t> parse_status_user(std::string_view text);

// /proc/PID/cmdline: arguments, each ended by a zero byte.
std::vector<std::string> parse_cmdline(std::string_view text);

// From /proc/PID/cgroup: the path in the v2 hierarchy (line "0::"), empty if there is none.
std::string_view parse_cgroup_path(std::string_view text);

// The container id in any hierarchy's path: a component that is 64 hex digits, bare or as
// "docker-ID.scope" and the like. A container's monitor ("libpod-conmon-ID.scope") is not in it.
std::string_view parse_container_id(std::string_view cgroup_text);

// "4026531840" of "net:[4026531840]" or "socket:[4026531840]"; 0 when it is not `kind`.
std::uint64_t parse_link_inode(std::string_view link, std::string_view kind);

}  // namespace squall::host
