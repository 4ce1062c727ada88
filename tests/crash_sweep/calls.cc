#include "calls.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <map>

namespace squall::crash_sweep {

namespace {

struct Errors {
  std::string_view error;
  std::string_view names;  // of calls, each between blanks; openat+: with O_CREAT
};

// close, munmap, close_range: Linux has done it whatever they return. Signals' dispositions,
// clocks, timerfd_settime, identities, futex: only wrong arguments make them fail.
constexpr std::array<Errors, 6> kErrors{{
    {"EINTR",
     " openat openat+ read pread64 recvmsg recvfrom sendmsg sendto accept4 connect write pwrite64 "
     "fsync fdatasync fallocate flock poll ppoll epoll_wait wait4 waitid nanosleep clock_nanosleep "
     "getrandom "},
    {"ENOMEM",
     " execve openat openat+ read pread64 readlink getdents64 recvmsg recvfrom sendmsg sendto "
     "accept4 "
     "connect bind listen socket socketpair pipe2 eventfd2 epoll_create1 epoll_ctl timerfd_create "
     "signalfd4 pidfd_open poll ppoll clone clone3 fork vfork mmap brk mprotect newfstatat stat "
     "lstat fstat statfs access faccessat2 mkdir unlink rename fcntl ioctl setsockopt getsockopt "
     "flock prctl chdir write "},
    {"EIO",
     " execve openat openat+ read pread64 readlink getdents64 write pwrite64 fsync fdatasync "
     "fallocate "
     "rename unlink mkdir chmod fchmod newfstatat stat lstat fstat statfs access faccessat2 chdir "
     "ioctl "},
    {"ENOSPC", " openat+ write pwrite64 fsync fdatasync fallocate rename mkdir bind epoll_ctl "},
    {"EPERM",
     " execve openat+ write fallocate rename unlink mkdir chmod fchmod socket sendto sendmsg kill "
     "pidfd_open pidfd_send_signal prctl setsid prlimit64 setresuid setresgid clone clone3 ioctl "
     "setsockopt bind pidfd_getfd "},
    {"EBUSY", " openat+ write rename unlink ioctl "},
}};

}  // namespace

std::string Call::text() const {
  return fmt::format("{}#{}", name, number);
}

std::vector<Call> recorded_calls(const std::string& trace_file) {
  std::vector<Call> calls;
  std::map<std::string, int> count;
  std::ifstream file(trace_file);
  for (std::string line; std::getline(file, line);) {
    const std::string name = line.substr(0, line.find(' '));
    const bool creates = line == "openat creates";
    calls.push_back({.name = name, .number = ++count[name], .creates = creates});
  }
  return calls;
}

std::vector<std::string> unsynced_notes(const std::string& trace_file) {
  std::vector<std::string> found;
  std::string unsynced;  // the write
  int renamed = 0;       // calls that may pass until its folder is synced
  std::ifstream file(trace_file);
  for (std::string line; std::getline(file, line);) {
    if (!unsynced.empty() && line != "fdatasync")
      found.push_back("not synced before the next call: " + unsynced);
    unsynced.clear();
    if (renamed > 0 && line == "fsync") renamed = 0;
    if (renamed > 0 && --renamed == 0) found.push_back("the journal's folder is not synced");
    // The type of a frame: 1 is a lease, 2 a note, 3 need not be there after a power cut.
    if (line.starts_with("pwrite64 frame ") && line != "pwrite64 frame 3") unsynced = line;
    if (line == "rename journal") renamed = 3;
  }
  return found;
}

std::vector<std::string_view> possible_errors(const Call& call) {
  std::vector<std::string_view> errors;
  const std::string word = fmt::format(" {}{} ", call.name, call.creates ? "+" : "");
  for (const Errors& entry : kErrors) {
    if (entry.names.find(word) != entry.names.npos) errors.push_back(entry.error);
  }
  return errors;
}

}  // namespace squall::crash_sweep
