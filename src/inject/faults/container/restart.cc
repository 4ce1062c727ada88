// container.restart: the engine stops a container and starts it again at once. Should either half
// fail, the revert starts it.

#include <fmt/format.h>

#include <array>

#include "inject/faults/container/down.h"
#include "inject/json_fields.h"

namespace squall::inject {

namespace {

using model::LifetimeClass;
using model::ParameterDescriptor;

constexpr std::array<std::string_view, 1> kMechanisms{kContainerEngine};
constexpr std::array<std::string_view, 0> kCapabilities{};
constexpr std::array<ParameterDescriptor, 6> kParameters{{
    service_parameter(
        "The service of which containers are restarted; the map's `container` selects "
        "them by name, label or image."),
    member_parameter("The member to restart, by name or role; without it, `count` decides."),
    count_parameter("How many containers are restarted."),
    kRandomParameter,
    kContainerGraceParameter,
    kContainerLimitParameter,
}};

constexpr model::FaultKindDescriptor kDescriptor{
    .name = "container.restart",
    .summary = "Restarts containers of a service by their engine (Docker, Podman).",
    .effect =
        "The first process is asked to end and, after `grace`, killed, and is started again at "
        "once; in between nobody serves.",
    .revert = "A container that does not run again is started.",
    .proof =
        "Effect: the kernel reports the end of the very process that was bound (pidfd), and the "
        "engine names the new one, which the kernel has. Revert: it still runs.",
    .weakest = LifetimeClass::kOneWay,
    .mechanisms = kMechanisms,
    .capabilities = kCapabilities,
    .parameters = kParameters,
    .can_be_effective = true,
    .example =
        "- container.restart: { service: queue, grace: 3s }\n"
        "  name: rollout\n"
        "  at: 5s\n"
        "  for: 10s\n",
    .root_only = kEnginesAreRoots,
};

void describe_kind(const model::SystemMap&, const model::FaultSpecification& fault,
                   model::PlannedFault& planned) {
  const model::Parameters& parameters = fault.parameters;
  describe_members(parameters, planned);
  planned.changes = {
      {.change = fmt::format("the container engine restarts the container of {}", planned.target),
       .revert = "the engine starts it, should it not run again",
       .lifetime = LifetimeClass::kOneWay}};
}

base::Result<model::FaultBinding> bind_kind(const BindRequest& request) {
  const base::Duration grace = request.fault.parameters.duration("grace");
  const auto seconds = std::chrono::ceil<std::chrono::seconds>(grace);
  return bind_takedown(request,
                       {.verb = "restart",
                        .path = fmt::format("/restart?t={}", seconds.count()),
                        .grace = seconds,
                        .comes_back = true},
                       Restore::kStart, LifetimeClass::kOneWay);
}

}  // namespace

extern const FaultKind kContainerRestart;
const FaultKind kContainerRestart{.descriptor = &kDescriptor,
                                  .describe = describe_kind,
                                  .bind = bind_kind,
                                  .create = create_takedown,
                                  .rehearse = rehearse_containers,
                                  .restores = kRestoresService,
                                  .survives_reboot = true};

}  // namespace squall::inject
