#pragma once
// The queues of network interfaces (queueing disciplines), by typed messages of rtnetlink. A tree
// of ours at the root of an interface lets through what nobody sends to its slow bands as the
// default one does; packets get into a slow band by their priority, which a table's rule sets.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"

namespace squall::inject {

struct QueueDiscipline {
  std::uint32_t handle = 0;  // 0: the kernel's default
  std::uint32_t parent = 0;
  std::string kind;
  std::uint64_t packets = 0;  // that have left it
  std::uint64_t dropped = 0;
  std::uint32_t waiting = 0;
};

// A band of a tree of ours, in which netem delays what passes.
struct SlowBand {
  base::Duration delay{};
  base::Duration jitter{};  // up to so much more or less, uniformly
  std::uint32_t limit = 0;  // packets; what comes when so many wait is dropped
};

class TrafficControl {
 public:
  // Of the calling thread's network. kPermission without CAP_NET_ADMIN.
  static base::Result<TrafficControl> open();
  TrafficControl(TrafficControl&&) noexcept;
  TrafficControl& operator=(TrafficControl&&) noexcept;
  ~TrafficControl();

  // All of an interface; kNotFound when there is no such interface.
  base::Result<std::vector<QueueDiscipline>> list(int interface) const;
  // The root of an interface, if it is not the kernel's default.
  base::Result<std::optional<QueueDiscipline>> foreign_root(int interface) const;

  // Puts a tree with the major number `tree` at the root, in place of the default. kConflict when
  // the root is another one's, which stays. kUnsupported when the kernel has no netem; the empty
  // tree is there then and has to be removed.
  base::Status add_tree(int interface, std::uint16_t tree, const std::vector<SlowBand>& bands);
  // Removes it if it is the root, and only then: true when it was. The kernel puts its default
  // back.
  base::Result<bool> remove_tree(int interface, std::uint16_t tree);

  // The interface through which packets to this address (4 or 16 bytes) leave.
  base::Result<int> interface_towards(const std::vector<std::uint8_t>& address) const;

 private:
  struct Socket;
  explicit TrafficControl(std::unique_ptr<Socket> socket);
  std::unique_ptr<Socket> socket_;
};

// The priority that sends a packet to a slow band: the first is 0.
std::uint32_t band_priority(std::uint16_t tree, std::size_t band);

}  // namespace squall::inject
