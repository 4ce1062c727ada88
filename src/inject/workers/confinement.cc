#include "inject/workers/confinement.h"

#include <cap-ng.h>
#include <fcntl.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include <array>
#include <memory>

namespace squall::inject {

namespace {

// Memory, time, and speaking and waiting on descriptors that are open already.
constexpr std::array kCommonCalls{
    SCMP_SYS(read),
    SCMP_SYS(write),
    SCMP_SYS(close),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(recvfrom),
    SCMP_SYS(recvmsg),
    SCMP_SYS(sendto),
    SCMP_SYS(sendmsg),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(brk),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    SCMP_SYS(futex),
    SCMP_SYS(getpid),
    SCMP_SYS(gettid),
    SCMP_SYS(getrandom),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
};

struct FilterDeleter {
  void operator()(void* filter) const { seccomp_release(filter); }
};

base::Error cannot(const char* what, int error_number) {
  return base::system_error(what, error_number);
}

base::Status drop_capabilities(std::span<const int> kept) {
  capng_clear(CAPNG_SELECT_BOTH);
  for (const int capability : kept) {
    capng_update(CAPNG_ADD, static_cast<capng_type_t>(CAPNG_EFFECTIVE | CAPNG_PERMITTED),
                 static_cast<unsigned>(capability));
  }
  // The bounds need CAP_SETPCAP, which a container may not have; without new privileges (below)
  // they do not matter.
  if (capng_apply(CAPNG_SELECT_CAPS) != 0) return cannot("give up capabilities", EPERM);
  return {};
}

}  // namespace

base::Status confine(const Confinement& needs) {
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
    return cannot("give up gaining privileges", errno);
  SQUALL_TRY(drop_capabilities(needs.capabilities));
  const std::unique_ptr<void, FilterDeleter> filter{seccomp_init(SCMP_ACT_KILL_PROCESS)};
  if (filter == nullptr) return cannot("make a system call filter", ENOMEM);
  int failed = 0;
  const auto allow = [&](int call) {
    const int added = seccomp_rule_add(filter.get(), SCMP_ACT_ALLOW, call, 0);
    if (added != 0) failed = -added;
  };
  for (const int call : kCommonCalls) allow(call);
  for (const int call : needs.system_calls) allow(call);
  for (const RestrictedCall& call : needs.restricted) {
    const scmp_arg_cmp only{
        .arg = call.argument, .op = SCMP_CMP_EQ, .datum_a = call.value, .datum_b = 0};
    const int added = seccomp_rule_add_array(filter.get(), SCMP_ACT_ALLOW, call.number, 1, &only);
    if (added != 0) failed = -added;
  }
  // Memory, but none that could be executed: argument 2 of both is the protection.
  const scmp_arg_cmp not_executable{
      .arg = 2, .op = SCMP_CMP_MASKED_EQ, .datum_a = PROT_EXEC, .datum_b = 0};
  for (const int call : {SCMP_SYS(mmap), SCMP_SYS(mprotect)}) {
    const int added =
        seccomp_rule_add_array(filter.get(), SCMP_ACT_ALLOW, call, 1, &not_executable);
    if (added != 0) failed = -added;
  }
  if (needs.unnamed_files) {
    const scmp_arg_cmp unnamed{
        .arg = 2, .op = SCMP_CMP_MASKED_EQ, .datum_a = O_TMPFILE, .datum_b = O_TMPFILE};
    const int added =
        seccomp_rule_add_array(filter.get(), SCMP_ACT_ALLOW, SCMP_SYS(openat), 1, &unnamed);
    if (added != 0) failed = -added;
  }
  if (failed != 0) return cannot("make a system call filter", failed);
  if (const int loaded = seccomp_load(filter.get()); loaded != 0)
    return cannot("install the system call filter", -loaded);
  return {};
}

}  // namespace squall::inject
