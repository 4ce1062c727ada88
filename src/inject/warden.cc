#include "inject/warden.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "base/exit_status.h"
#include "base/log.h"
#include "base/process.h"
#include "inject/keeper.h"

namespace squall::inject {

namespace {

// Through /proc/self/fd the path always fits into sun_path, however long the folder's is.
base::Result<sockaddr_un> address_in(const base::UniqueFd& folder, const std::string& path) {
  if (!folder) return base::system_error("open " + path, errno);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string name = fmt::format("/proc/self/fd/{}/control.sock", folder.get());
  std::memcpy(address.sun_path, name.c_str(), name.size() + 1);
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

base::Result<base::UniqueFd> listen_in(const StateDirectory& directory) {
  const base::UniqueFd folder = open_folder(directory.path());
  SQUALL_ASSIGN(const sockaddr_un address, address_in(folder, directory.path()));
  base::UniqueFd socket{::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  if (!socket) return base::system_error("create the control socket", errno);
  ::unlink(address.sun_path);  // of a dead warden: the lock is ours
  const mode_t before = ::umask(0177);
  const int bound =
      ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  ::umask(before);
  if (bound != 0 || ::listen(socket.get(), 16) != 0)
    return base::system_error("open the control socket in " + directory.path(), errno);
  return socket;
}

base::Status serve(const WardenOptions& options, int& exit_status) {
  const StateDirectory directory{options.state_directory};
  SQUALL_TRY(directory.create());
  SQUALL_ASSIGN(const base::UniqueFd lock, lock_warden(directory));
  SQUALL_ASSIGN(base::UniqueFd listener, listen_in(directory));
  std::vector<std::string> holder_argv = options.holder_argv;
  if (holder_argv.empty()) {
    SQUALL_ASSIGN(const std::string executable, base::own_executable());
    holder_argv = {executable, "holder"};
  }
  Keeper keeper(std::move(holder_argv));
  keeper.replay_all(options.state_directory);
  keeper.listen(std::move(listener), base::ServiceManager::from_environment());
  exit_status = keeper.run();
  ::unlink((directory.path() + "/control.sock").c_str());
  return {};
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
  const base::UniqueFd folder = open_folder(directory.path());
  SQUALL_ASSIGN(const sockaddr_un address, address_in(folder, directory.path()));
  base::UniqueFd socket{::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)};
  if (!socket) return base::system_error("create a socket", errno);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0)
    return socket;
  return base::Error{.code = base::ErrorCode::kUnavailable,
                     .message = "no warden runs on this host"};
}

bool warden_runs(const std::string& state_directory) {
  return connect_to_warden(StateDirectory{state_directory}).ok();
}

}  // namespace squall::inject
