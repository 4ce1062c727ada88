// syscall.fault: system calls of a running service fail with a chosen error, or wait. A worker
// traces every thread; the kernel lets them go when it dies, at whatever moment.

#include <fmt/format.h>
#include <seccomp.h>

#include <algorithm>
#include <array>
#include <memory>

#include "base/text.h"
#include "base/units.h"
#include "inject/faults/resource/parameters.h"
#include "inject/faults/syscall/interception_fault.h"

namespace squall::inject {

namespace {

using model::LifetimeClass;
using model::ParameterDescriptor;
using model::ValueType;

constexpr std::array<std::string_view, 1> kMechanisms{kTracerMechanism};
constexpr std::array<std::string_view, 2> kCapabilities{"CAP_SYS_PTRACE", "CAP_KILL"};
constexpr std::array<ParameterDescriptor, 12> kParameters{{
    service_parameter("The service of which members are hit."),
    member_parameter("The member to hit, by name or role; without it, `count` decides."),
    count_parameter("How many members are hit."),
    kRandomParameter,
    kJoinsParameter,
    {.name = "calls",
     .type = ValueType::kArgv,
     .required = true,
     .minimum = 1,
     .maximum = 64,
     .summary = "System calls by the kernel's names, as strace shows them: [fsync, fdatasync]."},
    {.name = "error",
     .type = ValueType::kText,
     .summary = "The error with which they fail, such as EIO; either this or `delay`."},
    {.name = "delay",
     .type = ValueType::kDuration,
     .minimum = 1e5,
     .maximum = 30e9,
     .summary = "How long they wait before they are made."},
    {.name = "jitter",
     .type = ValueType::kDuration,
     .default_text = "0s",
     .minimum = 0,
     .maximum = 30e9,
     .summary = "Up to this much more or less than `delay`."},
    {.name = "done",
     .type = ValueType::kBoolean,
     .default_text = "false",
     .summary = "With `error`: the call is made, and its caller is told that it failed, as when an "
                "answer is lost."},
    kHitShareParameter,
    {.name = "children",
     .type = ValueType::kBoolean,
     .default_text = "true",
     .summary = "Also in all processes that descend from the members, now or later."},
}};

constexpr model::FaultKindDescriptor kDescriptor{
    .name = "syscall.fault",
    .summary = "Makes chosen system calls of a running service fail or wait.",
    .effect =
        "The chosen calls return the error without being made, or start later; a thread that waits "
        "gets its signals afterwards. EVERY system call of the service becomes slower while the "
        "fault lasts, by 10 to 20 us, chosen or not: the kernel stops it twice at each. At the "
        "start a "
        "thread that sleeps in a call that the kernel does not restart (epoll_wait) gets EINTR "
        "once, as after SIGSTOP and SIGCONT. Reads and writes through io_uring or mapped memory "
        "are no system calls and are not hit.",
    .revert = kInterceptionRevert,
    .proof =
        "Effect: TracerPid of every target in /proc is the worker; its counts of calls seen, "
        "delayed and failed. Revert: the worker is gone and no target has it as TracerPid.",
    .weakest = LifetimeClass::kKernelHeld,
    .mechanisms = kMechanisms,
    .capabilities = kCapabilities,
    .parameters = kParameters,
    .can_be_effective = true,
    .example =
        "- syscall.fault: { service: db, calls: [fsync, fdatasync], error: EIO, share: 10% }\n"
        "  name: bad-disk\n"
        "  at: 5s\n"
        "  for: 20s\n",
};

// Neither delayed nor failed: they change or end the very thing that is traced.
constexpr std::array<std::string_view, 8> kNever{"exit",   "exit_group", "rt_sigreturn",
                                                 "execve", "execveat",   "restart_syscall",
                                                 "ptrace", "sigreturn"};
// Never fail in Linux, or not in a way that a program or the C library could live with.
constexpr std::array<std::string_view, 22> kCannotFail{
    "getpid", "gettid",         "getppid",      "getpgrp",         "getuid",      "geteuid",
    "getgid", "getegid",        "umask",        "alarm",           "sched_yield", "sync",
    "brk",    "futex",          "rseq",         "set_robust_list", "arch_prctl",  "set_tid_address",
    "vfork",  "rt_sigprocmask", "rt_sigaction", "personality"};
// May be made and then reported as failed: what they make is no descriptor, memory or process that
// nobody would ever give back.
constexpr std::array<std::string_view, 33> kMayBeDone{
    "write",     "pwrite64",  "writev",    "pwritev",         "pwritev2",  "fsync",    "fdatasync",
    "close",     "rename",    "renameat",  "renameat2",       "unlink",    "unlinkat", "link",
    "linkat",    "symlink",   "symlinkat", "mkdir",           "mkdirat",   "rmdir",    "truncate",
    "ftruncate", "sendto",    "sendmsg",   "msync",           "fallocate", "chmod",    "fchmod",
    "fchmodat",  "utimensat", "syncfs",    "sync_file_range", "shutdown"};

template <std::size_t N>
bool in(const std::array<std::string_view, N>& list, std::string_view name) {
  return std::find(list.begin(), list.end(), name) != list.end();
}

base::Error refused(const std::string& call, std::string_view why, std::string_view hint) {
  return {.code = base::ErrorCode::kBadFile,
          .message = fmt::format("`{}` {}", call, why),
          .hint = std::string(hint)};
}

base::Result<int> number_of(const std::string& call, bool fails, bool done) {
  if (in(kNever, call))
    return refused(call, "is never touched: the process itself hangs on it", "take it away");
  if (fails && !done && call == "close") {
    return refused(call, "without being made would leave the descriptor open for ever",
                   "say `done: true`: Linux closes it also when it reports an error");
  }
  if (fails && in(kCannotFail, call))
    return refused(call, "cannot fail so that a program could live with it", "delay it instead");
  if (done && !in(kMayBeDone, call)) {
    return refused(call, "cannot be made and then reported as failed: what it made would be lost",
                   "take it away, or say `done: false`");
  }
  const int number = seccomp_syscall_resolve_name(call.c_str());
  if (number < 0) {
    return refused(call, "is no system call of this kernel and processor",
                   "see syscalls(2); the C library's names differ for some: open is mostly openat, "
                   "stat is newfstatat, pread is pread64");
  }
  return number;
}

void describe_syscall_fault(const model::SystemMap&, const model::FaultSpecification& fault,
                            model::PlannedFault& planned) {
  const model::Parameters& parameters = fault.parameters;
  describe_members(parameters, planned);
  const std::string calls = base::enumerate(parameters.texts("calls"));
  const std::string happens =
      parameters.has("delay")
          ? "wait " + base::format_duration(parameters.duration("delay"))
          : fmt::format("fail with {}{}", parameters.optional_text("error").value_or("an error"),
                        parameters.boolean("done") ? " after they were made" : "");
  planned.changes = {
      {.change = fmt::format("every thread of {}{}{} is traced, and {} of its calls of {} {}",
                             planned.target, joining_text(parameters),
                             parameters.boolean("children") ? " and its child processes" : "",
                             base::format_share(parameters.number("share")), calls, happens),
       .revert = "the tracer is ended; the kernel lets the threads go when it dies",
       .lifetime = LifetimeClass::kKernelHeld}};
}

base::Result<model::FaultBinding> bind_syscall_fault(const BindRequest& request) {
  const model::Parameters& parameters = request.fault.parameters;
  SQUALL_TRY(check_exactly_one(parameters, "error", "delay"));
  const bool done = parameters.boolean("done");
  TracerConfiguration tracer;
  tracer.interception.share = parameters.number("share");
  if (parameters.has("error")) {
    tracer.interception.error = error_number(parameters.text("error"));
    if (tracer.interception.error == 0) {
      return base::Error{.code = base::ErrorCode::kBadFile,
                         .message = fmt::format("`{}` is no error", parameters.text("error")),
                         .hint = "write it as errno(3) does: EIO, ENOSPC, ETIMEDOUT, ..."};
    }
  } else {
    tracer.interception.delay = parameters.duration("delay");
    tracer.interception.jitter = parameters.duration("jitter");
    if (done) {
      return base::Error{.code = base::ErrorCode::kBadFile,
                         .message = "`done` goes with `error`, not with `delay`",
                         .hint = "take it away"};
    }
  }
  tracer.afterwards = done;
  tracer.children = parameters.boolean("children");
  tracer.seed = seed_of(request);
  for (const std::string& call : parameters.texts("calls")) {
    SQUALL_ASSIGN(const int number, number_of(call, tracer.interception.error != 0, done));
    tracer.calls.push_back(number);
  }
  SQUALL_ASSIGN(const ChosenMembers members, choose_members(request));
  for (const host::Member& member : members.chosen)
    tracer.processes.push_back(member.process.identity);
  SQUALL_TRY(check_all_traceable(members, tracer));
  return bind_interception(request, members, {.gate = std::nullopt, .tracer = tracer});
}

}  // namespace

extern const FaultKind kSyscallFault;
const FaultKind kSyscallFault{.descriptor = &kDescriptor,
                              .describe = describe_syscall_fault,
                              .bind = bind_syscall_fault,
                              .create = create_interception,
                              .rehearse = rehearse_interception,
                              .reach = reach_interception};

}  // namespace squall::inject
