// clock.jump: the clock of running members jumps.

#include <fmt/format.h>

#include <array>

#include "base/units.h"
#include "inject/faults/clock/fake_clock.h"

namespace squall::inject {

namespace {

using model::LifetimeClass;
using model::ParameterDescriptor;
using model::ValueType;

constexpr std::array<ParameterDescriptor, 8> kParameters{{
    service_parameter("The service of which the clock jumps. It is restarted for that, before and "
                      "after."),
    member_parameter("The member, by name or role; without it, `count` decides."),
    count_parameter("For how many members."),
    kRandomParameter,
    {.name = "offset",
     .type = ValueType::kDuration,
     .required = true,
     .minimum = 1e9,
     .maximum = 1e18,
     .summary = "How far it jumps, at least 1 s."},
    direction_of_clock(),
    grace_of_clock(),
    limit_of_clock(),
}};

constexpr model::FaultKindDescriptor kDescriptor{
    .name = "clock.jump",
    .summary = "Lets the clock of a running service jump.",
    .effect =
        "The member is restarted with the true time; then, within a second, its clock jumps while "
        "it runs: time(2) and CLOCK_REALTIME, not CLOCK_MONOTONIC, as when a clock is set. The "
        "restart itself is part of the fault.",
    .revert = kClockRevert,
    .proof = kClockProof,
    .weakest = LifetimeClass::kJournaled,
    .mechanisms = kClockMechanisms,
    .capabilities = kClockCapabilities,
    .parameters = kParameters,
    .can_be_effective = true,
    .example =
        "- clock.jump: { service: api, offset: 1h, direction: back }\n"
        "  name: clock-set-back\n"
        "  at: 5s\n"
        "  for: 20s\n",
};

void describe_jump(const model::SystemMap&, const model::FaultSpecification& fault,
                   model::PlannedFault& planned) {
  describe_clock(
      fault,
      fmt::format("then its clock jumps to {}", clock_text(offset_of_clock(fault.parameters))),
      planned);
}

base::Result<model::FaultBinding> bind_jump(const BindRequest& request) {
  const double offset = offset_of_clock(request.fault.parameters);
  return bind_clock(request, "+0", fmt::format("{:+.3f}", offset), offset);
}

}  // namespace

extern const FaultKind kClockJump;
const FaultKind kClockJump{.descriptor = &kDescriptor,
                           .describe = describe_jump,
                           .bind = bind_jump,
                           .create = create_clock,
                           .rehearse = rehearse_clock,
                           .reach = reach_processes,
                           .restores = kRestoresService};

}  // namespace squall::inject
