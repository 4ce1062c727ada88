#pragma once
// What the poll loops of engine, keeper, holder and cleanup share.

#include <poll.h>

#include <cstdint>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/result.h"

namespace squall::inject {

// Gathered anew for each turn: what to wait for, and then what is ready.
class PollSet {
 public:
  // -1 is left out, so that an absent descriptor needs no case of its own.
  void watch(int fd, short events = POLLIN);
  // Waits until one is ready or `milliseconds` have passed (-1: no limit). A signal ends the wait.
  void wait(int milliseconds = -1);
  bool is_ready(int fd) const;
  const std::vector<int>& ready() const { return ready_; }  // sorted

 private:
  std::vector<pollfd> requests_;
  std::vector<int> ready_;
};

// One descriptor that is readable when one of others is.
class ReadySet {
 public:
  static base::Result<ReadySet> create();
  int fd() const { return epoll_.get(); }
  // Until it is closed.
  base::Status watch(int descriptor) const;
  // False when nothing is ready after `limit`, or at once when that is not above zero. May return
  // before: a signal ends the wait.
  bool wait(base::Duration limit) const;

 private:
  explicit ReadySet(base::UniqueFd epoll) : epoll_(std::move(epoll)) {}
  base::UniqueFd epoll_;
};

// Blocks SIGHUP, SIGTERM and SIGINT and makes them readable.
base::Result<base::UniqueFd> open_termination_signals();

// A timer on `clock` (CLOCK_BOOTTIME, CLOCK_MONOTONIC).
base::Result<base::UniqueFd> open_timer(int clock);
// Rings at this time of its clock, in nanoseconds, at once when that is past; the largest value:
// never. Setting it also makes an old ring unreadable.
void set_timer(const base::UniqueFd& timer, std::int64_t at);

}  // namespace squall::inject
