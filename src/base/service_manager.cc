#include "base/service_manager.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <cstring>

namespace squall::base {

namespace {

std::string take_variable(const char* name) {
  const char* value = std::getenv(name);
  std::string text = value == nullptr ? "" : value;
  ::unsetenv(name);
  return text;
}

UniqueFd connect_to(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) return {};
  std::memcpy(address.sun_path, path.data(), path.size());
  // "@name" is a socket without a file; its first byte is zero.
  if (path.front() == '@') address.sun_path[0] = '\0';
  UniqueFd socket{::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  if (!socket || ::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), size) != 0)
    return {};
  return socket;
}

}  // namespace

ServiceManager ServiceManager::from_environment() {
  ServiceManager manager;
  manager.socket_ = connect_to(take_variable("NOTIFY_SOCKET"));
  const std::string interval = take_variable("WATCHDOG_USEC");
  const std::string meant_for = take_variable("WATCHDOG_PID");
  std::int64_t microseconds = 0;
  std::from_chars(interval.data(), interval.data() + interval.size(), microseconds);
  const bool ours = meant_for.empty() || meant_for == std::to_string(::getpid());
  if (microseconds > 0 && ours) manager.watchdog_ = std::chrono::microseconds(microseconds);
  return manager;
}

void ServiceManager::say_ready(std::string_view status) const {
  say("READY=1\nSTATUS=" + std::string(status));
}

void ServiceManager::say_alive() const {
  say("WATCHDOG=1");
}

void ServiceManager::say_stopping() const {
  say("STOPPING=1");
}

void ServiceManager::say(std::string_view text) const {
  if (!socket_) return;
  // A manager that does not listen will say so itself, by ending us.
  if (::send(socket_.get(), text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL) < 0) return;
}

}  // namespace squall::base
