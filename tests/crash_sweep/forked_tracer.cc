#include "forked_tracer.h"

#include <fcntl.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <string>
#include <string_view>

namespace squall::crash_sweep {

namespace {

constexpr unsigned long kFollow =
    PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC;

struct Order {
  bool workers = false;  // else the starter
  std::string name;      // "-": none
  int number = 0;
  int error = 0;  // 0: it is killed
};

int error_number(std::string_view name) {
  if (name == "EINTR") return EINTR;
  if (name == "ENOMEM") return ENOMEM;
  if (name == "EIO") return EIO;
  if (name == "ENOSPC") return ENOSPC;
  if (name == "EPERM") return EPERM;
  if (name == "EBUSY") return EBUSY;
  return 0;
}

std::string name_of(std::uint64_t call) {
  char* name = ::seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, static_cast<int>(call));
  std::string text = name == nullptr ? "unknown" : name;
  std::free(name);
  return text;
}

class Tracer {
 public:
  Tracer(pid_t holder, Order order, const char* file)
      : holder_(holder), order_(std::move(order)), file_(file) {}

  bool seize() {
    return ::ptrace(PTRACE_SEIZE, holder_, nullptr, kFollow | PTRACE_O_TRACESYSGOOD) == 0;
  }

  // Until all have ended whom it follows, or the one has been disturbed: then they are let go, for
  // a tracer's end is that.
  void follow() {
    while (!over_) {
      int status = 0;
      const pid_t pid = ::waitpid(-1, &status, __WALL);
      if (pid < 0 && errno == EINTR) continue;
      if (pid < 0) return;
      if (WIFSTOPPED(status)) stopped(pid, status);
      if (!WIFSTOPPED(status)) calls_.erase(pid);
    }
  }

 private:
  struct Caller {
    bool failing = false;  // the call that it is in
  };

  void stopped(pid_t pid, int status) {
    // A child may stop at its birth before its parent tells of it; the holder's first is the
    // starter.
    if (starter_ == 0 && pid != holder_) starter_ = pid;
    const int signal = WSTOPSIG(status);
    const int event = status >> 16;
    if (event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK || event == PTRACE_EVENT_CLONE)
      return forked(pid, event);
    if (event == PTRACE_EVENT_EXEC) return executed(pid);
    if (event == PTRACE_EVENT_STOP) {
      const bool group_stop =
          signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU;
      if (group_stop) return static_cast<void>(::ptrace(PTRACE_LISTEN, pid, nullptr, nullptr));
      return go_on(pid, 0);
    }
    if (signal == (SIGTRAP | 0x80)) return called(pid);
    go_on(pid, event == 0 ? signal : 0);
  }

  bool is_watched(pid_t pid) const {
    if (pid == holder_) return false;
    return order_.workers ? pid != starter_ : pid == starter_;
  }

  void go_on(pid_t pid, int signal) const {
    ::ptrace(is_watched(pid) ? PTRACE_SYSCALL : PTRACE_CONT, pid, nullptr, signal);
  }

  static void let_go(pid_t pid) { ::ptrace(PTRACE_DETACH, pid, nullptr, nullptr); }

  void forked(pid_t parent, int event) {
    unsigned long child = 0;
    ::ptrace(PTRACE_GETEVENTMSG, parent, nullptr, &child);
    if (parent == holder_ && event == PTRACE_EVENT_FORK) {
      starter_ = static_cast<pid_t>(child);
      return let_go(holder_);
    }
    go_on(parent, 0);
  }

  // A program of somebody else's from here on.
  void executed(pid_t pid) {
    if (pid == holder_) return go_on(pid, 0);
    calls_.erase(pid);
    let_go(pid);
  }

  void called(pid_t pid) {
    struct __ptrace_syscall_info information {};
    const long size = ::ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof information, &information);
    if (size <= 0 || !is_watched(pid)) return go_on(pid, 0);
    Caller& caller = calls_[pid];
    if (information.op == PTRACE_SYSCALL_INFO_EXIT && caller.failing) {
      set_result(pid);
      over_ = true;
    } else if (information.op == PTRACE_SYSCALL_INFO_ENTRY) {
      const std::string name = name_of(information.entry.nr);
      const bool creates = name == "openat" && (information.entry.args[2] & O_CREAT) != 0;
      file_ << name << (creates ? "(O_CREAT)\n" : "()\n") << std::flush;
      if (name == order_.name && ++count_ == order_.number) {
        if (order_.error == 0) {
          ::kill(pid, SIGKILL);
          over_ = true;
        } else {
          caller.failing = true;
          replace_call(pid);
        }
      }
    }
    go_on(pid, 0);
  }

  // By one that changes nothing and that every worker may make: its filter of system calls comes
  // later, and would kill it for none at all.
  static void replace_call(pid_t pid) {
#ifdef __x86_64__
    user_regs_struct registers{};
    ::ptrace(PTRACE_GETREGS, pid, nullptr, &registers);
    registers.orig_rax = SYS_getpid;
    ::ptrace(PTRACE_SETREGS, pid, nullptr, &registers);
#else
    static_cast<void>(pid);
#endif
  }
  void set_result(pid_t pid) const {
#ifdef __x86_64__
    user_regs_struct registers{};
    ::ptrace(PTRACE_GETREGS, pid, nullptr, &registers);
    registers.rax = static_cast<unsigned long long>(-order_.error);
    ::ptrace(PTRACE_SETREGS, pid, nullptr, &registers);
#else
    static_cast<void>(pid);
#endif
  }

  pid_t holder_;
  Order order_;
  std::ofstream file_;
  pid_t starter_ = 0;
  std::map<pid_t, Caller> calls_;
  int count_ = 0;
  bool over_ = false;
};

}  // namespace

int exec_traced(int argc, char** argv) {
  if (argc < 10) return 2;
  const pid_t holder = ::getpid();
  std::array<int, 2> ready{};
  if (::pipe2(ready.data(), O_CLOEXEC) != 0) return 2;
  const pid_t between = ::fork();
  if (between == 0) {
    // The holder may know of no child.
    if (::fork() != 0) ::_exit(0);
    // With its descriptors nobody could see that it dies.
    ::dup3(ready[1], 3, O_CLOEXEC);
    ::syscall(SYS_close_range, 4u, ~0u, 0u);
    ::setsid();
    Tracer tracer{holder,
                  {.workers = std::string_view(argv[2]) == "worker",
                   .name = argv[4],
                   .number = std::atoi(argv[5]),
                   .error = error_number(argv[6])},
                  argv[3]};
    const char word = tracer.seize() ? 'y' : 'n';
    if (::write(3, &word, 1) != 1 || word == 'n') ::_exit(2);
    ::close(3);
    tracer.follow();
    ::_exit(0);
  }
  int status = 0;
  char word = 'n';
  ::waitpid(between, &status, 0);
  ::close(ready[1]);
  if (::read(ready[0], &word, 1) != 1 || word != 'y') return 2;
  ::execv(argv[7], argv + 7);
  return 2;
}

}  // namespace squall::crash_sweep
