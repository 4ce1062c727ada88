// network.partition: nothing passes between two services any more, on live connections or new ones.
// Packets are dropped where they arrive, so that the sender sees silence, not an error. Only what
// can be told apart from everybody else's packets is cut; else the fault is refused.

#include <fmt/format.h>

#include <array>

#include "inject/fault.h"
#include "inject/faults/network/pair.h"
#include "inject/faults/network/table_fault.h"

namespace squall::inject {

namespace {

using model::LifetimeClass;
using model::ParameterDescriptor;

constexpr std::array<std::string_view, 1> kMechanisms{kOwnerTable};
constexpr std::array<std::string_view, 1> kCapabilities{"CAP_NET_ADMIN"};
constexpr std::array<ParameterDescriptor, 3> kParameters{{
    from_parameter(/*required=*/true),
    to_parameter(/*required=*/true),
    kDirectionParameter,
}};

constexpr model::FaultKindDescriptor kDescriptor{
    .name = "network.partition",
    .summary = "Cuts the network between two services.",
    .effect =
        "Packets between the two vanish, on live connections and on new ones (TCP and UDP, "
        "IPv4 and IPv6); the callers wait until their own timeouts. Where `from` is told "
        "apart by its user, what `to` had already sent still arrives, but is never "
        "acknowledged.",
    .revert = "The table is deleted. The kernel does the same when the holder dies.",
    .proof = "Effect: the packet counters of the rules. Revert: the table is gone.",
    .weakest = LifetimeClass::kKernelHeld,
    .mechanisms = kMechanisms,
    .capabilities = kCapabilities,
    .parameters = kParameters,
    .can_be_effective = true,
    .example =
        "- network.partition: { from: api, to: db }\n"
        "  name: cut\n"
        "  at: 5s\n"
        "  for: 10s\n",
};

void describe_partition(const model::SystemMap& map, const model::FaultSpecification& fault,
                        model::PlannedFault& planned) {
  describe_pair(map, fault, planned);
  const model::Parameters& parameters = fault.parameters;
  planned.changes = {
      {.change = fmt::format("an nftables table drops the {}",
                             describe_packets(parameters.text("from"), parameters.text("to"),
                                              direction_of(parameters))),
       .revert = "the table is deleted; the kernel deletes it when its owner dies",
       .lifetime = LifetimeClass::kKernelHeld}};
}

base::Result<model::FaultBinding> bind_partition(const BindRequest& request) {
  SQUALL_ASSIGN(const PacketPair pair, find_pair(request));
  const Direction direction = direction_of(request.fault.parameters);
  SQUALL_ASSIGN(const auto rules, drop_rules(pair, {.direction = direction}));
  return pair_binding(request, pair, direction, rules);
}

}  // namespace

extern const FaultKind kNetworkPartition;
const FaultKind kNetworkPartition{.descriptor = &kDescriptor,
                                  .describe = describe_partition,
                                  .bind = bind_partition,
                                  .create = create_table_fault,
                                  .rehearse = rehearse_table_fault};

}  // namespace squall::inject
