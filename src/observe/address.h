#pragma once
// Names to addresses, and connecting with a deadline. Looking up a name can block for half a minute
// when DNS is the thing that is broken, so that no probe thread ever does it: names are resolved
// before the run and again in the background.

#include <sys/socket.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/result.h"

namespace squall::observe {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};
using SocketAddresses = std::vector<SocketAddress>;

// "host:port" or "[::1]:port". kBadFile when it is neither.
struct HostAndPort {
  std::string host;
  std::uint16_t port = 0;
};
base::Result<HostAndPort> parse_host_and_port(std::string_view text);

// Thread-safe. `addresses` never blocks.
class Resolver {
 public:
  Resolver(std::string host, std::uint16_t port);
  // Asks now, on the calling thread. kUnavailable when the name has no address.
  base::Status resolve();
  // Asks again on a thread of its own, at most once a second and never twice at the same time. Does
  // nothing when the host is an IP address.
  void refresh();
  // Null before the first success of resolve().
  std::shared_ptr<const SocketAddresses> addresses() const;
  const std::string& host() const { return host_; }
  std::uint16_t port() const { return port_; }
  std::string text() const;  // "host:port"

 private:
  struct State;  // outlives us while a lookup is under way
  std::string host_;
  std::uint16_t port_;
  bool literal_ = false;
  std::shared_ptr<State> state_;
};

// A non-blocking, close-on-exec TCP socket without Nagle's delay on which connect() has been
// called. `in_progress` tells whether it still has to become writable.
struct PendingConnect {
  base::UniqueFd fd;
  bool in_progress = false;
};
// The errno of socket() or connect() as `error_number`, so that callers can tell the target's
// refusal from our own exhaustion.
struct ConnectFailure {
  int error_number = 0;
  bool ours() const;  // no descriptors, ports or memory left on this side
};
std::optional<PendingConnect> start_connect(const SocketAddress& address, ConnectFailure& failure);

// Tries one address after another until one accepts. The socket stays non-blocking. kTimeout when
// `deadline` passes, kUnavailable when all refuse.
base::Result<base::UniqueFd> connect_within(const Resolver& resolver, base::Instant deadline);

// While it lives, every wait_ready() of the calling thread ends, as if its deadline had passed,
// when `wake_up` is signalled: so a run can end while a question is still open.
class WaitInterruption {
 public:
  explicit WaitInterruption(const base::WakeUp& wake_up);
  ~WaitInterruption();
  WaitInterruption(const WaitInterruption&) = delete;
  WaitInterruption& operator=(const WaitInterruption&) = delete;
};

// Waits until `fd` is ready for `events` (POLLIN, POLLOUT). False when `deadline` passed first.
bool wait_ready(int fd, short events, base::Instant deadline);

// Sends all, or reads some, on a non-blocking socket. kTimeout at the deadline; kUnavailable when
// the connection is lost. receive_some returns 0 when the peer has closed.
base::Status send_all(int fd, std::string_view bytes, base::Instant deadline);
base::Result<std::size_t> receive_some(int fd, char* buffer, std::size_t size,
                                       base::Instant deadline);

}  // namespace squall::observe
