// network.bandwidth: what two services send one another goes through a narrow line.

#include <fmt/format.h>

#include <algorithm>

#include "base/units.h"
#include "inject/fault.h"
#include "inject/faults/network/scheduled_fault.h"

namespace squall::inject {

namespace {

using model::ParameterDescriptor;
using model::ValueType;

// The least that fits the line: four packets of the loopback interface, which are large.
constexpr double kLeastRoom = 256 * 1024;
constexpr std::array<ParameterDescriptor, 6> kParameters{{
    from_parameter(/*required=*/true),
    to_parameter(/*required=*/true),
    kPortParameter,
    {.name = "rate",
     .type = ValueType::kSize,
     .required = true,
     .minimum = 1024,
     .maximum = 1e10,
     .summary = "Bytes a second, in each direction, for all connections together."},
    {.name = "buffer",
     .type = ValueType::kDuration,
     .default_text = "100ms",
     .minimum = 0,
     .maximum = 10e9,
     .summary = "How long a packet may wait for the line before the next one is dropped; at least "
                "256 KiB always fit."},
    kDirectionParameter,
}};

constexpr model::FaultKindDescriptor kDescriptor = scheduled_kind({
    .name = "network.bandwidth",
    .summary = "Narrows the line between two services.",
    .effect =
        "Large answers take their time, the line's buffer adds delay under load, and what does not "
        "fit it is dropped, so that TCP slows down to the rate.",
    .proof =
        "Effect: the worker's count of packets that waited for the line. Revert: table and worker "
        "are gone.",
    .parameters = kParameters,
    .example = "- network.bandwidth: { from: api, to: db, rate: 1MiB }\n"
               "  name: narrow\n"
               "  at: 5s\n"
               "  for: 10s\n",
});

void describe_bandwidth(const model::SystemMap& map, const model::FaultSpecification& fault,
                        model::PlannedFault& planned) {
  const model::Parameters& parameters = fault.parameters;
  describe_scheduled(fault,
                     fmt::format("share {} a second", base::format_size(parameters.size("rate"))),
                     map, planned);
}

base::Result<model::FaultBinding> bind_bandwidth(const BindRequest& request) {
  const model::Parameters& parameters = request.fault.parameters;
  PacketProfile profile;
  profile.bytes_per_second = static_cast<double>(parameters.size("rate"));
  const auto least = std::chrono::duration<double>(kLeastRoom / profile.bytes_per_second);
  profile.longest_wait = std::min<base::Duration>(
      std::chrono::minutes(5),
      std::max(parameters.duration("buffer"), std::chrono::duration_cast<base::Duration>(least)));
  return bind_scheduled(request, profile, "delayed");
}

}  // namespace

extern const FaultKind kNetworkBandwidth;
const FaultKind kNetworkBandwidth{.descriptor = &kDescriptor,
                                  .describe = describe_bandwidth,
                                  .bind = bind_bandwidth,
                                  .create = create_scheduled,
                                  .rehearse = rehearse_scheduled,
                                  .reach = reach_rules};

}  // namespace squall::inject
