#include "tracer.h"

#include <fcntl.h>
#include <seccomp.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <string_view>

namespace squall::crash_sweep {

namespace {

constexpr unsigned long kFollow = PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE;
// No descriptor. Its close is the last call before those that count.
constexpr int kNothingOpen = 0x7351'7561;

enum class Whom { kItself, kStarter, kWorkers };

struct Order {
  Whom whom = Whom::kItself;
  std::string file;
  int call = -1;
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

std::string memory_of(pid_t pid, std::uint64_t address, std::size_t most) {
  std::string text(most, '\0');
  const iovec here{.iov_base = text.data(), .iov_len = most};
  const iovec there{.iov_base = reinterpret_cast<void*>(address), .iov_len = most};
  const ssize_t got = ::process_vm_readv(pid, &here, 1, &there, 1, 0);
  text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  return text;
}

class Tracer {
 public:
  Tracer(pid_t process, Order order) : process_(process), order_(std::move(order)) {
    if (order_.file != "-") file_.open(order_.file);
  }

  bool seize() const {
    const bool itself = order_.whom == Whom::kItself;
    const unsigned long options = PTRACE_O_TRACESYSGOOD | (itself ? 0 : kFollow);
    if (::ptrace(PTRACE_SEIZE, process_, nullptr, options) != 0) return false;
    if (!itself) return true;
    int status = 0;
    if (::ptrace(PTRACE_INTERRUPT, process_, nullptr, nullptr) != 0 ||
        ::waitpid(process_, &status, __WALL) != process_ || !WIFSTOPPED(status))
      return false;
    return ::ptrace(PTRACE_SYSCALL, process_, nullptr, nullptr) == 0;
  }

  // Until all have ended whom it follows, or the one has been disturbed: then they are let go, for
  // a tracer's end is that.
  void follow() {
    while (!over_) {
      int status = 0;
      const pid_t pid = ::waitpid(-1, &status, __WALL);
      if (pid < 0 && errno == EINTR) continue;
      if (pid < 0) break;
      if (WIFSTOPPED(status)) stopped(pid, status);
    }
    file_.close();
  }

 private:
  void stopped(pid_t pid, int status) {
    // A child may stop at its birth before its parent tells of it; the holder's first is the
    // starter.
    if (starter_ == 0 && pid != process_) starter_ = pid;
    if (pid == starter_ && order_.whom == Whom::kStarter && !begun_) {
      begun_ = true;  // those that it forks are none of ours
      ::ptrace(PTRACE_SETOPTIONS, pid, nullptr, PTRACE_O_TRACESYSGOOD);
    }
    const int signal = WSTOPSIG(status);
    const int event = status >> 16;
    if (signal == (SIGTRAP | 0x80)) return called(pid);
    if (event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK || event == PTRACE_EVENT_CLONE)
      return forked(pid, event);
    if (event == PTRACE_EVENT_STOP) {
      const bool group_stop =
          signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU;
      if (group_stop) return static_cast<void>(::ptrace(PTRACE_LISTEN, pid, nullptr, nullptr));
      return go_on(pid, 0);
    }
    go_on(pid, event == 0 ? signal : 0);
  }

  bool is_watched(pid_t pid) const {
    if (order_.whom == Whom::kItself) return true;
    if (pid == process_) return false;
    return order_.whom == Whom::kWorkers ? pid != starter_ : pid == starter_;
  }

  void go_on(pid_t pid, int signal) const {
    ::ptrace(is_watched(pid) ? PTRACE_SYSCALL : PTRACE_CONT, pid, nullptr, signal);
  }

  static void let_go(pid_t pid) { ::ptrace(PTRACE_DETACH, pid, nullptr, nullptr); }

  void forked(pid_t parent, int event) {
    unsigned long child = 0;
    ::ptrace(PTRACE_GETEVENTMSG, parent, nullptr, &child);
    if (parent == process_ && event == PTRACE_EVENT_FORK) {
      starter_ = static_cast<pid_t>(child);
      return let_go(process_);
    }
    go_on(parent, 0);
  }

  void called(pid_t pid) {
    struct __ptrace_syscall_info call {};
    const long size = ::ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof call, &call);
    if (size <= 0 || !is_watched(pid)) return go_on(pid, 0);
    if (call.op == PTRACE_SYSCALL_INFO_ENTRY) return entered(pid, call);
    if (pid != failing_) return go_on(pid, 0);
    set_result(pid);
    over_ = true;
    let_go(pid);
  }

  void entered(pid_t pid, const struct __ptrace_syscall_info& call) {
    if (order_.whom == Whom::kItself && !begun_) {
      begun_ = call.entry.nr == SYS_close && call.entry.args[0] == kNothingOpen;
      return go_on(pid, 0);
    }
    if (file_.is_open()) record(pid, call);
    const bool meant = static_cast<int>(call.entry.nr) == order_.call && failing_ == 0 &&
                       ++count_ == order_.number;
    if (meant && order_.error == 0) {
      ::kill(pid, SIGKILL);  // a call at whose entry a fatal signal is pending is not made
      over_ = true;
      return;
    }
    if (meant) {
      failing_ = pid;
      replace_call(pid);
    } else if (call.entry.nr == SYS_execve && order_.whom == Whom::kWorkers) {
      // From here on it is a program of somebody else's, and may be seen: not as a traced one.
      return let_go(pid);
    }
    go_on(pid, 0);
  }

  void record(pid_t pid, const struct __ptrace_syscall_info& call) {
    const auto& words = call.entry.args;
    file_ << name_of(call.entry.nr);
    if (call.entry.nr == SYS_openat && (words[2] & O_CREAT) != 0) file_ << " creates";
    if (call.entry.nr == SYS_pwrite64) {
      // A frame of the journal: its magic, its version, its type.
      const std::string frame = memory_of(pid, words[1], 7);
      constexpr std::string_view kStart{"SQL1\1\0", 6};
      if (frame.size() == 7 && frame.starts_with(kStart)) file_ << " frame " << int{frame[6]};
    }
#ifdef SYS_rename
    if (call.entry.nr == SYS_rename) {
      const std::string path = memory_of(pid, words[0], 512);
      if (std::string_view(path.c_str()).ends_with(".lease.new")) file_ << " journal";
    }
#endif
    file_ << "\n";
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

  pid_t process_;
  Order order_;
  std::ofstream file_;
  bool begun_ = false;
  pid_t starter_ = 0;
  pid_t failing_ = 0;  // is in the call
  int count_ = 0;
  bool over_ = false;
};

[[noreturn]] void trace(pid_t process, const Order& order, int ready) {
  // With the descriptors of the traced nobody could see that it dies.
  if (ready != 3) ::dup3(ready, 3, O_CLOEXEC);
  ::syscall(SYS_close_range, 4u, ~0u, 0u);
  ::setsid();
  Tracer tracer{process, order};
  const char word = tracer.seize() ? 'y' : 'n';
  if (::write(3, &word, 1) != 1 || word == 'n') ::_exit(2);
  ::close(3);
  tracer.follow();
  ::_exit(0);
}

bool be_traced(const Order& order) {
  const pid_t itself = ::getpid();
  std::array<int, 2> ready{};
  if (::pipe2(ready.data(), O_CLOEXEC) != 0) return false;
  const pid_t between = ::fork();
  if (between == 0) {
    // The traced may know of no child.
    if (::fork() != 0) ::_exit(0);
    trace(itself, order, ready[1]);
  }
  int status = 0;
  char word = 'n';
  while (::waitpid(between, &status, 0) < 0 && errno == EINTR) {
  }
  ::close(ready[1]);
  const bool traced = ::read(ready[0], &word, 1) == 1 && word == 'y';
  ::close(ready[0]);
  ::close(kNothingOpen);
  return traced;
}

// Does what follows count this time? MARK is there from the first time on.
bool counts(bool only_first, const std::string& mark) {
  const int file = ::open(mark.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (file >= 0) ::close(file);
  return (file >= 0) == only_first;
}

}  // namespace

bool take_orders(std::vector<std::string>& words) {
  bool wanted = true;
  if (words.size() > 3 && words[0] == "once") {
    wanted = counts(words[1] == "first", words[2]);
    words.erase(words.begin(), words.begin() + 3);
  }
  if (words.size() < 6 || words[0] != "trace") return true;
  const Order order{.whom = words[1] == "starter"  ? Whom::kStarter
                            : words[1] == "worker" ? Whom::kWorkers
                                                   : Whom::kItself,
                    .file = words[2],
                    .call = ::seccomp_syscall_resolve_name(words[3].c_str()),
                    .number = std::atoi(words[4].c_str()),
                    .error = error_number(words[5])};
  words.erase(words.begin(), words.begin() + 6);
  return !wanted || be_traced(order);
}

}  // namespace squall::crash_sweep
