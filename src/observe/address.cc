#include "observe/address.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <mutex>
#include <system_error>
#include <thread>

namespace squall::observe {
namespace {

// poll(2) passes over negative descriptors.
thread_local int interruption = -1;

bool is_address_literal(const std::string& host) {
  in6_addr buffer{};
  return inet_pton(AF_INET, host.c_str(), &buffer) == 1 ||
         inet_pton(AF_INET6, host.c_str(), &buffer) == 1;
}

base::Result<SocketAddresses> look_up(const std::string& host, std::uint16_t port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* list = nullptr;
  const std::string service = std::to_string(port);
  const int error = getaddrinfo(host.c_str(), service.c_str(), &hints, &list);
  if (error != 0) {
    return base::Error{
        .code = base::ErrorCode::kUnavailable,
        .message = fmt::format("the name {} cannot be resolved: {}", host, gai_strerror(error)),
        .hint = "check the name in the system map, or write the IP address"};
  }
  SocketAddresses addresses;
  for (const addrinfo* entry = list; entry != nullptr; entry = entry->ai_next) {
    if (entry->ai_addrlen > sizeof(sockaddr_storage)) continue;
    SocketAddress address;
    std::memcpy(&address.storage, entry->ai_addr, entry->ai_addrlen);
    address.length = entry->ai_addrlen;
    addresses.push_back(address);
  }
  freeaddrinfo(list);
  return addresses;
}

}  // namespace

base::Result<HostAndPort> parse_host_and_port(std::string_view text) {
  const base::Error wrong{.code = base::ErrorCode::kBadFile,
                          .message = fmt::format("`{}` is not an address", text),
                          .hint = "write host:port, such as 127.0.0.1:6379 or [::1]:6379"};
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return wrong;
  std::string_view host = text.substr(0, colon);
  if (host.front() == '[') {
    if (host.size() < 3 || host.back() != ']') return wrong;
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string_view::npos) {
    return wrong;
  }
  std::uint16_t port = 0;
  const char* last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data() + colon + 1, last, port);
  if (error != std::errc() || end != last || port == 0) return wrong;
  return HostAndPort{.host = std::string(host), .port = port};
}

struct Resolver::State {
  std::mutex mutex;
  std::shared_ptr<const SocketAddresses> addresses;
  bool busy = false;
  base::Instant last_refresh{};
};

Resolver::Resolver(std::string host, std::uint16_t port)
    : host_(std::move(host)),
      port_(port),
      literal_(is_address_literal(host_)),
      state_(std::make_shared<State>()) {}

base::Status Resolver::resolve() {
  SQUALL_ASSIGN(SocketAddresses found, look_up(host_, port_));
  const std::lock_guard lock(state_->mutex);
  state_->addresses = std::make_shared<const SocketAddresses>(std::move(found));
  return {};
}

void Resolver::refresh() {
  if (literal_) return;
  {
    const std::lock_guard lock(state_->mutex);
    const base::Instant now = base::BootClock::now();
    if (state_->busy || now - state_->last_refresh < std::chrono::seconds(1)) return;
    state_->busy = true;
    state_->last_refresh = now;
  }
  const auto work = [state = state_, host = host_, port = port_] {
    auto found = look_up(host, port);
    const std::lock_guard lock(state->mutex);
    state->busy = false;
    if (found.ok()) {
      state->addresses = std::make_shared<const SocketAddresses>(std::move(found).value());
    }
  };
  try {
    // Detached on purpose: a lookup cannot be interrupted, and it holds nothing but `state`.
    std::thread(work).detach();
  } catch (const std::system_error&) {
    const std::lock_guard lock(state_->mutex);
    state_->busy = false;
  }
}

std::shared_ptr<const SocketAddresses> Resolver::addresses() const {
  const std::lock_guard lock(state_->mutex);
  return state_->addresses;
}

std::string Resolver::text() const {
  return host_.find(':') == std::string::npos ? fmt::format("{}:{}", host_, port_)
                                              : fmt::format("[{}]:{}", host_, port_);
}

bool ConnectFailure::ours() const {
  switch (error_number) {
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
    case EADDRNOTAVAIL:
    case EAGAIN:
      return true;
    default:
      return false;
  }
}

std::optional<PendingConnect> start_connect(const SocketAddress& address, ConnectFailure& failure) {
  PendingConnect pending;
  pending.fd.reset(
      socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
  if (!pending.fd) {
    failure.error_number = errno;
    return std::nullopt;
  }
  const int on = 1;
  setsockopt(pending.fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (connect(pending.fd.get(), address.get(), address.length) == 0) return pending;
  if (errno != EINPROGRESS && errno != EINTR) {
    failure.error_number = errno;
    return std::nullopt;
  }
  pending.in_progress = true;
  return pending;
}

WaitInterruption::WaitInterruption(const base::WakeUp& wake_up) {
  interruption = wake_up.fd();
}
WaitInterruption::~WaitInterruption() {
  interruption = -1;
}

bool wait_ready(int fd, short events, base::Instant deadline) {
  while (true) {
    const base::Duration left = std::max(base::Duration::zero(), deadline - base::BootClock::now());
    timespec timeout{.tv_sec = static_cast<time_t>(left.count() / 1'000'000'000),
                     .tv_nsec = static_cast<long>(left.count() % 1'000'000'000)};
    std::array<pollfd, 2> entries = {{{.fd = fd, .events = events, .revents = 0},
                                      {.fd = interruption, .events = POLLIN, .revents = 0}}};
    const int ready = ppoll(entries.data(), entries.size(), &timeout, nullptr);
    if (ready > 0) return entries[0].revents != 0;
    if (ready == 0) return false;
    if (errno != EINTR) return true;  // let the system call that follows say what is wrong
  }
}

base::Result<base::UniqueFd> connect_within(const Resolver& resolver, base::Instant deadline) {
  const auto addresses = resolver.addresses();
  if (addresses == nullptr || addresses->empty()) {
    return base::Error{.code = base::ErrorCode::kUnavailable,
                       .message = fmt::format("{} has no known address", resolver.host()),
                       .hint = "check the name in the system map, or write the IP address"};
  }
  int last_error = 0;
  for (const SocketAddress& address : *addresses) {
    ConnectFailure failure;
    std::optional<PendingConnect> pending = start_connect(address, failure);
    if (!pending) {
      last_error = failure.error_number;
      continue;
    }
    if (pending->in_progress) {
      if (!wait_ready(pending->fd.get(), POLLOUT, deadline)) {
        return base::Error{
            .code = base::ErrorCode::kTimeout,
            .message = fmt::format("{} did not accept a connection in time", resolver.text()),
            .hint = "check that it runs and that no firewall drops the packets"};
      }
      socklen_t length = sizeof last_error;
      getsockopt(pending->fd.get(), SOL_SOCKET, SO_ERROR, &last_error, &length);
      if (last_error != 0) continue;
    }
    return std::move(pending->fd);
  }
  base::Error error = base::system_error("connect to " + resolver.text(), last_error);
  error.code = base::ErrorCode::kUnavailable;
  error.hint = "check that the service runs and listens there";
  return error;
}

base::Status send_all(int fd, std::string_view bytes, base::Instant deadline) {
  while (!bytes.empty()) {
    const ssize_t sent = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent >= 0) {
      bytes.remove_prefix(static_cast<std::size_t>(sent));
      continue;
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN) {
      base::Error error = base::system_error("send", errno);
      error.code = base::ErrorCode::kUnavailable;
      return error;
    }
    if (!wait_ready(fd, POLLOUT, deadline)) {
      return base::Error{.code = base::ErrorCode::kTimeout,
                         .message = "the peer did not take the request in time",
                         .hint = {}};
    }
  }
  return {};
}

base::Result<std::size_t> receive_some(int fd, char* buffer, std::size_t size,
                                       base::Instant deadline) {
  while (true) {
    const ssize_t received = recv(fd, buffer, size, 0);
    if (received >= 0) return static_cast<std::size_t>(received);
    if (errno == EINTR) continue;
    if (errno != EAGAIN) {
      base::Error error = base::system_error("receive", errno);
      error.code = base::ErrorCode::kUnavailable;
      return error;
    }
    if (!wait_ready(fd, POLLIN, deadline)) {
      return base::Error{
          .code = base::ErrorCode::kTimeout, .message = "no answer in time", .hint = {}};
    }
  }
}

}  // namespace squall::observe
