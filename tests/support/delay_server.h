#pragma once
// An HTTP server that holds every answer for a known time, as ground truth for measurements. The
// time counts from when the kernel received the request (SO_TIMESTAMPNS), not from when this server
// got round to reading it, so that a stall of the server itself is part of the truth.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <ctime>
#include <mutex>
#include <queue>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "base/random.h"

namespace squall::test {

class DelayServer {
 public:
  enum class Kind {
    kSpread,  // 1 ms and an exponential time with mean 5 ms
    kSteady,  // 10 ms
    kStall,   // 2 ms, but two seconds after the first request nothing happens for one second
  };

  explicit DelayServer(Kind kind) : kind_(kind) {
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    epoll_ = epoll_create1(EPOLL_CLOEXEC);
    const int on = 1;
    setsockopt(listener_, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    if (bind(listener_, reinterpret_cast<sockaddr*>(&address), length) != 0 ||
        listen(listener_, 4096) != 0 ||
        getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
      throw std::runtime_error("no port for the delay server");
    }
    port_ = ntohs(address.sin_port);
    watch(listener_);
    thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
  }
  ~DelayServer() {
    thread_.request_stop();
    thread_.join();
    for (const int fd : clients_) close(fd);
    close(listener_);
    close(epoll_);
  }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_) + "/"; }
  // How long each answer was held, in milliseconds.
  std::vector<double> take_delays_ms() {
    const std::lock_guard lock(mutex_);
    return std::move(delays_ms_);
  }

 private:
  struct Due {
    std::int64_t at = 0;  // wall clock, nanoseconds
    std::int64_t arrived = 0;
    int fd = -1;
    bool operator>(const Due& other) const { return at > other.at; }
  };

  static std::int64_t now() {
    timespec time{};
    clock_gettime(CLOCK_REALTIME, &time);
    return time.tv_sec * 1'000'000'000 + time.tv_nsec;
  }

  void watch(int fd) const {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
  }

  void accept_all() {
    while (true) {
      const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
      if (fd < 0) return;
      const int on = 1;
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
      clients_.push_back(fd);
      watch(fd);
    }
  }

  void read(int fd) {
    std::array<char, 4096> bytes;
    std::array<char, 256> control;
    iovec piece{.iov_base = bytes.data(), .iov_len = bytes.size()};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    if (recvmsg(fd, &message, 0) <= 0) {
      epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr);
      return;
    }
    std::int64_t arrived = now();
    for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
         header = CMSG_NXTHDR(&message, header)) {
      if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_TIMESTAMPNS) continue;
      timespec time{};
      std::memcpy(&time, CMSG_DATA(header), sizeof time);
      arrived = time.tv_sec * 1'000'000'000 + time.tv_nsec;
    }
    if (first_ == 0) first_ = arrived;
    waiting_.push({.at = arrived + static_cast<std::int64_t>(next_delay_ms() * 1e6),
                   .arrived = arrived,
                   .fd = fd});
  }

  double next_delay_ms() {
    switch (kind_) {
      case Kind::kSteady:
        return 10;
      case Kind::kStall:
        return 2;
      case Kind::kSpread:
        break;
    }
    return 1 + random_.exponential(5);
  }

  void answer_due() {
    constexpr std::string_view kAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    while (!waiting_.empty() && waiting_.top().at <= now()) {
      const Due due = waiting_.top();
      waiting_.pop();
      const std::int64_t answered = now();
      if (send(due.fd, kAnswer.data(), kAnswer.size(), MSG_NOSIGNAL) < 0) continue;
      const std::lock_guard lock(mutex_);
      delays_ms_.push_back(static_cast<double>(answered - due.arrived) / 1e6);
    }
  }

  void run(const std::stop_token& stop) {
    prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0);
    while (!stop.stop_requested()) {
      std::int64_t wait = 20'000'000;
      if (!waiting_.empty())
        wait = std::max<std::int64_t>(0, std::min(wait, waiting_.top().at - now()));
      const timespec timeout{.tv_sec = 0, .tv_nsec = static_cast<long>(wait)};
      std::array<epoll_event, 64> events;
      const int ready = epoll_pwait2(epoll_, events.data(), events.size(), &timeout, nullptr);
      if (kind_ == Kind::kStall && !stalled_ && first_ != 0 && now() - first_ > 2'000'000'000) {
        stalled_ = true;
        std::this_thread::sleep_for(std::chrono::seconds(1));
      }
      for (int i = 0; i < ready; ++i) {
        const int fd = events[static_cast<std::size_t>(i)].data.fd;
        if (fd == listener_) {
          accept_all();
        } else {
          read(fd);
        }
      }
      answer_due();
    }
  }

  Kind kind_;
  int listener_ = -1;
  int epoll_ = -1;
  std::uint16_t port_ = 0;
  base::Random random_{5};
  std::int64_t first_ = 0;
  bool stalled_ = false;
  std::vector<int> clients_;
  std::priority_queue<Due, std::vector<Due>, std::greater<>> waiting_;
  std::mutex mutex_;
  std::vector<double> delays_ms_;
  std::jthread thread_;
};

}  // namespace squall::test
