// The stopper: keeps every thread of its targets in a stop of ptrace. Nothing of theirs runs until
// this process ends, however it ends; then the kernel lets all of them go on, and what somebody
// stopped by a signal stays stopped. It never resumes a thread and never detaches from one.

#include <fcntl.h>
#include <fmt/format.h>
#include <seccomp.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <map>

#include "inject/json_fields.h"
#include "inject/process_table.h"
#include "inject/workers/confinement.h"
#include "inject/workers/proc_view.h"
#include "inject/workers/workers.h"

namespace squall::inject {

namespace {

using base::Duration;
using base::Instant;
using base::Json;

constexpr Duration kStopLimit = std::chrono::seconds(5);
constexpr timespec kNap{.tv_sec = 0, .tv_nsec = 200'000};
constexpr std::size_t kMostThreads = 16'384;

// ptrace(2) takes pointers for numbers.
long trace(unsigned long request, pid_t id, unsigned long data = 0) {
  return ::syscall(SYS_ptrace, request, id, 0ul, data);
}

class Stopper {
 public:
  Stopper(std::vector<base::ProcessIdentity> targets, ProcView view, WorkerChannel& channel)
      : targets_(std::move(targets)), view_(std::move(view)), channel_(channel) {}

  // Until a look at the trees finds no thread that is not in hand and stopped.
  base::Status stop_all() {
    const Instant limit = base::BootClock::now() + kStopLimit;
    while (true) {
      SQUALL_ASSIGN(const bool grown, seize_new());
      take_stops();
      if (threads_.empty()) {
        return base::Error{.code = base::ErrorCode::kNotFound,
                           .message = "no process of the targets is left"};
      }
      if (!grown && stopped() == threads_.size()) return {};
      if (threads_.size() > kMostThreads) {
        return base::Error{.code = base::ErrorCode::kUnsupported,
                           .message = fmt::format("more than {} threads to stop", kMostThreads),
                           .hint = "choose fewer members, or another `mechanism`"};
      }
      if (base::BootClock::now() > limit) {
        return base::Error{
            .code = base::ErrorCode::kTimeout,
            .message = fmt::format("{} of {} threads do not stop", threads_.size() - stopped(),
                                   threads_.size()),
            .hint = "they wait in the kernel (state D), or more are born all the time"};
      }
      ::nanosleep(&kNap, nullptr);
    }
  }

  base::Status enter_view() const { return view_.enter(); }

  base::Status hold(Instant deadline) {
    sigset_t awaited;
    sigemptyset(&awaited);
    sigaddset(&awaited, SIGCHLD);
    sigaddset(&awaited, SIGIO);
    report("holding");
    Instant next = base::BootClock::now() + kReportEvery;
    while (true) {
      const auto heard = channel_.hear();
      if (!heard.ok() || *heard == "end") return {};
      take_stops();  // of those who were killed
      const Instant now = base::BootClock::now();
      if (now >= deadline) return {};
      if (now >= next) {
        report("holding");
        next = now + kReportEvery;
      }
      const Duration left = std::max(Duration{1'000'000}, std::min(next, deadline) - now);
      const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
      const timespec timeout{.tv_sec = seconds.count(), .tv_nsec = (left - seconds).count()};
      ::sigtimedwait(&awaited, nullptr, &timeout);
    }
  }

 private:
  base::Result<bool> seize_new() {
    bool grown = false;
    SQUALL_ASSIGN(const auto table, read_process_table());
    for (const base::ProcessIdentity& target : targets_) {
      for (const ProcessEntry& entry : tree_of(table, target)) {
        if (entry.state == 'Z' || entry.state == 'X') continue;
        for (const pid_t id : view_.threads(entry.identity.pid)) {
          if (threads_.contains(id)) continue;
          SQUALL_ASSIGN(const bool ours, seize(id));
          grown = grown || ours;
        }
      }
    }
    return grown;
  }

  // False: it has ended.
  base::Result<bool> seize(pid_t id) {
    constexpr unsigned long kOptions =
        PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK;
    if (trace(PTRACE_SEIZE, id, kOptions) == 0) {
      trace(PTRACE_INTERRUPT, id);
      threads_.try_emplace(id, false);
      return true;
    }
    const int error = errno;
    const auto facts = view_.thread(id);
    const auto state = view_.ancestry(id);
    if (!facts || !state || state->state == 'Z' || state->state == 'X') return false;
    if (facts->tracer == ::getpid()) {  // born of a thread that is ours already
      threads_.try_emplace(id, false);
      return true;
    }
    if (facts->tracer != 0) {
      return base::Error{
          .code = base::ErrorCode::kConflict,
          .message = fmt::format("thread {} is being traced by process {}", id, facts->tracer),
          .hint = "a process has one tracer only: end the debugger, strace or agent"};
    }
    base::Error result = base::system_error(fmt::format("trace thread {}", id), error);
    if (error == EPERM) result.hint = "CAP_SYS_PTRACE is needed, and a Yama scope below 3";
    return result;
  }

  // Whatever a thread stops for, it stays there.
  void take_stops() {
    int status = 0;
    for (pid_t id = 0; (id = ::waitpid(-1, &status, __WALL | WNOHANG)) > 0;) {
      if (WIFSTOPPED(status))
        threads_[id] = true;
      else
        threads_.erase(id);
    }
  }

  std::size_t stopped() const {
    std::size_t count = 0;
    for (const auto& [id, is_stopped] : threads_) count += is_stopped ? 1 : 0;
    return count;
  }

  void report(const char* state) {
    channel_.report({{"state", state}, {"number", ++reports_}, {"threads", threads_.size()}});
  }

  std::vector<base::ProcessIdentity> targets_;
  ProcView view_;
  WorkerChannel& channel_;
  std::map<pid_t, bool> threads_;  // and whether it has stopped
  std::uint64_t reports_ = 0;
};

base::Status run_stopper(const Json& json, WorkerChannel& channel) {
  std::vector<base::ProcessIdentity> targets;
  for (const Json& item : field(json, "processes")) targets.push_back(identity_of(item));
  const Instant deadline = last_moment(Duration{integer_field(json, "lifetime_ns")});
  SQUALL_ASSIGN(ProcView view, ProcView::open());
  ::signal(SIGCHLD, SIG_DFL);
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGCHLD);
  sigaddset(&signals, SIGIO);  // something was said to us
  ::sigprocmask(SIG_BLOCK, &signals, nullptr);
  if (::fcntl(channel.fd(), F_SETOWN, ::getpid()) != 0 ||
      ::fcntl(channel.fd(), F_SETFL, O_ASYNC | O_NONBLOCK) != 0)
    return base::system_error("ask to be told of messages", errno);
  Stopper stopper{std::move(targets), std::move(view), channel};
  SQUALL_TRY(stopper.stop_all());
  SQUALL_TRY(stopper.enter_view());
  constexpr std::array<int, 2> kCalls{SCMP_SYS(wait4), SCMP_SYS(rt_sigtimedwait)};
  SQUALL_TRY(confine({.capabilities = {}, .system_calls = kCalls}));
  return stopper.hold(deadline);
}

}  // namespace

extern const Worker kStopper;
const Worker kStopper{.name = "stopper", .run = run_stopper};

}  // namespace squall::inject
