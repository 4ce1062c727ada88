// network.duplicate: some packets between two services arrive twice.

#include <fmt/format.h>

#include "base/units.h"
#include "inject/fault.h"
#include "inject/faults/network/scheduled_fault.h"

namespace squall::inject {

namespace {

using model::ParameterDescriptor;
using model::ValueType;

constexpr std::array<ParameterDescriptor, 5> kParameters{{
    from_parameter(/*required=*/true),
    to_parameter(/*required=*/true),
    kPortParameter,
    share_parameter("Of all packets, those that arrive twice."),
    kDirectionParameter,
}};

constexpr model::FaultKindDescriptor kDescriptor = scheduled_kind({
    .name = "network.duplicate",
    .summary = "Delivers some packets between two services twice.",
    .effect =
        "UDP receivers get datagrams twice. TCP drops the second one and acknowledges again: a "
        "duplicate that an application sees comes from retries, not from the network. The copy "
        "comes in through the loopback interface.",
    .proof =
        "Effect: the worker's count of packets that were sent twice. Revert: table and worker are "
        "gone.",
    .parameters = kParameters,
    .example = "- network.duplicate: { from: api, to: dns, share: 10% }\n"
               "  name: echoes\n"
               "  at: 5s\n"
               "  for: 10s\n",
});

void describe_duplicate(const model::SystemMap& map, const model::FaultSpecification& fault,
                        model::PlannedFault& planned) {
  const model::Parameters& parameters = fault.parameters;
  describe_scheduled(
      fault,
      fmt::format("are sent on twice, {} of them", base::format_share(parameters.number("share"))),
      map, planned);
}

base::Result<model::FaultBinding> bind_duplicate(const BindRequest& request) {
  const model::Parameters& parameters = request.fault.parameters;
  PacketProfile profile;
  profile.duplicated_share = parameters.number("share");
  return bind_scheduled(request, profile, "duplicated");
}

}  // namespace

extern const FaultKind kNetworkDuplicate;
const FaultKind kNetworkDuplicate{.descriptor = &kDescriptor,
                                  .describe = describe_duplicate,
                                  .bind = bind_duplicate,
                                  .create = create_scheduled,
                                  .rehearse = rehearse_scheduled,
                                  .reach = reach_rules};

}  // namespace squall::inject
