#pragma once
// A fault that is one owner table: created at arm, counted for effect, deleted at revert, gone by
// itself when the holder dies. Shared by the network kinds.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "inject/fault.h"
#include "inject/faults/network/nft_table.h"
#include "inject/faults/network/pair_marker.h"
#include "inject/faults/network/table_place.h"

namespace squall::inject {

inline constexpr std::string_view kOwnerTable = "nftables owner table";

class TableFault final : public Fault {
 public:
  // `what`: "packets from api to db", for texts.
  // `marked`: whose packets the rules' `marked` means, where the kernel has to tell them apart.
  // `place`: the network namespace of a container; absent: ours.
  TableFault(std::string what, std::vector<PacketRule> rules, Marking marked, FaultContext& context,
             std::optional<NetworkNamespace> place = {});
  Step arm() override;
  Step effective() override;
  Step hold() override;
  Step revert() override;
  Step verify() override;
  void recall(const base::Json& found) override;

 private:
  std::string met() const;
  std::string counts_proof() const;

  std::string what_;
  std::vector<PacketRule> rules_;
  FaultContext& context_;
  FaultMarks marks_;
  std::string name_;
  TablePlace place_;
  std::optional<NftTable> table_;
  bool removed_ = false;
  bool draws_ = false;  // cuts a share only
  PacketCounts counts_;
  base::Instant armed_at_;
  std::optional<base::Instant> gone_wait_since_;
};

// From details: `what`, `rules` and `marked`.
base::Result<std::unique_ptr<Fault>> create_table_fault(const model::FaultBinding& binding,
                                                        FaultContext& context);

// The details of a binding that create_table_fault() takes; `resources` are the endpoints, which no
// other fault may touch meanwhile.
base::Json table_details(const std::string& what, const std::vector<PacketRule>& rules,
                         const std::vector<PacketEndpoint>& endpoints);

// The same table for a loopback port of our own on which nobody serves, with packets sent to it.
// For FaultKind::reach: where the rules of a binding's details cut.
base::Result<Reach> reach_rules(const model::FaultBinding& binding);
base::Result<std::string> rehearse_table_fault(const model::FaultBinding& binding,
                                               FaultContext& context);

}  // namespace squall::inject
