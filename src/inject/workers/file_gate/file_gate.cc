// The file gate: answers the kernel, which holds accesses to marked files until then. Accesses of
// others than the targets are answered at once. It fails open: when this process ends, all that is
// held goes through, and so does what comes when too much is held.

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <queue>
#include <unordered_map>

#include "inject/json_fields.h"
#include "inject/workers/confinement.h"
#include "inject/workers/file_gate/file_gate.h"
#include "inject/workers/file_gate/permission_group.h"
#include "inject/workers/packet_scheduler/delay_histogram.h"
#include "inject/workers/proc_view.h"
#include "inject/workers/quick_turns.h"
#include "inject/workers/workers.h"

namespace squall::inject {

namespace {

using base::Duration;
using base::Instant;
using base::Json;

constexpr Duration kNapEvery = std::chrono::milliseconds(100);  // see quick_turns.h
constexpr timespec kNap{.tv_sec = 0, .tv_nsec = 50'000};
constexpr std::size_t kMostHeld = 4096;
constexpr std::size_t kRoom = 256;  // descriptors for what one read brings, and our own
constexpr std::size_t kLeastHeld = 64;
constexpr std::size_t kMostSeen = 8192;
// An access waits in its system call only some microseconds after it was told.
constexpr int kLooks = 200;

bool is_writing(int number) {
  constexpr std::array kWriting{
      SYS_write,     SYS_pwrite64,  SYS_writev,          SYS_pwritev,       SYS_pwritev2,
      SYS_truncate,  SYS_ftruncate, SYS_fallocate,       SYS_splice,        SYS_sendfile,
      SYS_io_submit, SYS_openat,    SYS_copy_file_range, SYS_io_uring_enter};
  return std::find(kWriting.begin(), kWriting.end(), number) != kWriting.end();
}

class FileGate {
 public:
  FileGate(FileGateConfiguration configuration, ProcView view, PermissionGroup group, bool quick,
           WorkerChannel& channel)
      : configuration_(std::move(configuration)),
        view_(std::move(view)),
        group_(std::move(group)),
        quick_(quick),
        channel_(channel),
        model_(configuration_.interception, configuration_.seed) {
    deadline_ = last_moment(configuration_.lifetime);
  }

  base::Status mark() {
    struct stat info {};
    if (::stat(configuration_.path.c_str(), &info) != 0)
      return base::system_error("look at " + configuration_.path, errno);
    const bool folder = S_ISDIR(info.st_mode);
    SQUALL_ASSIGN(const auto paths, marked_paths(configuration_.path, configuration_.tree));
    for (const std::string& path : paths) {
      auto marked = group_.mark(path, events() | (folder ? kOnChildren : 0), folder);
      if (marked.ok()) ++marks_;
      // One that was in it may be gone by now.
      else if (&path == &paths.front())
        return marked;
    }
    return {};
  }

  base::Status make_room() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return base::system_error("getrlimit", errno);
    limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, kMostHeld + kRoom);
    ::setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < kLeastHeld + kRoom) {
      return base::Error{
          .code = base::ErrorCode::kExhausted,
          .message = "too few descriptors are allowed to hold accesses to files",
          .hint = fmt::format("raise the hard limit: ulimit -Hn {}", kMostHeld + kRoom)};
    }
    most_held_ = static_cast<std::size_t>(limit.rlim_cur) - kRoom;
    return {};
  }

  // Until the starter is gone or the time is over.
  base::Status serve() {
    report("ready");
    while (true) {
      const bool spoken_to = wait();
      SQUALL_TRY(group_.receive([this](const HeldAccess& access) { take(access); }));
      const Instant now = base::BootClock::now();
      release_due(now);
      if (now >= deadline_) {
        report("deadline");
        return {};
      }
      if (now >= next_report_ || (hits_ > 0 && !told_)) {
        told_ = told_ || hits_ > 0;
        report("running");
      }
      if (spoken_to && !listen()) {
        report("ended");
        return {};
      }
      if (now - last_nap_ > kNapEvery) {
        ::nanosleep(&kNap, nullptr);
        last_nap_ = now;
      }
    }
  }

  int proc() const { return view_.fd(); }
  bool needs_to_tell_writes() const { return configuration_.writes && !configuration_.reads; }
  base::Status enter_view() const { return view_.enter(); }

 private:
  static constexpr std::uint64_t kOnChildren = 0x0800'0000;  // FAN_EVENT_ON_CHILD

  struct Seen {
    std::uint64_t start_time = 0;
    bool target = false;
  };

  struct Held {
    Instant due;
    std::uint64_t number = 0;
    Instant came;
    HeldAccess access;
    bool operator>(const Held& other) const {
      return due != other.due ? due > other.due : number > other.number;
    }
  };

  // A read raises two events where writes are watched, too; it is held once only.
  std::uint64_t events() const {
    std::uint64_t events = 0;
    if (configuration_.opens) events |= kOpenEvent;
    if (configuration_.writes)
      events |= kAnyAccessEvent;
    else if (configuration_.reads)
      events |= kReadEvent;
    return events;
  }

  bool listen() {
    const auto heard = channel_.hear();
    if (!heard.ok() || *heard == "end") return false;
    if (heard->starts_with(kJoinWord)) join(heard->substr(kJoinWord.size()));
    return true;
  }

  // One more target, which may have been seen as somebody else's process before.
  void join(const std::string& text) {
    const auto json = base::parse_json(text);
    if (!json.ok() || identity_of(*json).pid <= 1) return;
    configuration_.processes.push_back(identity_of(*json));
    seen_.clear();
    report("running");
  }

  // True when something was said to us.
  bool wait() const {
    Instant until = std::min(next_report_, deadline_);
    if (!held_.empty()) until = std::min(until, held_.top().due);
    const Duration left = std::max(Duration::zero(), until - base::BootClock::now());
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
    const timespec timeout{.tv_sec = seconds.count(), .tv_nsec = (left - seconds).count()};
    std::array<pollfd, 2> requests{{{.fd = group_.fd(), .events = POLLIN, .revents = 0},
                                    {.fd = channel_.fd(), .events = POLLIN, .revents = 0}}};
    return ::ppoll(requests.data(), requests.size(), &timeout, nullptr) > 0 &&
           requests[1].revents != 0;
  }

  void take(const HeldAccess& access) {
    const Instant now = base::BootClock::now();
    ++accesses_;
    if (!is_meant(access)) return let_go(access);
    ++met_;
    const InterceptionModel::Fate fate = model_.decide();
    if (!fate.hit) return let_go(access);
    if (fate.error != 0) {
      if (!group_.answer(access, fate.error)) return;
      ++failed_;
      ++hits_;
      return;
    }
    if (held_.size() >= most_held_) {
      ++too_many_;
      return let_go(access);
    }
    ++hits_;
    held_.push({.due = now + fate.delay, .number = ++last_number_, .came = now, .access = access});
  }

  bool is_meant(const HeldAccess& access) {
    if (access.thread <= 0 || !is_target(access.thread)) return false;
    if (!configuration_.users.empty() && !is_permitted(access.thread)) return false;
    const bool ambiguous = (access.events & kAnyAccessEvent) != 0 && !configuration_.reads;
    return !ambiguous || writes(access.thread);
  }

  // Known for each thread from its first access on, also when its parents end meanwhile. Others
  // wait for us, too: one look into /proc must do for them.
  bool is_target(pid_t thread) {
    const auto now = view_.ancestry(thread);
    if (!now) return false;
    if (const auto found = seen_.find(thread);
        found != seen_.end() && found->second.start_time == now->identity.start_time)
      return found->second.target;
    const auto facts = view_.thread(thread);
    if (!facts) return false;
    const bool target = view_.descends(facts->process, configuration_.processes);
    if (seen_.size() >= kMostSeen) seen_.clear();
    seen_[thread] = {.start_time = now->identity.start_time, .target = target};
    return target;
  }

  // Asked each time: a process gets other rights when it starts a setuid program. It waits for us
  // in its system call, so they are those of this very access.
  bool is_permitted(pid_t thread) const {
    const auto facts = view_.thread(thread);
    const auto& users = configuration_.users;
    return facts && facts->user &&
           std::find(users.begin(), users.end(), *facts->user) != users.end();
  }

  bool writes(pid_t thread) const {
    for (int look = 0; look < kLooks; ++look) {
      if (const int number = view_.waits_in(thread); number >= 0) return is_writing(number);
      ::nanosleep(&kNap, nullptr);
    }
    return false;
  }

  void let_go(const HeldAccess& access) const { group_.answer(access, 0); }

  void release_due(Instant now) {
    while (!held_.empty() && held_.top().due <= now) {
      const Held& held = held_.top();
      group_.answer(held.access, 0);
      delays_.add(now - held.came);
      lateness_.add(now - held.due);
      held_.pop();
    }
  }

  void report(const char* state) {
    next_report_ = base::BootClock::now() + kReportEvery;
    channel_.report({{"state", state},
                     {"number", ++reports_},
                     {"real_time", quick_},
                     {"marks", marks_},
                     {"targets", configuration_.processes.size()},
                     {"group", group_.fd()},
                     {"accesses", accesses_},
                     {"met", met_},
                     {"hit", hits_},
                     {"failed", failed_},
                     {"held", held_.size()},
                     {"too_many", too_many_},
                     {"delayed", delays_.count()},
                     {"delay_p50_ns", delays_.quantile(0.5).count()},
                     {"late_p50_ns", lateness_.quantile(0.5).count()},
                     {"late_p99_ns", lateness_.quantile(0.99).count()}});
  }

  FileGateConfiguration configuration_;
  ProcView view_;
  PermissionGroup group_;
  bool quick_;
  WorkerChannel& channel_;
  InterceptionModel model_;
  Instant deadline_;
  Instant next_report_;
  Instant last_nap_ = base::BootClock::now();
  std::size_t most_held_ = kLeastHeld;
  std::priority_queue<Held, std::vector<Held>, std::greater<>> held_;
  std::unordered_map<pid_t, Seen> seen_;
  std::uint64_t last_number_ = 0;
  std::uint64_t reports_ = 0;
  std::uint64_t marks_ = 0;
  std::uint64_t accesses_ = 0;
  std::uint64_t met_ = 0;   // of the targets, and of the wanted kind
  std::uint64_t hits_ = 0;  // held or failed
  std::uint64_t failed_ = 0;
  std::uint64_t too_many_ = 0;  // passed, for too many were held
  bool told_ = false;
  DelayHistogram delays_;
  DelayHistogram lateness_;
};

base::Status run_file_gate(const Json& json, WorkerChannel& channel) {
  SQUALL_ASSIGN(FileGateConfiguration configuration, file_gate_configuration_from_json(json));
  SQUALL_ASSIGN(ProcView view, ProcView::open());
  SQUALL_ASSIGN(PermissionGroup group, PermissionGroup::open());
  const bool quick = ask_for_quick_turns();
  FileGate gate{std::move(configuration), std::move(view), std::move(group), quick, channel};
  SQUALL_TRY(gate.make_room());
  SQUALL_TRY(gate.mark());
  SQUALL_TRY(gate.enter_view());
  // In which call another user's thread waits is told only to those who may trace it.
  constexpr std::array<int, 2> kCapabilities{CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH};
  const std::array<RestrictedCall, 1> restricted{
      {{SCMP_SYS(openat), 0, static_cast<std::uint64_t>(gate.proc())}}};
  std::span<const int> capabilities = kCapabilities;
  if (!gate.needs_to_tell_writes()) capabilities = {};
  SQUALL_TRY(confine({.capabilities = capabilities, .system_calls = {}, .restricted = restricted}));
  return gate.serve();
}

// For rehearsals: opens and reads {"file": path} once.
base::Status run_file_reader(const Json& json, WorkerChannel& channel) {
  channel.report({{"state", "ready"}});
  const base::UniqueFd file{::open(text_field(json, "file").c_str(), O_RDONLY | O_CLOEXEC)};
  std::array<char, 16> text{};
  const ssize_t got = file ? ::read(file.get(), text.data(), text.size()) : -1;
  channel.report({{"state", "done"}, {"errno", got < 0 ? errno : 0}});
  return {};
}

}  // namespace

extern const Worker kFileGate;
const Worker kFileGate{.name = "file_gate", .run = run_file_gate};
extern const Worker kFileReader;
const Worker kFileReader{.name = "file_reader", .run = run_file_reader};

}  // namespace squall::inject
