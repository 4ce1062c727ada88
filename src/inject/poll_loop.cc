#include "inject/poll_loop.h"

#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <limits>

#include "base/check.h"

namespace squall::inject {

void PollSet::watch(int fd, short events) {
  if (fd >= 0) requests_.push_back({.fd = fd, .events = events, .revents = 0});
}

void PollSet::wait(int milliseconds) {
  ready_.clear();
  if (::poll(requests_.data(), requests_.size(), milliseconds) < 0) {
    SQUALL_CHECK(errno == EINTR);
    return;
  }
  for (const pollfd& request : requests_) {
    if (request.revents != 0) ready_.push_back(request.fd);
  }
  std::sort(ready_.begin(), ready_.end());
}

bool PollSet::is_ready(int fd) const {
  return fd >= 0 && std::binary_search(ready_.begin(), ready_.end(), fd);
}

base::Result<ReadySet> ReadySet::create() {
  base::UniqueFd epoll{::epoll_create1(EPOLL_CLOEXEC)};
  if (!epoll) return base::system_error("create an epoll descriptor", errno);
  return ReadySet{std::move(epoll)};
}

base::Status ReadySet::watch(int descriptor) const {
  epoll_event event{.events = EPOLLIN, .data = {.fd = descriptor}};
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, descriptor, &event) == 0) return {};
  return base::system_error("watch a descriptor", errno);
}

bool ReadySet::wait(base::Duration limit) const {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(limit);
  epoll_event event{};
  return left.count() > 0 &&
         ::epoll_wait(epoll_.get(), &event, 1, static_cast<int>(left.count())) != 0;
}

base::Result<base::UniqueFd> open_termination_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : {SIGHUP, SIGTERM, SIGINT}) sigaddset(&set, number);
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
  base::UniqueFd signals{::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)};
  if (!signals) return base::system_error("create a signalfd", errno);
  return signals;
}

base::Result<base::UniqueFd> open_timer(int clock) {
  base::UniqueFd timer{::timerfd_create(clock, TFD_CLOEXEC | TFD_NONBLOCK)};
  if (!timer) return base::system_error("create a timer", errno);
  return timer;
}

void set_timer(const base::UniqueFd& timer, std::int64_t at) {
  itimerspec setting{};
  if (at != std::numeric_limits<std::int64_t>::max()) {
    // Zero would disarm it.
    at = std::max<std::int64_t>(1, at);
    setting.it_value = {.tv_sec = at / 1'000'000'000, .tv_nsec = at % 1'000'000'000};
  }
  SQUALL_CHECK(::timerfd_settime(timer.get(), TFD_TIMER_ABSTIME, &setting, nullptr) == 0);
}

}  // namespace squall::inject
