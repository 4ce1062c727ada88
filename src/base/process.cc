#include "base/process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/files.h"
#include "base/units.h"

// glibc's other name for clone(3). ThreadSanitizer intercepts the usual one and takes the child,
// which shares our memory until it calls exec, for a copy of the process.
extern "C" int squall_clone(int (*function)(void*), void* stack, int flags, void* argument,
                            ...) noexcept __asm__("__clone");

namespace squall::base {

namespace {

constexpr std::size_t kChildStackSize = 64 * 1024;
constexpr Duration kKillGrace =
    std::chrono::seconds(5);  // a killed process may be stuck in the kernel

// What the child was doing when a system call failed.
enum class ChildStep {
  kNone,
  kSession,
  kDescriptors,
  kGroups,
  kUser,
  kPrivileges,
  kDirectory,
  kDeathSignal,
  kExec
};

struct KernelSignalAction {
  std::uintptr_t handler;
  unsigned long flags;
  std::uintptr_t restorer;
  unsigned long mask;
};

// Everything the child needs, made by the parent: the child shares our memory and may not allocate.
struct ChildPlan {
  const char* program = nullptr;
  std::vector<char*> argv;
  std::vector<char*> environment;
  const char* directory = nullptr;
  std::vector<int> sources;  // descriptors of ours; the child overwrites them with its high copies
  std::vector<int> targets;  // their numbers in the child, ascending
  bool drop = false;
  uid_t user = static_cast<uid_t>(-1);  // -1: unchanged, as setresuid(2) has it
  gid_t group = static_cast<gid_t>(-1);
  std::vector<gid_t> groups;
  bool no_new_privileges = false;
  bool new_session = false;
  int death_signal = 0;
  pid_t parent = 0;
  KernelSignalAction action{};
  unsigned long no_signals = 0;
  ChildStep failed_step = ChildStep::kNone;
  int failed_errno = 0;
};

#define SQUALL_CHILD_CODE __attribute__((no_sanitize("address", "thread", "undefined")))

// The functions below run in the child, on memory shared with the waiting parent. They make raw
// system calls only: libc's setresuid would signal the parent's threads, and its sigaction (or a
// sanitizer's) would change the parent's tables.

SQUALL_CHILD_CODE void reset_signals(ChildPlan& plan) {
  for (int number = 1; number <= 64; ++number) {
    if (syscall(SYS_rt_sigaction, number, nullptr, &plan.action, sizeof(unsigned long)) != 0)
      continue;
    const bool caught = plan.action.handler != 0 && plan.action.handler != 1;  // SIG_DFL, SIG_IGN
    if (!caught && number != SIGPIPE && number != SIGXFSZ) continue;
    plan.action.handler = 0;
    plan.action.flags = 0;
    plan.action.restorer = 0;
    plan.action.mask = 0;
    syscall(SYS_rt_sigaction, number, &plan.action, nullptr, sizeof(unsigned long));
  }
}

// Puts each source at its target number and closes all else. Sources are first copied above all
// targets, so that no target overwrites a source still needed.
SQUALL_CHILD_CODE bool place_descriptors(ChildPlan& plan) {
  const std::size_t count = plan.targets.size();
  int* sources = plan.sources.data();
  const int* targets = plan.targets.data();
  const int above = targets[count - 1] + 1;
  for (std::size_t i = 0; i < count; ++i) {
    sources[i] = static_cast<int>(syscall(SYS_fcntl, sources[i], F_DUPFD_CLOEXEC, above));
    if (sources[i] < 0) return false;
  }
  for (std::size_t i = 0; i < count; ++i) {
    if (syscall(SYS_dup3, sources[i], targets[i], 0) < 0) return false;
  }
  for (std::size_t i = 0; i < count; ++i) {
    const unsigned first = static_cast<unsigned>(targets[i]) + 1;
    const unsigned last = i + 1 < count ? static_cast<unsigned>(targets[i + 1]) - 1 : ~0u;
    if (first > last) continue;
    // Before Linux 5.9 there is no such call; ours are close-on-exec anyway.
    if (syscall(SYS_close_range, first, last, 0) != 0 && errno != ENOSYS) return false;
  }
  return true;
}

SQUALL_CHILD_CODE ChildStep prepare_child(ChildPlan& plan) {
  reset_signals(plan);
  if (plan.new_session && syscall(SYS_setsid) < 0) return ChildStep::kSession;
  if (!place_descriptors(plan)) return ChildStep::kDescriptors;
  if (plan.drop) {
    if (syscall(SYS_setgroups, plan.groups.size(), plan.groups.data()) != 0)
      return ChildStep::kGroups;
    if (syscall(SYS_setresgid, plan.group, plan.group, plan.group) != 0) return ChildStep::kGroups;
    if (syscall(SYS_setresuid, plan.user, plan.user, plan.user) != 0) return ChildStep::kUser;
  }
  if (plan.no_new_privileges && syscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
    return ChildStep::kPrivileges;
  if (plan.directory != nullptr && syscall(SYS_chdir, plan.directory) != 0)
    return ChildStep::kDirectory;
  // After the change of user, which clears it (prctl(2)).
  if (plan.death_signal != 0) {
    if (syscall(SYS_prctl, PR_SET_PDEATHSIG, plan.death_signal, 0, 0, 0) != 0)
      return ChildStep::kDeathSignal;
    if (syscall(SYS_getppid) != plan.parent) {  // it died before the call above
      errno = ESRCH;
      return ChildStep::kDeathSignal;
    }
  }
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &plan.no_signals, nullptr, sizeof(unsigned long));
  syscall(SYS_execve, plan.program, plan.argv.data(), plan.environment.data());
  return ChildStep::kExec;
}

SQUALL_CHILD_CODE int child_main(void* argument) {
  auto& plan = *static_cast<ChildPlan*>(argument);
  plan.failed_step = prepare_child(plan);
  plan.failed_errno = errno;
  syscall(SYS_exit_group, 127);
  return 127;
}

// A stack for the moment before exec, with a page below it that catches an overflow.
class ChildStack {
 public:
  ChildStack() {
    void* memory = ::mmap(nullptr, kChildStackSize, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (memory == MAP_FAILED) return;
    memory_ = memory;
    ::mprotect(memory_, 4096, PROT_NONE);
  }
  ChildStack(const ChildStack&) = delete;
  ChildStack& operator=(const ChildStack&) = delete;
  ~ChildStack() {
    if (memory_ != nullptr) ::munmap(memory_, kChildStackSize);
  }
  void* top() const {
    return memory_ == nullptr ? nullptr : static_cast<char*>(memory_) + kChildStackSize;
  }

 private:
  void* memory_ = nullptr;
};

Error no_such_program(const std::string& name) {
  return Error{.code = ErrorCode::kNotFound,
               .message = fmt::format("there is no program `{}` in PATH", name),
               .hint = "install it, or give its full path"};
}

Result<std::string> find_program(const SpawnOptions& options) {
  const std::string& name = options.argv[0];
  if (name.find('/') != std::string::npos) return name;
  const char* ours = std::getenv("PATH");
  std::string path = ours != nullptr ? ours : "/usr/local/bin:/usr/bin:/bin";
  if (options.environment) {
    if (const auto theirs = options.environment->find("PATH"); theirs != options.environment->end())
      path = theirs->second;
  }
  bool found_unusable = false;
  for (std::size_t start = 0; start <= path.size();) {
    const std::size_t end = std::min(path.find(':', start), path.size());
    const std::string folder = path.substr(start, end - start);
    start = end + 1;
    if (!folder.starts_with('/')) continue;  // never a program from wherever we happen to be
    const std::string candidate = join_path(folder, name);
    struct stat status {};
    if (::stat(candidate.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) continue;
    if (::access(candidate.c_str(), X_OK) == 0) return candidate;
    found_unusable = true;
  }
  if (!found_unusable) return no_such_program(name);
  return Error{.code = ErrorCode::kPermission,
               .message = fmt::format("`{}` in PATH may not be executed", name),
               .hint = "check its permissions"};
}

// The user's own groups, as login would set them.
std::vector<gid_t> groups_of(uid_t user, gid_t& group, bool group_given) {
  std::vector<char> buffer(16384);
  passwd entry{};
  passwd* found = nullptr;
  if (::getpwuid_r(user, &entry, buffer.data(), buffer.size(), &found) != 0 || found == nullptr) {
    if (!group_given) group = static_cast<gid_t>(user);
    return {group};
  }
  if (!group_given) group = found->pw_gid;
  std::vector<gid_t> groups(64);
  int count = static_cast<int>(groups.size());
  if (::getgrouplist(found->pw_name, group, groups.data(), &count) < 0) {
    groups.resize(static_cast<std::size_t>(count));
    if (::getgrouplist(found->pw_name, group, groups.data(), &count) < 0) return {group};
  }
  groups.resize(static_cast<std::size_t>(count));
  return groups;
}

void plan_identity(const SpawnOptions& options, ChildPlan& plan) {
  const bool same_user =
      !options.user || (*options.user == ::getuid() && *options.user == ::geteuid());
  const bool same_group =
      !options.group || (*options.group == ::getgid() && *options.group == ::getegid());
  // Without privilege, becoming who we are already must not fail.
  if (same_user && same_group && (::geteuid() != 0 || (!options.user && !options.group))) return;
  plan.drop = true;
  plan.user = options.user.value_or(static_cast<uid_t>(-1));
  plan.group = options.group.value_or(static_cast<gid_t>(-1));
  if (options.supplementary_groups)
    plan.groups = *options.supplementary_groups;
  else if (options.user)
    plan.groups = groups_of(*options.user, plan.group, options.group.has_value());
  else
    plan.groups = {plan.group};
}

// The descriptors of the child, by ascending number.
Status plan_descriptors(const SpawnOptions& options, int null_fd, ChildPlan& plan) {
  std::vector<std::pair<int, int>> moves;  // theirs, ours
  const auto standard = [&](int fd) { return fd >= 0 ? fd : null_fd; };
  moves.emplace_back(0, standard(options.standard_input));
  moves.emplace_back(1, standard(options.standard_output));
  moves.emplace_back(2, standard(options.standard_error));
  for (const auto& [ours, theirs] : options.pass) moves.emplace_back(theirs, ours);
  std::sort(moves.begin(), moves.end());
  for (std::size_t i = 0; i < moves.size(); ++i) {
    if (moves[i].first < 0 || (i > 0 && moves[i].first == moves[i - 1].first))
      return Error{.message =
                       fmt::format("descriptor {} is given to a child twice", moves[i].first)};
    plan.targets.push_back(moves[i].first);
    plan.sources.push_back(moves[i].second);
  }
  return {};
}

Error exec_error(const SpawnOptions& options, const std::string& program, int error_number) {
  const std::string& name = options.argv[0];
  Error error = system_error(fmt::format("start {}", name), error_number);
  if (error_number == ENOENT) {
    const bool relative = !program.starts_with('/') && !options.working_directory.empty();
    const std::string full = relative ? options.working_directory + "/" + program : program;
    if (::access(full.c_str(), F_OK) == 0) {
      error.hint = "the interpreter named in its first line is missing";
    } else {
      error = Error{.code = ErrorCode::kNotFound,
                    .message = fmt::format("there is no program {}", full),
                    .hint = "check the path, or install it"};
    }
  } else if (error_number == EACCES) {
    error.hint = "check its permissions, and those of the folders above it";
  } else if (error_number == ENOEXEC) {
    error.code = ErrorCode::kUnsupported;
    error.hint = "a script needs a first line such as #!/usr/bin/env python3";
  } else if (error_number == E2BIG) {
    error.code = ErrorCode::kUsage;
    error.hint = "shorten the arguments or the environment";
  }
  return error;
}

Error child_error(const SpawnOptions& options, const ChildPlan& plan) {
  const std::string& name = options.argv[0];
  const int number = plan.failed_errno;
  switch (plan.failed_step) {
    case ChildStep::kSession:
      return system_error(fmt::format("start {}: setsid", name), number);
    case ChildStep::kDescriptors:
      return system_error(fmt::format("start {}: hand over descriptors", name), number);
    case ChildStep::kGroups:
    case ChildStep::kUser: {
      Error error = system_error(fmt::format("start {} as user {}", name, plan.user), number);
      if (number == EPERM) error.hint = "this needs root (CAP_SETUID and CAP_SETGID)";
      return error;
    }
    case ChildStep::kPrivileges:
      return system_error(fmt::format("start {}: give up new privileges", name), number);
    case ChildStep::kDirectory:
      return system_error(fmt::format("start {} in {}", name, options.working_directory), number);
    case ChildStep::kDeathSignal:
      return system_error(fmt::format("start {}: set its parent-death signal", name), number);
    case ChildStep::kNone:
    case ChildStep::kExec:
      break;
  }
  return exec_error(options, plan.program, number);
}

void reap(int pidfd) {
  siginfo_t info{};
  while (::waitid(P_PIDFD, static_cast<id_t>(pidfd), &info, WEXITED) != 0 && errno == EINTR) {
  }
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> result;
  result.reserve(texts.size() + 1);
  for (std::string& text : texts) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

// Waits until the pidfd says that the process has ended; false at the deadline.
bool wait_for_end(int pidfd, Instant deadline) {
  while (true) {
    const Duration left = std::max(Duration::zero(), deadline - BootClock::now());
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
    const timespec timeout{.tv_sec = seconds.count(), .tv_nsec = (left - seconds).count()};
    pollfd request{.fd = pidfd, .events = POLLIN, .revents = 0};
    const int ready = ::ppoll(&request, 1, &timeout, nullptr);
    if (ready > 0) return true;
    if (ready == 0 && left == Duration::zero()) return false;
    SQUALL_CHECK(ready >= 0 || errno == EINTR);
  }
}

Instant deadline_after(Duration limit) {
  const Instant now = BootClock::now();
  return limit > Instant::max() - now ? Instant::max() : now + limit;
}

}  // namespace

Result<int> ChildProcess::wait(Duration limit) {
  if (status_) return *status_;
  SQUALL_CHECK(pidfd_.valid());
  if (!wait_for_end(pidfd_.get(), deadline_after(limit))) {
    return Error{.code = ErrorCode::kTimeout,
                 .message = fmt::format("process {} still runs after {}", pid(), humanize(limit))};
  }
  siginfo_t info{};
  while (::waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED) != 0) {
    if (errno != EINTR) return system_error(fmt::format("wait for process {}", pid()), errno);
  }
  // The encoding of wait(2), which the W... macros take apart.
  status_ = info.si_code == CLD_EXITED ? (info.si_status & 0xFF) << 8
                                       : info.si_status | (info.si_code == CLD_DUMPED ? 0x80 : 0);
  return *status_;
}

Result<ChildProcess> spawn(const SpawnOptions& options) {
  if (options.argv.empty() || options.argv[0].empty())
    return Error{.code = ErrorCode::kUsage, .message = "a command needs at least a program"};
  SQUALL_ASSIGN(const std::string program, find_program(options));
  const UniqueFd null_fd{::open("/dev/null", O_RDWR | O_CLOEXEC)};
  if (!null_fd.valid()) return system_error("open /dev/null", errno);

  ChildPlan plan;
  plan.program = program.c_str();
  std::vector<std::string> argv = options.argv;
  plan.argv = pointers(argv);
  std::vector<std::string> environment;
  if (options.environment) {
    for (const auto& [name, value] : *options.environment)
      environment.push_back(fmt::format("{}={}", name, value));
  } else {
    for (char** entry = ::environ; entry != nullptr && *entry != nullptr; ++entry)
      environment.emplace_back(*entry);
  }
  plan.environment = pointers(environment);
  if (!options.working_directory.empty()) plan.directory = options.working_directory.c_str();
  SQUALL_TRY(plan_descriptors(options, null_fd.get(), plan));
  plan_identity(options, plan);
  plan.no_new_privileges = options.no_new_privileges;
  plan.new_session = options.new_session;
  plan.death_signal = options.parent_death_signal.value_or(0);
  plan.parent = ::getpid();

  const ChildStack stack;
  if (stack.top() == nullptr) return system_error("allocate a stack", errno);
  // No handler of ours may run in the child while it shares our memory.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int pidfd = -1;
  const pid_t pid = squall_clone(child_main, stack.top(),
                                 CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, &plan, &pidfd);
  const int clone_errno = errno;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (pid < 0) return system_error(fmt::format("start {}", options.argv[0]), clone_errno);
  UniqueFd owned{pidfd};
  if (plan.failed_step != ChildStep::kNone) {
    reap(pidfd);
    return child_error(options, plan);
  }
  // The child is ours and not yet waited for, so its number cannot belong to anybody else.
  auto identity = identify_process(pid);
  if (!identity.ok()) {
    ::kill(pid, SIGKILL);
    reap(pidfd);
    return std::move(identity).error().within(fmt::format("starting {}", options.argv[0]));
  }
  ChildProcess child;
  child.pidfd_ = PidFd{std::move(owned), *identity};
  return child;
}

namespace {

struct Pipe {
  UniqueFd read_end;
  UniqueFd write_end;
};

Result<Pipe> make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return system_error("create a pipe", errno);
  Pipe pipe{UniqueFd{ends[0]}, UniqueFd{ends[1]}};
  // Only our end: the program expects an ordinary one.
  if (::fcntl(pipe.read_end.get(), F_SETFL, O_NONBLOCK) != 0)
    return system_error("prepare a pipe", errno);
  return pipe;
}

// Takes what is there now. Beyond `limit` it is read and dropped, so that the writer never blocks.
// Closes the pipe at its end.
void drain(UniqueFd& pipe, std::string& into, std::size_t limit) {
  std::array<char, 16384> buffer;
  while (pipe.valid()) {
    const ssize_t got = ::read(pipe.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
      pipe.reset();
      return;
    }
    const std::size_t room = limit - std::min(limit, into.size());
    into.append(buffer.data(), std::min(room, static_cast<std::size_t>(got)));
  }
}

// Collects output until the child ends; false when the deadline comes first. It does not wait for
// the pipes to close: a daemon that the command started may keep them open for ever.
bool collect(const ChildProcess& child, UniqueFd& output_pipe, UniqueFd& error_pipe,
             CommandOutput& result, std::size_t limit, Instant deadline) {
  while (true) {
    const Duration left = std::max(Duration::zero(), deadline - BootClock::now());
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
    const timespec timeout{.tv_sec = seconds.count(), .tv_nsec = (left - seconds).count()};
    std::array<pollfd, 3> requests{
        pollfd{.fd = child.pidfd().get(), .events = POLLIN, .revents = 0},
        pollfd{.fd = output_pipe.get(), .events = POLLIN, .revents = 0},  // -1 is skipped
        pollfd{.fd = error_pipe.get(), .events = POLLIN, .revents = 0}};
    const int ready = ::ppoll(requests.data(), requests.size(), &timeout, nullptr);
    SQUALL_CHECK(ready >= 0 || errno == EINTR);
    if (ready < 0) continue;
    drain(output_pipe, result.output, limit);
    drain(error_pipe, result.error, limit);
    if (requests[0].revents != 0) return true;
    if (left == Duration::zero()) return false;
  }
}

}  // namespace

Result<CommandOutput> run_command(SpawnOptions options, Duration limit, std::size_t output_limit) {
  SQUALL_ASSIGN(Pipe output_pipe, make_pipe());
  SQUALL_ASSIGN(Pipe error_pipe, make_pipe());
  if (options.standard_output < 0) options.standard_output = output_pipe.write_end.get();
  if (options.standard_error < 0) options.standard_error = error_pipe.write_end.get();
  options.new_session = true;  // its own process group, which a kill can reach as a whole

  const Instant start = BootClock::now();
  SQUALL_ASSIGN(ChildProcess child, spawn(options));
  output_pipe.write_end.reset();
  error_pipe.write_end.reset();
  CommandOutput result;
  if (!collect(child, output_pipe.read_end, error_pipe.read_end, result, output_limit,
               deadline_after(limit))) {
    // Not yet waited for, so the group's number is still its own.
    ::kill(-child.pid(), SIGKILL);
    [[maybe_unused]] const auto status = child.wait(kKillGrace);
    return Error{.code = ErrorCode::kTimeout,
                 .message = fmt::format("{} still ran after {} and was killed", options.argv[0],
                                        humanize(limit)),
                 .hint = "allow it more time, or find out what it waits for"};
  }
  SQUALL_ASSIGN(const int status, child.wait(Duration::zero()));
  result.exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  result.took = BootClock::now() - start;
  return result;
}

Result<std::string> own_executable() {
  std::array<char, 4096> path;
  const ssize_t length = ::readlink("/proc/self/exe", path.data(), path.size());
  if (length < 0) return system_error("read /proc/self/exe", errno);
  return std::string(path.data(), static_cast<std::size_t>(length));
}

}  // namespace squall::base
