// network.corrupt: in some packets between two services one bit of the payload is turned.

#include <fmt/format.h>

#include "base/units.h"
#include "inject/fault.h"
#include "inject/faults/network/scheduled_fault.h"

namespace squall::inject {

namespace {

using model::ParameterDescriptor;
using model::ValueType;

constexpr std::array<std::string_view, 2> kChecksums{"wrong", "right"};
constexpr std::array<ParameterDescriptor, 6> kParameters{{
    from_parameter(/*required=*/true),
    to_parameter(/*required=*/true),
    kPortParameter,
    share_parameter("Of all packets that carry something, those that are changed."),
    {.name = "checksum",
     .type = ValueType::kChoice,
     .default_text = "wrong",
     .summary = "`wrong`: the receiver's kernel notices and drops the packet, as nearly always. "
                "`right`: the application gets the wrong bytes, as when a faulty device computes "
                "the checksum anew.",
     .choices = kChecksums},
    kDirectionParameter,
}};

constexpr model::FaultKindDescriptor kDescriptor = scheduled_kind({
    .name = "network.corrupt",
    .summary = "Turns one bit of what some packets between two services carry.",
    .effect =
        "With `checksum: wrong` TCP sends again and is slower, and UDP datagrams are lost. With "
        "`right` the application reads one wrong bit; TLS, checksums of its own or a parser may "
        "notice, or nobody.",
    .proof =
        "Effect: the worker's count of packets that were changed. Revert: table and worker are "
        "gone.",
    .parameters = kParameters,
    .example = "- network.corrupt: { from: api, to: db, share: 1%, checksum: right }\n"
               "  name: bit-rot\n"
               "  at: 5s\n"
               "  for: 10s\n",
});

void describe_corrupt(const model::SystemMap& map, const model::FaultSpecification& fault,
                      model::PlannedFault& planned) {
  const model::Parameters& parameters = fault.parameters;
  describe_scheduled(
      fault,
      fmt::format("get one wrong bit, {} of them, with a {} checksum",
                  base::format_share(parameters.number("share")), parameters.text("checksum")),
      map, planned);
}

base::Result<model::FaultBinding> bind_corrupt(const BindRequest& request) {
  const model::Parameters& parameters = request.fault.parameters;
  PacketProfile profile;
  profile.corrupted_share = parameters.number("share");
  profile.repairs_checksum = parameters.text("checksum") == "right";
  return bind_scheduled(request, profile, "corrupted");
}

}  // namespace

extern const FaultKind kNetworkCorrupt;
const FaultKind kNetworkCorrupt{.descriptor = &kDescriptor,
                                .describe = describe_corrupt,
                                .bind = bind_corrupt,
                                .create = create_scheduled,
                                .rehearse = rehearse_scheduled,
                                .reach = reach_rules};

}  // namespace squall::inject
