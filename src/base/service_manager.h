#pragma once
// What a service tells the service manager that started it (the protocol of sd_notify(3): datagrams
// to the socket that NOTIFY_SOCKET names). Without one, everything here does nothing.

#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/fd.h"

namespace squall::base {

class ServiceManager {
 public:
  // Takes the variables out of the environment: they are meant for us, not for what we start.
  static ServiceManager from_environment();

  void say_ready(std::string_view status) const;
  void say_alive() const;
  void say_stopping() const;
  // How often say_alive() must come; absent when nobody watches.
  std::optional<Duration> watchdog() const { return watchdog_; }

 private:
  void say(std::string_view text) const;
  UniqueFd socket_;
  std::optional<Duration> watchdog_;
};

}  // namespace squall::base
