#pragma once
// Delay by netem, the kernel's own: at the root of an interface stands a tree of queues in which a
// slow band delays what passes, and an owner table sends the packets of a pair there. It takes more
// packets than the packet scheduler. The kernel takes the table away when the holder dies, so that
// nothing is delayed any more; the tree stays, idle, until the journal is replayed.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "inject/fault.h"
#include "inject/faults/network/nft_table.h"
#include "inject/faults/network/traffic_control.h"

namespace squall::inject {

inline constexpr std::string_view kNetem = "netem";

struct NetemDelay {
  base::Duration delay{};
  base::Duration jitter{};
};

class NetemFault final : public Fault {
 public:
  // A rule's `priority` is the number of its band: 0 delays once, 1 twice, for packets that stand
  // for both directions. `interfaces`: names.
  NetemFault(std::string what, std::vector<PacketRule> rules, std::vector<std::string> interfaces,
             NetemDelay delay, FaultContext& context);
  Step arm() override;
  Step effective() override;
  Step hold() override;
  Step revert() override;
  Step verify() override;
  void recall(const base::Json& found) override;

 private:
  struct Place {
    std::string name;
    int index = 0;
    bool noted = false;  // we were about to put a tree there
    bool in_place = false;
    std::string reverted;  // what was found and done
  };
  base::Status put_tree(Place& place);
  base::Status take_tree(Place& place);
  base::Status put_table();
  // What the slow bands of all trees say together.
  base::Result<QueueDiscipline> slow_bands() const;

  std::string what_;
  std::vector<PacketRule> rules_;
  NetemDelay delay_;
  FaultContext& context_;
  std::string name_;    // of the table
  std::uint16_t tree_;  // major number of our trees
  std::vector<Place> places_;
  std::optional<TrafficControl> control_;
  std::optional<NftTable> table_;
  bool removed_ = false;
  PacketCounts counts_;
  base::Instant since_;  // the table went
  std::optional<base::Instant> gone_wait_since_;
};

// The packets of `from`, `to`, `port` and `direction`, delayed. kUnsupported when this host has no
// netem or it cannot do it for this pair; kConflict when an interface has queues of its own.
base::Result<model::FaultBinding> bind_netem(const BindRequest& request, const NetemDelay& delay);
base::Result<std::unique_ptr<Fault>> create_netem(const model::FaultBinding& binding,
                                                  FaultContext& context);
// The same delay (shortened to 20 ms) in a network namespace of our own.
base::Result<std::string> rehearse_netem(const model::FaultBinding& binding, FaultContext& context);

// Has this kernel netem? Tried in a network namespace of our own.
base::Status check_netem();

}  // namespace squall::inject
