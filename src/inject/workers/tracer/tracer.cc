// The tracer: stops the threads of the target at each of their system calls, delays the chosen ones
// or makes them fail. The kernel lets all threads go when this process ends, however it ends; so
// nothing may ever be set in a thread that would be wrong without us. Hence:
// - a call fails by one step that takes its number away and sets its result;
// - we never detach, which would need another stop of each thread: we end.

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <queue>
#include <set>
#include <unordered_map>

#include "inject/caller.h"
#include "inject/json_fields.h"
#include "inject/process_table.h"
#include "inject/workers/confinement.h"
#include "inject/workers/packet_scheduler/delay_histogram.h"
#include "inject/workers/proc_view.h"
#include "inject/workers/quick_turns.h"
#include "inject/workers/tracer/tracer.h"
#include "inject/workers/workers.h"

namespace squall::inject {

namespace {

using base::Duration;
using base::Instant;
using base::Json;

constexpr Duration kListenEvery = std::chrono::milliseconds(20);  // beside SIGIO
// See quick_turns.h: however busy the target keeps us, we sleep this often.
constexpr Duration kNapEvery = std::chrono::milliseconds(100);
constexpr timespec kNap{.tv_sec = 0, .tv_nsec = 50'000};
constexpr int kMostRounds = 20;
constexpr std::size_t kMostThreads = 16'384;
constexpr std::size_t kNumbers = 1024;  // of system calls
constexpr int kInterruptedFirst = 512;  // ERESTARTSYS ... ERESTART_RESTARTBLOCK of the kernel
constexpr int kInterruptedLast = 516;
constexpr int kSystemCallStop = SIGTRAP | 0x80;  // PTRACE_O_TRACESYSGOOD
constexpr unsigned kCloseOnExec = 4;             // CLOSE_RANGE_CLOEXEC

#if defined(__x86_64__)
constexpr std::uint32_t kArchitecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr std::uint32_t kArchitecture = AUDIT_ARCH_AARCH64;
#else
constexpr std::uint32_t kArchitecture = 0;
#endif

// ptrace(2) takes pointers for numbers.
long trace(unsigned long request, pid_t id, unsigned long address, const void* data) {
  return ::syscall(SYS_ptrace, request, id, address, data);
}
long trace(unsigned long request, pid_t id, unsigned long address = 0, unsigned long data = 0) {
  return ::syscall(SYS_ptrace, request, id, address, data);
}

#if defined(__x86_64__)
// The thread stands at the entry: no call is made, and this is its result. One step for the kernel,
// so that it holds whenever we are killed.
bool refuse_call(pid_t id, int error) {
  user_regs_struct registers{};
  if (trace(PTRACE_GETREGS, id, 0, &registers) != 0) return false;
  registers.orig_rax = ~0ull;
  registers.rax = static_cast<unsigned long long>(-static_cast<long long>(error));
  return trace(PTRACE_SETREGS, id, 0, &registers) == 0;
}
// The thread stands at the exit.
bool replace_result(pid_t id, int error) {
  user_regs_struct registers{};
  if (trace(PTRACE_GETREGS, id, 0, &registers) != 0) return false;
  registers.rax = static_cast<unsigned long long>(-static_cast<long long>(error));
  return trace(PTRACE_SETREGS, id, 0, &registers) == 0;
}
#else
bool refuse_call(pid_t, int) {
  return false;
}
bool replace_result(pid_t, int) {
  return false;
}
#endif

struct Process {
  bool filtered = false;  // has a system call filter by now
  std::set<int> files;    // descriptors of files in the path that were open when we came
};

struct Thread {
  explicit Thread(pid_t its_process = 0) : process(its_process) {}
  pid_t process = 0;
  std::uint64_t held = 0;  // number of its place in the queue; 0: it runs
  Instant entered{};       // when it was held
  bool fail_at_exit = false;
  int copies = -1;  // the descriptor that it is making a copy of
};

class Tracer {
 public:
  Tracer(TracerConfiguration configuration, ProcView view, bool quick, WorkerChannel& channel)
      : configuration_(std::move(configuration)),
        view_(std::move(view)),
        quick_(quick),
        channel_(channel),
        model_(configuration_.interception, configuration_.seed) {
    for (const int number : configuration_.calls)
      everywhere_[static_cast<std::size_t>(number)] = true;
    for (const int number : configuration_.known_calls)
      on_known_[static_cast<std::size_t>(number)] = true;
    for (const int number : configuration_.any_calls)
      on_any_[static_cast<std::size_t>(number)] = true;
    on_files_ = !configuration_.path.empty();
    deadline_ = last_moment(configuration_.lifetime);
  }

  // Takes hold of all threads; those that are born meanwhile, too.
  base::Status seize() {
    for (int round = 0; round < kMostRounds; ++round) {
      SQUALL_ASSIGN(const auto table, read_process_table());
      const std::size_t before = threads_.size();
      for (const base::ProcessIdentity& target : configuration_.processes) {
        const auto tree = tree_of(table, target);
        if (tree.empty() && round == 0) {
          return base::Error{
              .code = base::ErrorCode::kNotFound,
              .message = fmt::format("process {} ended before it could be traced", target.pid)};
        }
        for (const ProcessEntry& entry : tree) {
          if (!configuration_.children && entry.identity != target) continue;
          if (entry.state == 'Z' || entry.state == 'X') continue;
          SQUALL_TRY(seize_process(entry.identity.pid));
        }
      }
      if (threads_.size() == before) break;
      if (threads_.size() > kMostThreads) {
        return base::Error{
            .code = base::ErrorCode::kUnsupported,
            .message = fmt::format("more than {} threads would be traced", kMostThreads),
            .hint = "choose fewer members"};
      }
    }
    if (!threads_.empty()) return {};
    return base::Error{.code = base::ErrorCode::kNotFound,
                       .message = "no thread of the targets is left to trace"};
  }

  base::Status enter_view() const { return view_.enter(); }

  // Until the starter is gone or the time is over.
  base::Status serve() {
    sigset_t stops;
    sigemptyset(&stops);
    sigaddset(&stops, SIGCHLD);
    sigaddset(&stops, SIGIO);
    report("ready");
    while (true) {
      for (int turns = 0; turns < 64; ++turns) {
        int status = 0;
        const pid_t id = ::waitpid(-1, &status, __WALL | WNOHANG);
        if (id <= 0) break;
        handle(id, status);
        if (!queue_.empty()) release_due(base::BootClock::now());
      }
      const Instant now = base::BootClock::now();
      release_due(now);
      if (now >= deadline_) {
        report("deadline");
        let_go();
        return {};
      }
      if (now >= next_report_ || (hits_ > 0 && !told_)) {
        told_ = told_ || hits_ > 0;
        report("running");
      }
      if (now >= next_listen_ && !listen(now)) {
        report("ended");
        let_go();
        return {};
      }
      if (now - last_nap_ > kNapEvery) {
        ::nanosleep(&kNap, nullptr);
        last_nap_ = now;
      }
      wait(stops, now);
    }
  }

 private:
  struct Held {
    Instant due;
    std::uint64_t number = 0;
    pid_t id = 0;
    bool operator>(const Held& other) const {
      return due != other.due ? due > other.due : number > other.number;
    }
  };

  base::Status seize_process(pid_t process) {
    for (const pid_t id : view_.threads(process)) {
      if (threads_.contains(id)) continue;
      const auto facts = view_.thread(id);
      if (!facts) continue;
      if (facts->seccomp != 0) SQUALL_TRY(check_filter(process));
      unsigned long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC;
      if (configuration_.children) options |= PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK;
      if (trace(PTRACE_SEIZE, id, 0, options) != 0) {
        if (errno == ESRCH) continue;
        const int error = errno;
        const auto now = view_.thread(id);
        const auto state = view_.ancestry(id);
        if (!now || !state || state->state == 'Z' || state->state == 'X') continue;
        // Born of a thread that is ours already.
        if (now->tracer != ::getpid()) return not_traced(process, now->tracer, error);
      } else {
        trace(PTRACE_INTERRUPT, id);
      }
      threads_[id] = Thread{process};
      if (!processes_.contains(process)) {
        processes_[process].filtered = facts->seccomp != 0;
        if (on_files_) find_files(process);
      }
    }
    return {};
  }

  base::Status check_filter(pid_t process) const {
    if (model_.interception().error == 0 || configuration_.afterwards) return {};
    return base::Error{.code = base::ErrorCode::kUnsupported,
                       .message = fmt::format("process {} has a system call filter (seccomp), "
                                              "which might kill it",
                                              process),
                       .hint = "delay the calls instead"};
  }

  static base::Error not_traced(pid_t process, pid_t tracer, int error) {
    if (tracer != 0) {
      return {.code = base::ErrorCode::kConflict,
              .message = fmt::format("process {} is being traced by process {}", process, tracer),
              .hint = "a process has one tracer only: end the debugger, strace or agent"};
    }
    base::Error result = base::system_error(fmt::format("trace process {}", process), error);
    if (error == EPERM) result.hint = "CAP_SYS_PTRACE is needed, and a Yama scope below 3";
    return result;
  }

  void find_files(pid_t process) {
    Process& found = processes_[process];
    for (const int descriptor : view_.descriptors(process)) {
      if (is_under(view_.link(process, descriptor), configuration_.path))
        found.files.insert(descriptor);
    }
    files_ += found.files.size();
  }

  void handle(pid_t id, int status) {
    if (WIFEXITED(status) || WIFSIGNALED(status)) return forget(id);
    if (!WIFSTOPPED(status)) return;
    const int signal = WSTOPSIG(status);
    const int event = status >> 16;
    Thread* thread = known(id);
    if (thread == nullptr) return;
    if (signal == kSystemCallStop) return handle_call(id, *thread);
    if (event == PTRACE_EVENT_STOP) {
      const bool group_stop =
          signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU;
      if (group_stop)
        trace(PTRACE_LISTEN, id);  // it stays stopped until somebody continues it
      else
        resume(id);
      return;
    }
    if (event == PTRACE_EVENT_EXEC) handle_exec(id, *thread);
    // Events of ours are no signals of the target's; everything else is passed on untouched.
    resume(id, event == 0 ? signal : 0);
  }

  void resume(pid_t id, int signal = 0) const {
    trace(PTRACE_SYSCALL, id, 0, static_cast<unsigned long>(signal));
  }

  // The kernel hands us the children of what we trace. Null: it is none of ours and was let go.
  Thread* known(pid_t id) {
    if (const auto found = threads_.find(id); found != threads_.end()) return &found->second;
    const auto facts = view_.thread(id);
    if (!facts) return &(threads_[id] = Thread{id});  // killed since
    const auto parent = processes_.find(facts->parent);
    if (!processes_.contains(facts->process)) {
      if (!configuration_.children) {
        trace(PTRACE_DETACH, id);  // a process made by clone(2)
        return nullptr;
      }
      Process process{.filtered = facts->seccomp != 0, .files = {}};
      if (parent != processes_.end()) process.files = parent->second.files;
      processes_[facts->process] = std::move(process);
    }
    return &(threads_[id] = Thread{facts->process});
  }

  void forget(pid_t id) {
    const auto found = threads_.find(id);
    if (found == threads_.end()) return;
    const pid_t process = found->second.process;
    threads_.erase(found);
    if (id == process) processes_.erase(process);
  }

  // All other threads are gone; the one that called execve has the number of the first now.
  void handle_exec(pid_t id, Thread& thread) {
    thread = Thread{id};
    std::erase_if(threads_,
                  [&](const auto& item) { return item.first != id && item.second.process == id; });
    Process& process = processes_[id];
    std::erase_if(process.files, [&](int descriptor) {
      return !is_under(view_.link(id, descriptor), configuration_.path);
    });
  }

  void handle_call(pid_t id, Thread& thread) {
    __ptrace_syscall_info information{};
    const long size = trace(PTRACE_GET_SYSCALL_INFO, id, sizeof information, &information);
    if (size > 0 && information.op == PTRACE_SYSCALL_INFO_ENTRY &&
        information.arch == kArchitecture && information.entry.nr < kNumbers) {
      ++calls_;
      if (enter(id, thread, information)) return;  // it waits
    } else if (size > 0 && information.op == PTRACE_SYSCALL_INFO_EXIT) {
      leave(id, thread, information.exit.rval);
    }
    resume(id);
  }

  // True when the thread is to stay where it is.
  bool enter(pid_t id, Thread& thread, const __ptrace_syscall_info& call) {
    const auto number = static_cast<std::size_t>(call.entry.nr);
    const auto found = processes_.find(thread.process);
    if (found == processes_.end()) return false;
    Process& process = found->second;
    if (number == SYS_seccomp || (number == SYS_prctl && call.entry.args[0] == PR_SET_SECCOMP))
      process.filtered = true;
    const bool hit = everywhere_[number] || concerns_file(thread.process, process, number, call);
    if (on_files_) follow_descriptors(thread, process, number, call);
    if (!hit) return false;
    ++met_;
    const InterceptionModel::Fate fate = model_.decide();
    if (!fate.hit) return false;
    if (fate.error != 0) {
      if (configuration_.afterwards) {
        thread.fail_at_exit = true;
      } else if (process.filtered) {
        ++spared_;
      } else if (refuse_call(id, fate.error)) {
        ++failed_;
        ++hits_;
      }
      return false;
    }
    ++hits_;
    thread.held = ++last_number_;
    thread.entered = base::BootClock::now();
    queue_.push({.due = thread.entered + fate.delay, .number = thread.held, .id = id});
    return true;
  }

  bool concerns_file(pid_t id, const Process& process, std::size_t number,
                     const __ptrace_syscall_info& call) const {
    const int descriptor = static_cast<int>(call.entry.args[0]);
    if (on_known_[number] && process.files.contains(descriptor)) return true;
    return on_any_[number] && is_under(view_.link(id, descriptor), configuration_.path);
  }

  static void follow_descriptors(Thread& thread, Process& process, std::size_t number,
                                 const __ptrace_syscall_info& call) {
    const auto first = static_cast<int>(call.entry.args[0]);
    switch (number) {
      case SYS_close:
        process.files.erase(first);
        break;
      case SYS_close_range: {
        if ((call.entry.args[2] & kCloseOnExec) != 0) break;
        const auto low = static_cast<unsigned>(call.entry.args[0]);
        const auto high = static_cast<unsigned>(call.entry.args[1]);
        std::erase_if(process.files, [&](int descriptor) {
          const auto value = static_cast<unsigned>(descriptor);
          return value >= low && value <= high;
        });
        break;
      }
      case SYS_dup:
#ifdef SYS_dup2
      case SYS_dup2:
#endif
      case SYS_dup3:
        thread.copies = first;
        break;
      case SYS_fcntl:
        if (call.entry.args[1] == F_DUPFD || call.entry.args[1] == F_DUPFD_CLOEXEC)
          thread.copies = first;
        break;
      default:
        break;
    }
  }

  void leave(pid_t id, Thread& thread, std::int64_t result) {
    if (thread.copies >= 0 && result >= 0) {
      auto& files = processes_[thread.process].files;
      if (files.contains(thread.copies))
        files.insert(static_cast<int>(result));
      else
        files.erase(static_cast<int>(result));
    }
    thread.copies = -1;
    if (!thread.fail_at_exit) return;
    thread.fail_at_exit = false;
    // Interrupted by a signal: it was not made, and the kernel makes it again.
    if (result <= -kInterruptedFirst && result >= -kInterruptedLast) return;
    if (!replace_result(id, model_.interception().error)) return;
    ++failed_;
    ++hits_;
  }

  void release_due(Instant now) {
    while (!queue_.empty() && queue_.top().due <= now) {
      const Held held = queue_.top();
      queue_.pop();
      const auto found = threads_.find(held.id);
      if (found == threads_.end() || found->second.held != held.number) continue;  // it died
      found->second.held = 0;
      delays_.add(now - found->second.entered);
      lateness_.add(now - held.due);
      resume(held.id);
    }
  }

  // A thread that is held while its tracer ends is woken as by a signal, which calls that Linux
  // does not make again answer with EINTR.
  void let_go() {
    for (auto& [id, thread] : threads_) {
      if (thread.held == 0) continue;
      thread.held = 0;
      trace(PTRACE_CONT, id);
    }
    // Who came to a stop meanwhile.
    int status = 0;
    for (pid_t id = 0; (id = ::waitpid(-1, &status, __WALL | WNOHANG)) > 0;) {
      const bool at_call = WIFSTOPPED(status) && WSTOPSIG(status) == (SIGTRAP | 0x80);
      if (at_call)
        trace(PTRACE_CONT, id);
      else
        handle(id, status);
    }
  }

  // False: it is over.
  bool listen(Instant now) {
    next_listen_ = now + kListenEvery;
    const auto heard = channel_.hear();
    return heard.ok() && *heard != "end";
  }

  void wait(const sigset_t& stops, Instant now) {
    Instant until = std::min(next_report_, deadline_);
    if (!queue_.empty()) until = std::min(until, queue_.top().due);
    const Duration left = until - now;
    if (left <= Duration::zero()) return;
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
    const timespec timeout{.tv_sec = seconds.count(), .tv_nsec = (left - seconds).count()};
    if (::sigtimedwait(&stops, nullptr, &timeout) == SIGIO) next_listen_ = {};
  }

  void report(const char* state) {
    next_report_ = base::BootClock::now() + kReportEvery;
    channel_.report({{"state", state},
                     {"number", ++reports_},
                     {"real_time", quick_},
                     {"threads", threads_.size()},
                     {"open_files", files_},
                     {"calls", calls_},
                     {"met", met_},
                     {"hit", hits_},
                     {"failed", failed_},
                     {"spared", spared_},
                     {"delayed", delays_.count()},
                     {"delay_p50_ns", delays_.quantile(0.5).count()},
                     {"late_p50_ns", lateness_.quantile(0.5).count()},
                     {"late_p99_ns", lateness_.quantile(0.99).count()}});
  }

  TracerConfiguration configuration_;
  ProcView view_;
  bool quick_;
  WorkerChannel& channel_;
  InterceptionModel model_;
  std::array<bool, kNumbers> everywhere_{};
  std::array<bool, kNumbers> on_known_{};
  std::array<bool, kNumbers> on_any_{};
  bool on_files_ = false;
  Instant deadline_;
  Instant next_report_;
  Instant next_listen_;
  Instant last_nap_ = base::BootClock::now();
  std::unordered_map<pid_t, Thread> threads_;
  std::unordered_map<pid_t, Process> processes_;
  std::priority_queue<Held, std::vector<Held>, std::greater<>> queue_;
  std::uint64_t last_number_ = 0;
  std::uint64_t reports_ = 0;
  std::uint64_t files_ = 0;  // descriptors found open
  std::uint64_t calls_ = 0;  // seen
  std::uint64_t met_ = 0;    // of those that are meant
  std::uint64_t hits_ = 0;   // held or failed
  std::uint64_t failed_ = 0;
  std::uint64_t spared_ = 0;  // not failed because of a filter
  bool told_ = false;
  DelayHistogram delays_;
  DelayHistogram lateness_;
};

// For a caller who is not root: from here on this process has the rights of those whom it traces.
// Then the kernel decides what it may, and a setuid program that they start gets no more rights.
base::Status become(const Account& account) {
  const pid_t parent = ::getppid();
  if (account.is_root() || ::setgroups(account.groups.size(), account.groups.data()) != 0 ||
      ::setresgid(account.group, account.group, account.group) != 0 ||
      ::setresuid(account.user, account.user, account.user) != 0)
    return base::system_error("give up the rights of root", errno);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // lost with the rights
  ::prctl(PR_SET_DUMPABLE, 0);
  if (::getppid() == parent) return {};
  return base::Error{.code = base::ErrorCode::kUnavailable, .message = "the starter is gone"};
}

base::Status run_tracer(const Json& json, WorkerChannel& channel) {
  SQUALL_ASSIGN(TracerConfiguration configuration, tracer_configuration_from_json(json));
  SQUALL_ASSIGN(ProcView view, ProcView::open());
  const bool on_files = !configuration.path.empty();
  const int folder = view.fd();
  const bool quick = ask_for_quick_turns();
  ::signal(SIGCHLD, SIG_DFL);
  sigset_t stops;
  sigemptyset(&stops);
  sigaddset(&stops, SIGCHLD);
  sigaddset(&stops, SIGIO);  // something was said to us
  ::sigprocmask(SIG_BLOCK, &stops, nullptr);
  if (::fcntl(channel.fd(), F_SETOWN, ::getpid()) != 0 ||
      ::fcntl(channel.fd(), F_SETFL, O_ASYNC | O_NONBLOCK) != 0)
    return base::system_error("ask to be told of messages", errno);
  Tracer tracer{std::move(configuration), std::move(view), quick, channel};
  const bool restricted_rights = field(json, "account").is_object();
  if (restricted_rights) SQUALL_TRY(become(account_from_json(field(json, "account"))));
  SQUALL_TRY(tracer.seize());
  // Without the rights of root it could not reach more than its traced processes anyway.
  if (!restricted_rights) SQUALL_TRY(tracer.enter_view());
  // What a target's descriptor shows is told only to those who may trace it.
  constexpr std::array<int, 2> kCapabilities{CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH};
  constexpr std::array<int, 2> kCalls{SCMP_SYS(wait4), SCMP_SYS(rt_sigtimedwait)};
  const auto at = static_cast<std::uint64_t>(folder);
  const std::array<RestrictedCall, 8> restricted{{
      {SCMP_SYS(ptrace), 0, PTRACE_SYSCALL},
      {SCMP_SYS(ptrace), 0, PTRACE_LISTEN},
      {SCMP_SYS(ptrace), 0, PTRACE_DETACH},
      {SCMP_SYS(ptrace), 0, PTRACE_GET_SYSCALL_INFO},
      {SCMP_SYS(ptrace), 0, PTRACE_GETREGS},
      {SCMP_SYS(ptrace), 0, PTRACE_SETREGS},
      {SCMP_SYS(openat), 0, at},
      {SCMP_SYS(readlinkat), 0, at},
  }};
  std::span<const int> capabilities = kCapabilities;
  if (!on_files || restricted_rights) capabilities = {};
  SQUALL_TRY(
      confine({.capabilities = capabilities, .system_calls = kCalls, .restricted = restricted}));
  return tracer.serve();
}

}  // namespace

extern const Worker kTracer;
const Worker kTracer{.name = "tracer", .run = run_tracer};

}  // namespace squall::inject
