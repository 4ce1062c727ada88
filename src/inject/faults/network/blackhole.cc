// network.blackhole: what one service sends to another vanishes, or what comes back, or both. No
// reset and no ICMP tells anybody: connections, live or new, hang until their own timeouts.

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
constexpr std::array<ParameterDescriptor, 4> kParameters{{
    from_parameter(/*required=*/true),
    to_parameter(/*required=*/true),
    kPortParameter,
    kDirectionParameter,
}};

constexpr model::FaultKindDescriptor kDescriptor{
    .name = "network.blackhole",
    .summary = "Lets all packets from one service to another vanish, without a word.",
    .effect =
        "Live connections and new ones hang until their own timeouts: nothing arrives, and neither "
        "a reset nor an ICMP message says so (TCP and UDP, IPv4 and IPv6). With `direction: "
        "replies` the callee goes on working on requests whose answers are lost. Where `from` is "
        "told apart by its user, what `to` had already sent still arrives. UDP to another host is "
        "dropped where it leaves, which its sender sees as EPERM.",
    .revert = "The table is deleted. The kernel does the same when the holder dies.",
    .proof = "Effect: the packet counters of the rules. Revert: the table is gone.",
    .weakest = LifetimeClass::kKernelHeld,
    .mechanisms = kMechanisms,
    .capabilities = kCapabilities,
    .parameters = kParameters,
    .can_be_effective = true,
    .example =
        "- network.blackhole: { from: api, to: db, direction: replies }\n"
        "  name: silence\n"
        "  at: 5s\n"
        "  for: 10s\n",
};

void describe_blackhole(const model::SystemMap& map, const model::FaultSpecification& fault,
                        model::PlannedFault& planned) {
  describe_pair(map, fault, planned);
  const model::Parameters& parameters = fault.parameters;
  planned.changes = {
      {.change = fmt::format("an nftables table drops all {}",
                             describe_packets(parameters.text("from"), parameters.text("to"),
                                              direction_of(parameters))),
       .revert = "the table is deleted; the kernel deletes it when its owner dies",
       .lifetime = LifetimeClass::kKernelHeld}};
}

base::Result<model::FaultBinding> bind_blackhole(const BindRequest& request) {
  SQUALL_ASSIGN(const PacketPair pair, find_pair(request));
  const Direction direction = direction_of(request.fault.parameters);
  SQUALL_ASSIGN(const auto rules, drop_rules(pair, {.direction = direction}));
  return pair_binding(request, pair, direction, rules);
}

}  // namespace

extern const FaultKind kNetworkBlackhole;
const FaultKind kNetworkBlackhole{.descriptor = &kDescriptor,
                                  .describe = describe_blackhole,
                                  .bind = bind_blackhole,
                                  .create = create_table_fault,
                                  .rehearse = rehearse_table_fault,
                                  .reach = reach_rules};

}  // namespace squall::inject
