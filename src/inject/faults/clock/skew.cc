// clock.skew: members have a clock that is wrong from their start on, or goes wrong.

#include <fmt/format.h>

#include <array>

#include "base/units.h"
#include "inject/faults/clock/fake_clock.h"

namespace squall::inject {

namespace {

using model::LifetimeClass;
using model::ParameterDescriptor;
using model::ValueType;

constexpr std::array<ParameterDescriptor, 9> kParameters{{
    service_parameter("The service that gets another clock. It is restarted for that, before and "
                      "after."),
    member_parameter("The member, by name or role; without it, `count` decides."),
    count_parameter("How many members get one."),
    kRandomParameter,
    {.name = "offset",
     .type = ValueType::kDuration,
     .default_text = "0s",
     .minimum = 0,
     .maximum = 1e18,
     .summary = "How wrong it is when the member starts."},
    direction_of_clock(),
    {.name = "rate",
     .type = ValueType::kNumber,
     .default_text = "1",
     .minimum = 0.1,
     .maximum = 10,
     .summary = "How many seconds it counts in a second."},
    grace_of_clock(),
    limit_of_clock(),
}};

constexpr model::FaultKindDescriptor kDescriptor{
    .name = "clock.skew",
    .summary = "Gives a service a clock that is ahead, behind, too fast or too slow.",
    .effect =
        "The member is restarted and sees another time from its start on: time(2) and "
        "CLOCK_REALTIME, not CLOCK_MONOTONIC. Certificates, tokens, leases and time stamps are "
        "judged by it. With a `rate`, sleeps that it computes from the wrong clock are wrong, too. "
        "The restart itself is part of the fault.",
    .revert = kClockRevert,
    .proof = kClockProof,
    .weakest = LifetimeClass::kJournaled,
    .mechanisms = kClockMechanisms,
    .capabilities = kClockCapabilities,
    .parameters = kParameters,
    .can_be_effective = true,
    .example =
        "- clock.skew: { service: api, offset: 5min, direction: back }\n"
        "  name: clock-behind\n"
        "  at: 5s\n"
        "  for: 20s\n",
};

void describe_skew(const model::SystemMap&, const model::FaultSpecification& fault,
                   model::PlannedFault& planned) {
  const double rate = fault.parameters.number("rate");
  std::string what = "its clock is " + clock_text(offset_of_clock(fault.parameters));
  if (rate != 1) what += fmt::format(" and counts {} seconds in a second", rate);
  describe_clock(fault, what, planned);
}

base::Result<model::FaultBinding> bind_skew(const BindRequest& request) {
  const double offset = offset_of_clock(request.fault.parameters);
  const double rate = request.fault.parameters.number("rate");
  if (offset == 0 && rate == 1) {
    return base::Error{.code = base::ErrorCode::kBadFile,
                       .message = "neither `offset` nor `rate` is given: the clock would be right",
                       .hint = "write `offset: 5min` or `rate: 1.1`"};
  }
  std::string text = fmt::format("{:+.3f}", offset);
  if (rate != 1) text += fmt::format(" x{}", rate);
  return bind_clock(request, text, text, offset);
}

}  // namespace

extern const FaultKind kClockSkew;
const FaultKind kClockSkew{.descriptor = &kDescriptor,
                           .describe = describe_skew,
                           .bind = bind_skew,
                           .create = create_clock,
                           .rehearse = rehearse_clock,
                           .reach = reach_processes,
                           .restores = kRestoresService};

}  // namespace squall::inject
