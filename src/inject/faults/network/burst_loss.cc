// network.burst_loss: packets between two services are lost in bursts (Gilbert-Elliott).

#include <fmt/format.h>

#include <algorithm>

#include "base/units.h"
#include "inject/fault.h"
#include "inject/faults/network/scheduled_fault.h"

namespace squall::inject {

namespace {

using model::ParameterDescriptor;
using model::ValueType;

constexpr std::array<ParameterDescriptor, 7> kParameters{{
    from_parameter(/*required=*/true),
    to_parameter(/*required=*/true),
    kPortParameter,
    share_parameter("Of all packets, those that are lost, on average over a long time."),
    {.name = "burst",
     .type = ValueType::kNumber,
     .default_text = "10",
     .minimum = 1,
     .maximum = 10'000,
     .summary = "Packets that one bad spell takes on average."},
    {.name = "loss_between",
     .type = ValueType::kShare,
     .default_text = "0%",
     .minimum = 0,
     .maximum = 1,
     .summary = "Loss outside the bad spells, in addition."},
    kDirectionParameter,
}};

constexpr model::FaultKindDescriptor kDescriptor = scheduled_kind({
    .name = "network.burst_loss",
    .summary = "Loses packets between two services in bursts.",
    .effect =
        "Whole flights of packets vanish, as on a radio link or an overloaded router; TCP runs "
        "into its retransmission timeout instead of repairing single losses. Between the spells "
        "nothing is lost.",
    .proof =
        "Effect: the worker's count of packets that were dropped. Revert: table and worker are "
        "gone.",
    .parameters = kParameters,
    .example = "- network.burst_loss: { from: api, to: db, share: 2%, burst: 20 }\n"
               "  name: bad-spells\n"
               "  at: 5s\n"
               "  for: 10s\n",
});

void describe_burst_loss(const model::SystemMap& map, const model::FaultSpecification& fault,
                         model::PlannedFault& planned) {
  const model::Parameters& parameters = fault.parameters;
  describe_scheduled(
      fault,
      fmt::format("are lost, {} of them, in bursts of about {:.0f}",
                  base::format_share(parameters.number("share")), parameters.number("burst")),
      map, planned);
}

base::Result<model::FaultBinding> bind_burst_loss(const BindRequest& request) {
  const model::Parameters& parameters = request.fault.parameters;
  PacketProfile profile;
  // In the bad state everything is lost: its mean length is `burst`, its share of time `share`.
  const double share = std::min(parameters.number("share"), 0.99);
  profile.to_good = 1 / parameters.number("burst");
  profile.to_bad = profile.to_good * share / (1 - share);
  if (profile.to_bad > 1) {
    return base::Error{
        .code = base::ErrorCode::kUsage,
        .message = fmt::format("bursts of {:.3g} packets cannot take {} of all",
                               parameters.number("burst"), base::format_share(share)),
        .hint = fmt::format("let `burst` be at least {:.3g}", share / (1 - share))};
  }
  profile.loss_bad = 1;
  profile.loss_good = parameters.number("loss_between");
  return bind_scheduled(request, profile, "dropped");
}

}  // namespace

extern const FaultKind kNetworkBurstLoss;
const FaultKind kNetworkBurstLoss{.descriptor = &kDescriptor,
                                  .describe = describe_burst_loss,
                                  .bind = bind_burst_loss,
                                  .create = create_scheduled,
                                  .rehearse = rehearse_scheduled,
                                  .reach = reach_rules};

}  // namespace squall::inject
