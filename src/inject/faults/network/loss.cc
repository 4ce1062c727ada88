// network.loss: a share of the packets between two services is lost. Each is drawn by the kernel
// and dropped where it arrives, so that the sender sees nothing of it but the missing answer.

#include <fmt/format.h>

#include <array>
#include <cmath>

#include "inject/fault.h"
#include "inject/faults/network/pair.h"
#include "inject/faults/network/table_fault.h"
#include "inject/json_fields.h"

namespace squall::inject {

namespace {

using base::Json;
using model::LifetimeClass;
using model::ParameterDescriptor;
using model::ValueType;

constexpr std::array<std::string_view, 1> kMechanisms{kOwnerTable};
constexpr std::array<std::string_view, 1> kCapabilities{"CAP_NET_ADMIN"};
constexpr std::array<ParameterDescriptor, 5> kParameters{{
    from_parameter(/*required=*/true),
    to_parameter(/*required=*/true),
    kPortParameter,
    {.name = "share",
     .type = ValueType::kShare,
     .required = true,
     .minimum = 0.001,
     .maximum = 1,
     .summary = "How many of the packets are lost, each drawn by itself. Of a request and its "
                "reply, with `direction: both`, either may be."},
    kDirectionParameter,
}};

constexpr model::FaultKindDescriptor kDescriptor{
    .name = "network.loss",
    .summary = "Loses a share of the packets between two services.",
    .effect =
        "UDP senders see no error and no answer; TCP sends again, so its connections become slow, "
        "then break. A packet counts as the kernel hands it over: on the loopback interface one "
        "may carry 64 KiB. Which packets are lost is the kernel's draw, not the seed's.",
    .revert = "The table is deleted. The kernel does the same when the holder dies.",
    .proof =
        "Effect: the counters of the rules, those that were dropped beside all that could have "
        "been. Revert: the table is gone.",
    .weakest = LifetimeClass::kKernelHeld,
    .mechanisms = kMechanisms,
    .capabilities = kCapabilities,
    .parameters = kParameters,
    .can_be_effective = true,
    .example =
        "- network.loss: { from: api, to: db, share: 5% }\n"
        "  name: lossy\n"
        "  at: 5s\n"
        "  for: 20s\n",
};

void describe_loss(const model::SystemMap& map, const model::FaultSpecification& fault,
                   model::PlannedFault& planned) {
  describe_pair(map, fault, planned);
  const model::Parameters& parameters = fault.parameters;
  planned.changes = {
      {.change = fmt::format("an nftables table drops {:g} % of the {} where they arrive",
                             100 * parameters.number("share"),
                             describe_packets(parameters.text("from"), parameters.text("to"),
                                              direction_of(parameters))),
       .revert = "the table is deleted; the kernel deletes it when its owner dies",
       .lifetime = LifetimeClass::kKernelHeld}};
}

base::Result<model::FaultBinding> bind_loss(const BindRequest& request) {
  const model::Parameters& parameters = request.fault.parameters;
  const double share = parameters.number("share");
  if (!(share >= 1e-6 && share <= 1)) {
    return base::Error{.code = base::ErrorCode::kUsage,
                       .message = "the share of lost packets must lie between 0.1% and 100%"};
  }
  const Direction direction = direction_of(parameters);
  SQUALL_ASSIGN(const PacketPair pair,
                find_pair(request, /*replies=*/direction != Direction::kRequests));
  SQUALL_ASSIGN(const auto rules, drop_rules(pair, {.direction = direction,
                                                    .share = static_cast<std::uint32_t>(std::lround(
                                                        share * static_cast<double>(kShareWhole))),
                                                    .exactly = true}));
  return pair_binding(request, pair, direction, rules);
}

}  // namespace

extern const FaultKind kNetworkLoss;
const FaultKind kNetworkLoss{.descriptor = &kDescriptor,
                             .describe = describe_loss,
                             .bind = bind_loss,
                             .create = create_table_fault,
                             .rehearse = rehearse_table_fault,
                             .reach = reach_rules};

}  // namespace squall::inject
