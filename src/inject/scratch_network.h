#pragma once
// A network namespace of our own with nothing in it but a loopback interface, for trying what would
// touch the host's. The calling thread is in it until the object is destroyed.

#include <cstdint>

#include "base/clock.h"
#include "base/fd.h"
#include "base/result.h"

namespace squall::inject {

class ScratchNetwork {
 public:
  // kPermission without CAP_SYS_ADMIN.
  static base::Result<ScratchNetwork> create();
  ScratchNetwork(ScratchNetwork&& other) noexcept = default;
  ScratchNetwork& operator=(ScratchNetwork&&) = delete;
  ~ScratchNetwork();

 private:
  explicit ScratchNetwork(base::UniqueFd before) : before_(std::move(before)) {}
  base::UniqueFd before_;  // the namespace to return to
};

// Two datagram sockets of the loopback interface of the calling thread's network.
class ScratchTalk {
 public:
  static base::Result<ScratchTalk> create();
  std::uint16_t port() const { return port_; }  // of the server
  // Sends the server one datagram and takes what has come; nobody waits. For drive().
  static void speak(void* self);
  // Sends the server `count` datagrams, one a millisecond, and says how long each took. kTimeout
  // when they do not arrive.
  base::Result<std::vector<base::Duration>> one_way_times(int count) const;

 private:
  base::UniqueFd server_;
  base::UniqueFd client_;
  std::uint16_t port_ = 0;
};

}  // namespace squall::inject
