#include "isolation.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>

namespace squall::crash_sweep {

namespace {

constexpr int kBroken = 1;

int status_of(int status) {
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// The number 2 is that of the kernel's threads on a host: no process of ours has it.
void use_up_a_number() {
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(0);
  ::waitpid(pid, nullptr, 0);
}

int be_init(const std::function<int()>& body) {
  if (::unshare(CLONE_NEWNS) != 0 ||
      ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
      ::mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) != 0) {
    std::perror("crash_sweep: a /proc of its own");
    return kBroken;
  }
  use_up_a_number();
  const pid_t sweep = ::fork();
  if (sweep < 0) return kBroken;
  if (sweep == 0) ::_exit(body());
  while (true) {
    int status = 0;
    const pid_t ended = ::waitpid(-1, &status, 0);
    if (ended == sweep) return status_of(status);
    if (ended < 0 && errno != EINTR) return kBroken;
  }
}

}  // namespace

pid_t fork_sweep(bool isolated, const std::function<int()>& body) {
  const pid_t outside = ::getpid();
  std::fflush(nullptr);
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != outside) ::_exit(kBroken);
  if (!isolated) ::_exit(body());
  // The namespace is for the children of who asks for it.
  if (::unshare(CLONE_NEWPID) != 0) {
    std::perror("crash_sweep: process numbers of its own");
    ::_exit(kBroken);
  }
  const pid_t init = ::fork();
  if (init < 0) ::_exit(kBroken);
  if (init == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::_exit(be_init(body));
  }
  int status = 0;
  while (::waitpid(init, &status, 0) < 0 && errno == EINTR) {
  }
  ::_exit(status_of(status));
}

}  // namespace squall::crash_sweep
