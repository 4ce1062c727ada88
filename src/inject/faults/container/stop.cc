// container.stop: the engine stops a container in order and, at the end of the fault, starts it
// again. An engine remembers across a reboot that a container was stopped, so does the journal.

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
    service_parameter("The service of which containers are stopped; the map's `container` selects "
                      "them by name, label or image."),
    member_parameter("The member to stop, by name or role; without it, `count` decides."),
    count_parameter("How many containers are stopped."),
    kRandomParameter,
    kContainerGraceParameter,
    kContainerLimitParameter,
}};

constexpr model::FaultKindDescriptor kDescriptor{
    .name = "container.stop",
    .summary = "Stops containers of a service by their engine, and starts them again.",
    .effect =
        "The first process is asked to end and, after `grace`, killed; nobody serves until the "
        "fault ends. The restart policy of the engine does not bring it back.",
    .revert =
        "The engine starts the same container again, also after a reboot. One that somebody else "
        "started or removed meanwhile is left as it is.",
    .proof =
        "Effect: the kernel reports the end of the very process that was bound (pidfd), and the "
        "engine says that the container does not run. Revert: the engine says that it runs, with a "
        "process that the kernel has.",
    .weakest = LifetimeClass::kJournaled,
    .mechanisms = kMechanisms,
    .capabilities = kCapabilities,
    .parameters = kParameters,
    .can_be_effective = true,
    .example =
        "- container.stop: { service: queue, grace: 3s }\n"
        "  name: outage\n"
        "  at: 5s\n"
        "  for: 10s\n",
    .root_only = kEnginesAreRoots,
};

void describe_kind(const model::SystemMap&, const model::FaultSpecification& fault,
                   model::PlannedFault& planned) {
  const model::Parameters& parameters = fault.parameters;
  describe_members(parameters, planned);
  planned.changes = {
      {.change = fmt::format("the container engine stops the container of {}", planned.target),
       .revert = "the engine starts it again, unless somebody else did",
       .lifetime = LifetimeClass::kJournaled}};
}

base::Result<model::FaultBinding> bind_kind(const BindRequest& request) {
  const base::Duration grace = request.fault.parameters.duration("grace");
  const auto seconds = std::chrono::ceil<std::chrono::seconds>(grace);
  return bind_takedown(
      request,
      {.verb = "stop", .path = fmt::format("/stop?t={}", seconds.count()), .grace = seconds},
      Restore::kStart, LifetimeClass::kJournaled);
}

}  // namespace

extern const FaultKind kContainerStop;
const FaultKind kContainerStop{.descriptor = &kDescriptor,
                               .describe = describe_kind,
                               .bind = bind_kind,
                               .create = create_takedown,
                               .rehearse = rehearse_containers,
                               .restores = kRestoresService,
                               .survives_reboot = true};

}  // namespace squall::inject
