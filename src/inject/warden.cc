#include "inject/warden.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "base/exit_status.h"
#include "base/log.h"
#include "base/process.h"
#include "inject/keeper.h"
#include "inject/policy.h"

namespace squall::inject {

namespace {

constexpr std::string_view kControlSocket = "control.sock";
constexpr std::string_view kPublicSocket = "public.sock";

// For commands that a person types: the bare name, or the number.
std::string login_name(uid_t user) {
  const std::string text = user_text(user);
  return text.ends_with(')') ? text.substr(0, text.find(' ')) : fmt::format("{}", user);
}

std::string group_name(gid_t number) {
  std::array<char, 16384> buffer{};
  group entry{};
  group* found = nullptr;
  if (::getgrgid_r(number, &entry, buffer.data(), buffer.size(), &found) == 0 && found != nullptr)
    return found->gr_name;
  return fmt::format("{}", number);
}

// Through /proc/self/fd the path always fits into sun_path, however long the folder's is.
base::Result<sockaddr_un> address_in(const base::UniqueFd& folder, const std::string& path,
                                     std::string_view name) {
  if (!folder) return base::system_error("open " + path, errno);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string full = fmt::format("/proc/self/fd/{}/{}", folder.get(), name);
  std::memcpy(address.sun_path, full.c_str(), full.size() + 1);
  return address;
}

base::UniqueFd open_folder(const std::string& path) {
  return base::UniqueFd{::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
}

// Held as long as the warden lives, so that there is one.
base::Result<base::UniqueFd> lock_warden(const StateDirectory& directory) {
  const std::string path = directory.path() + "/warden.lock";
  base::UniqueFd lock{::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600)};
  if (!lock) return base::system_error("open " + path, errno);
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) == 0) return lock;
  return base::Error{.code = base::ErrorCode::kConflict,
                     .message = "a warden runs already on this host",
                     .hint = "`systemctl status squall-warden` tells about it"};
}

// `group` absent: for root only.
base::Result<base::UniqueFd> listen_in(const StateDirectory& directory, std::string_view name,
                                       mode_t mode, std::optional<gid_t> group) {
  const base::UniqueFd folder = open_folder(directory.path());
  SQUALL_ASSIGN(const sockaddr_un address, address_in(folder, directory.path(), name));
  base::UniqueFd socket{::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  if (!socket) return base::system_error("create a socket", errno);
  ::unlink(address.sun_path);  // of a dead warden: the lock is ours
  const mode_t before = ::umask(0177);
  const int bound =
      ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  ::umask(before);
  // Nobody is let in before the rights are what they shall be.
  const bool owned = bound == 0 &&
                     (!group || ::chown(address.sun_path, static_cast<uid_t>(-1), *group) == 0) &&
                     (mode == 0600 || ::chmod(address.sun_path, mode) == 0);
  if (!owned || ::listen(socket.get(), 64) != 0)
    return base::system_error(fmt::format("open {} in {}", name, directory.path()), errno);
  return socket;
}

std::optional<gid_t> warden_group() {
  std::array<char, 16384> buffer{};
  group entry{};
  group* found = nullptr;
  if (::getgrnam_r(kWardenGroup, &entry, buffer.data(), buffer.size(), &found) == 0 &&
      found != nullptr)
    return found->gr_gid;
  return std::nullopt;
}

base::Status serve(const WardenOptions& options, int& exit_status) {
  const StateDirectory directory{options.state_directory};
  SQUALL_TRY(directory.create());
  SQUALL_ASSIGN(const base::UniqueFd lock, lock_warden(directory));
  const auto group = options.group ? options.group : warden_group();
  if (!group) {
    base::log_warning("this host has no group squall: the warden serves root only",
                      {{"hint", "groupadd --system squall, then restart the warden"}});
  }
  // Said now, when somebody looks; until it is repaired every run of others than root is refused.
  if (const auto policy = read_policy(options.policy_file); !policy.ok()) {
    base::log_error("the policy of this host cannot be used: only root may inject faults",
                    {{"error", policy.error().to_string()}, {"hint", policy.error().hint}});
  }
  WardenDuty duty;
  duty.state_directory = options.state_directory;
  duty.policy_file = options.policy_file;
  duty.manager = base::ServiceManager::from_environment();
  SQUALL_ASSIGN(base::UniqueFd everybody, listen_in(directory, kPublicSocket, 0666, std::nullopt));
  duty.everybody = std::make_unique<PublicSocket>(std::move(everybody), options.state_directory);
  SQUALL_ASSIGN(duty.control, listen_in(directory, kControlSocket, group ? 0660 : 0600, group));
  std::vector<std::string> holder_argv = options.holder_argv;
  if (holder_argv.empty()) {
    SQUALL_ASSIGN(const std::string executable, base::own_executable());
    holder_argv = {executable, "holder"};
  }
  Keeper keeper(std::move(holder_argv));
  keeper.replay_all(options.state_directory);
  keeper.serve_host(std::move(duty));
  exit_status = keeper.run();
  for (const std::string_view name : {kControlSocket, kPublicSocket})
    ::unlink(fmt::format("{}/{}", directory.path(), name).c_str());
  return {};
}

base::Error no_warden() {
  return base::Error{
      .code = base::ErrorCode::kUnavailable,
      .message = "no warden runs on this host",
      .hint = "start it: sudo systemctl enable --now squall-warden; or run this with sudo"};
}

// The kernel said EACCES: who would have been let in?
base::Error not_let_in(const StateDirectory& directory) {
  const std::string path = fmt::format("{}/{}", directory.path(), kControlSocket);
  base::Error error{
      .code = base::ErrorCode::kPermission,
      .message = fmt::format("{} may not use the warden of this host", user_text(::geteuid()))};
  struct stat info {};
  if (::stat(path.c_str(), &info) == 0 && (info.st_mode & S_IRGRP) == 0) {
    error.message += fmt::format(": it serves root only, for there was no group {} when it started",
                                 kWardenGroup);
    error.hint = fmt::format(
        "sudo groupadd --system {0} && sudo usermod -aG {0} {1} && sudo "
        "systemctl restart squall-warden, then log in again",
        kWardenGroup, login_name(::geteuid()));
    return error;
  }
  error.message += fmt::format(": it serves the group {}", group_name(info.st_gid));
  error.hint = fmt::format("sudo usermod -aG {} {}, then log in again", group_name(info.st_gid),
                           login_name(::geteuid()));
  return error;
}

base::Result<base::UniqueFd> connect_to(const StateDirectory& directory, std::string_view name) {
  const base::UniqueFd folder = open_folder(directory.path());
  if (!folder && errno == ENOENT) return no_warden();
  SQUALL_ASSIGN(const sockaddr_un address, address_in(folder, directory.path(), name));
  base::UniqueFd socket{::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)};
  if (!socket) return base::system_error("create a socket", errno);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0)
    return socket;
  return errno == EACCES || errno == EPERM ? not_let_in(directory) : no_warden();
}

}  // namespace

int warden_main(const WardenOptions& options) {
  ::signal(SIGPIPE, SIG_IGN);
  ::prctl(PR_SET_NAME, "squall-warden");
  ::umask(022);
  if (::chdir("/") != 0) return 1;
  int exit_status = 0;
  const auto served = serve(options, exit_status);
  if (served.ok()) return exit_status;
  base::log_error("the warden cannot start",
                  {{"error", served.error().to_string()}, {"hint", served.error().hint}});
  return static_cast<int>(base::exit_status_of(served.error().code));
}

base::Result<base::UniqueFd> connect_to_warden(const StateDirectory& directory) {
  return connect_to(directory, kControlSocket);
}

base::Result<base::UniqueFd> connect_to_public(const StateDirectory& directory) {
  return connect_to(directory, kPublicSocket);
}

WardenReport examine_warden(const std::string& state_directory) {
  const StateDirectory directory{state_directory};
  WardenReport report;
  const auto connected = connect_to_warden(directory);
  report.usable = connected.ok();
  report.runs = connected.ok() || connected.error().code == base::ErrorCode::kPermission;
  if (!connected.ok()) {
    report.text = connected.error().message;
    report.remedy = connected.error().hint;
    if (!report.runs && ::geteuid() == 0) {
      report.text += ": each run starts a keeper of its own, for root only";
      report.remedy.clear();
    }
    return report;
  }
  report.text = "a warden runs on this host and serves every run";
  struct stat info {};
  const std::string path = fmt::format("{}/{}", directory.path(), kControlSocket);
  if (::stat(path.c_str(), &info) == 0)
    report.text += (info.st_mode & S_IRGRP) == 0
                       ? " of root; there is no group " + std::string(kWardenGroup)
                       : " of root and of the group " + group_name(info.st_gid);
  return report;
}

}  // namespace squall::inject
