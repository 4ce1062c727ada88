#include "base/fd.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>

#include "base/files.h"

namespace squall::base {

void UniqueFd::reset(int fd) {
  // No retry on EINTR: Linux has released the descriptor by then (close(2)).
  if (fd_ >= 0) ::close(fd_);
  fd_ = fd;
}

namespace {

// The <sys/pidfd.h> of glibc 2.36 cannot be used from C++: it does not say extern "C".
int pidfd_open(pid_t pid, unsigned flags) {
  return static_cast<int>(::syscall(SYS_pidfd_open, pid, flags));
}

int pidfd_send_signal(int pidfd, int signal_number) {
  return static_cast<int>(::syscall(SYS_pidfd_send_signal, pidfd, signal_number, nullptr, 0));
}

Error no_such_process(pid_t pid) {
  return Error{.code = ErrorCode::kNotFound,
               .message = fmt::format("process {} does not exist", pid)};
}

Result<UniqueFd> open_pidfd(pid_t pid) {
  if (pid <= 0) return no_such_process(pid);
  UniqueFd fd{pidfd_open(pid, 0)};
  if (fd.valid()) return fd;
  // EINVAL: the number belongs to a thread that is not the first of its process.
  if (errno == ESRCH || errno == EINVAL) return no_such_process(pid);
  return system_error(fmt::format("open a pidfd of process {}", pid), errno);
}

}  // namespace

Result<ProcessIdentity> identify_process(pid_t pid) {
  auto stat = read_pseudo_file(fmt::format("/proc/{}/stat", pid));
  if (!stat.ok()) {
    if (stat.error().code == ErrorCode::kNotFound) return no_such_process(pid);
    return std::move(stat).error();
  }
  // The name stands in parentheses and may itself contain any character; the last one closes it.
  const std::string_view text = *stat;
  std::size_t at = text.rfind(')');
  for (int field = 2; field < 22 && at != std::string_view::npos; ++field) {
    at = text.find(' ', at + 1);
  }
  ProcessIdentity identity{.pid = pid};
  if (at == std::string_view::npos ||
      std::from_chars(text.data() + at + 1, text.data() + text.size(), identity.start_time).ec !=
          std::errc{}) {
    return Error{.message = fmt::format("/proc/{}/stat has an unknown form", pid)};
  }
  return identity;
}

Result<PidFd> PidFd::open(const ProcessIdentity& identity) {
  SQUALL_ASSIGN(PidFd found, open(identity.pid));
  if (found.identity_ == identity) return found;
  return Error{
      .code = ErrorCode::kNotFound,
      .message = fmt::format("process {} has ended, and its number now belongs to another process",
                             identity.pid)};
}

Result<PidFd> PidFd::open(pid_t pid) {
  SQUALL_ASSIGN(UniqueFd fd, open_pidfd(pid));
  SQUALL_ASSIGN(const ProcessIdentity identity, identify_process(pid));
  // Between the two calls the process may have ended and its number been given away. If it still
  // exists now, the number was its own all the time.
  if (pidfd_send_signal(fd.get(), 0) != 0 && errno == ESRCH) return no_such_process(pid);
  return PidFd{std::move(fd), identity};
}

Status PidFd::signal(int signal_number) const {
  if (pidfd_send_signal(fd_.get(), signal_number) == 0) return {};
  if (errno == ESRCH) {
    return Error{.code = ErrorCode::kNotFound,
                 .message = fmt::format("process {} has ended", identity_.pid)};
  }
  return system_error(fmt::format("send signal {} to process {}", signal_number, identity_.pid),
                      errno);
}

bool PidFd::ended() const {
  pollfd request{.fd = fd_.get(), .events = POLLIN, .revents = 0};
  int ready = 0;
  do {
    ready = ::poll(&request, 1, 0);
  } while (ready < 0 && errno == EINTR);
  SQUALL_CHECK(ready >= 0);
  return ready > 0;
}

Result<WakeUp> WakeUp::create() {
  UniqueFd fd{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  if (!fd.valid()) return system_error("create an eventfd", errno);
  return WakeUp{std::move(fd)};
}

void WakeUp::signal() const {
  const std::uint64_t one = 1;
  // EAGAIN means that the counter is full: the reader will wake up all the same.
  [[maybe_unused]] const auto written = ::write(fd_.get(), &one, sizeof one);
}

void WakeUp::clear() const {
  std::uint64_t count = 0;
  [[maybe_unused]] const auto got = ::read(fd_.get(), &count, sizeof count);
}

}  // namespace squall::base
