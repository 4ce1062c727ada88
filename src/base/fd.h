#pragma once
#include <sys/types.h>

#include <cstdint>
#include <string>
#include <utility>

#include "base/result.h"

namespace squall::base {

// Owns a file descriptor; closes it when destroyed. Not thread-safe.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) reset(std::exchange(other.fd_, -1));
    return *this;
  }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  ~UniqueFd() { reset(); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  explicit operator bool() const { return valid(); }
  int release() { return std::exchange(fd_, -1); }
  void reset(int fd = -1);

 private:
  int fd_ = -1;
};

// A process that cannot be confused with a later one of the same number: pid plus the start time of
// /proc/PID/stat field 22 (clock ticks since boot).
struct ProcessIdentity {
  pid_t pid = 0;
  std::uint64_t start_time = 0;
  bool operator==(const ProcessIdentity&) const = default;
};

// Owns a pidfd. A pidfd names one process for ever: signals sent through it reach that process or
// nobody. Readable (poll) when the process has ended.
class PidFd {
 public:
  PidFd() = default;
  // kNotFound if the pid is gone or is a different process than `identity` (reborn number).
  static Result<PidFd> open(const ProcessIdentity& identity);
  static Result<PidFd> open(pid_t pid);

  int get() const { return fd_.get(); }
  bool valid() const { return fd_.valid(); }
  const ProcessIdentity& identity() const { return identity_; }
  Status signal(int signal_number) const;  // kNotFound when it has ended
  bool ended() const;

  // For who got the descriptor from clone or a message; `identity` must be of the same process.
  PidFd(UniqueFd fd, ProcessIdentity identity) : fd_(std::move(fd)), identity_(identity) {}

 private:
  UniqueFd fd_;
  ProcessIdentity identity_;
};

// kNotFound when there is no such process.
Result<ProcessIdentity> identify_process(pid_t pid);

// An eventfd for waking a poll loop. signal() may be called from any thread.
class WakeUp {
 public:
  static Result<WakeUp> create();
  int fd() const { return fd_.get(); }
  void signal() const;
  void clear() const;

 private:
  explicit WakeUp(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

}  // namespace squall::base
