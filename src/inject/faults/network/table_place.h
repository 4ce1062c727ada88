#pragma once
// Where an owner table is made: in our network namespace, or in that of a container.

#include <optional>
#include <string>
#include <vector>

#include "inject/fault.h"
#include "inject/faults/network/nft_table.h"
#include "inject/network_namespace.h"

namespace squall::inject {

class TablePlace {
 public:
  // Absent: ours.
  explicit TablePlace(std::optional<NetworkNamespace> place) : place_(std::move(place)) {}

  base::Result<NftTable> create(const std::string& name, const std::vector<PacketRule>& rules);
  // A namespace that is gone has no tables.
  base::Result<bool> exists(const std::string& name) const;
  // Tells once that the container ended: one that is started anew has another network, which the
  // fault does not reach.
  Step hold();

 private:
  std::optional<NetworkNamespace> place_;
  base::PidFd resident_;  // of `place_`, from create() until it ended
};

}  // namespace squall::inject
