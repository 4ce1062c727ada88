// network.reorder: some packets between two services arrive after later ones.

#include <fmt/format.h>

#include "base/units.h"
#include "inject/fault.h"
#include "inject/faults/network/scheduled_fault.h"

namespace squall::inject {

namespace {

using model::ParameterDescriptor;
using model::ValueType;

constexpr std::array<ParameterDescriptor, 6> kParameters{{
    from_parameter(/*required=*/true),
    to_parameter(/*required=*/true),
    kPortParameter,
    share_parameter("Of all packets, those that are held back."),
    {.name = "by",
     .type = ValueType::kDuration,
     .default_text = "5ms",
     .minimum = 1e5,
     .maximum = 10e9,
     .summary = "For how long; what is sent meanwhile overtakes them."},
    kDirectionParameter,
}};

constexpr model::FaultKindDescriptor kDescriptor = scheduled_kind({
    .name = "network.reorder",
    .summary = "Lets later packets overtake some of those between two services.",
    .effect =
        "TCP sees gaps, answers with duplicate acknowledgements and may send again what is not "
        "lost; UDP receivers get datagrams in another order. A packet that no other follows is "
        "only late.",
    .proof =
        "Effect: the worker's count of packets that others overtook. Revert: table and worker are "
        "gone.",
    .parameters = kParameters,
    .example = "- network.reorder: { from: api, to: db, share: 5% }\n"
               "  name: shuffled\n"
               "  at: 5s\n"
               "  for: 10s\n",
});

void describe_reorder(const model::SystemMap& map, const model::FaultSpecification& fault,
                      model::PlannedFault& planned) {
  const model::Parameters& parameters = fault.parameters;
  describe_scheduled(
      fault,
      fmt::format("hold {} of them back by {}", base::format_share(parameters.number("share")),
                  base::format_duration(parameters.duration("by"))),
      map, planned);
}

base::Result<model::FaultBinding> bind_reorder(const BindRequest& request) {
  const model::Parameters& parameters = request.fault.parameters;
  PacketProfile profile;
  profile.delay = parameters.duration("by");
  profile.delayed_share = parameters.number("share");
  profile.keeps_order = false;
  return bind_scheduled(request, profile, "overtaken");
}

}  // namespace

extern const FaultKind kNetworkReorder;
const FaultKind kNetworkReorder{.descriptor = &kDescriptor,
                                .describe = describe_reorder,
                                .bind = bind_reorder,
                                .create = create_scheduled,
                                .rehearse = rehearse_scheduled,
                                .reach = reach_rules};

}  // namespace squall::inject
