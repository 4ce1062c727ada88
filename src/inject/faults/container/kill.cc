// container.kill: the engine sends a signal to the first process of a container, which ends with
// all that runs in it. Nothing undoes that, so `restore` says who brings it back. Docker holds a
// killed container for stopped by hand: its restart policy does not start it.

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "inject/faults/container/down.h"
#include "inject/json_fields.h"

namespace squall::inject {

namespace {

using model::LifetimeClass;
using model::ParameterDescriptor;
using model::ValueType;

constexpr std::array<std::string_view, 1> kMechanisms{kContainerEngine};
constexpr std::array<std::string_view, 0> kCapabilities{};
constexpr std::array<std::string_view, 3> kRestoreChoices{"start", "await", "none"};
constexpr std::array<std::string_view, 6> kSignals{"SIGKILL", "SIGTERM", "SIGINT",
                                                   "SIGQUIT", "SIGABRT", "SIGHUP"};
constexpr std::array<ParameterDescriptor, 7> kParameters{{
    service_parameter("The service of which containers are killed; the map's `container` selects "
                      "them by name, label or image."),
    member_parameter("The member to kill, by name or role; without it, `count` decides."),
    count_parameter("How many containers are killed."),
    kRandomParameter,
    {.name = "signal",
     .type = ValueType::kSignal,
     .default_text = "SIGKILL",
     .summary = "The signal that is sent; it must be one that ends the first process."},
    {.name = "restore",
     .type = ValueType::kChoice,
     .default_text = "start",
     .summary =
         "Who brings it back: `start` has the engine start the same container unless it "
         "came back by itself, `await` waits for whoever replaces it, `none` leaves it down.",
     .choices = kRestoreChoices},
    kContainerLimitParameter,
}};

constexpr model::FaultKindDescriptor kDescriptor{
    .name = "container.kill",
    .summary = "Kills containers of a service by their engine (Docker, Podman).",
    .effect =
        "The first process of the container ends at the signal, and with it all others; "
        "connections break, and its memory is lost.",
    .revert =
        "Nothing undoes a kill. `restore` says who brings the container back, and the fault ends "
        "when it, or its replacement, runs.",
    .proof =
        "Effect: the kernel reports the end of the very process that was bound (pidfd), and the "
        "engine says in which state the container is. Revert: the engine says that it runs, with a "
        "process that the kernel has.",
    .weakest = LifetimeClass::kOneWay,
    .mechanisms = kMechanisms,
    .capabilities = kCapabilities,
    .parameters = kParameters,
    .can_be_effective = true,
    .example =
        "- container.kill: { service: queue, restore: start }\n"
        "  name: outage\n"
        "  at: 5s\n"
        "  for: 10s\n",
    .root_only = kEnginesAreRoots,
};

void describe_kind(const model::SystemMap&, const model::FaultSpecification& fault,
                   model::PlannedFault& planned) {
  const model::Parameters& parameters = fault.parameters;
  describe_members(parameters, planned);
  const Restore restore = restore_from(parameters.text("restore")).value_or(Restore::kStart);
  std::string revert = "the engine starts it again, unless it came back by itself";
  if (restore == Restore::kAwait) revert = "whoever supervises it replaces it; that is awaited";
  if (restore == Restore::kNone) revert = "nobody brings it back: it stays down";
  planned.changes = {{.change = fmt::format("the container engine sends {} to the container of {}",
                                            parameters.text("signal"), planned.target),
                      .revert = revert,
                      .lifetime = LifetimeClass::kOneWay}};
}

base::Result<model::FaultBinding> bind_kind(const BindRequest& request) {
  const model::Parameters& parameters = request.fault.parameters;
  const std::string signal = parameters.text("signal");
  if (std::find(kSignals.begin(), kSignals.end(), signal) == kSignals.end()) {
    return base::Error{.code = base::ErrorCode::kUnsupported,
                       .message = fmt::format("{} does not end a container", signal),
                       .hint = "use SIGKILL, SIGTERM, SIGINT, SIGQUIT, SIGABRT or SIGHUP"};
  }
  return bind_takedown(request, {.verb = "kill", .path = "/kill?signal=" + signal, .grace = {}},
                       restore_from(parameters.text("restore")).value_or(Restore::kStart),
                       LifetimeClass::kOneWay);
}

}  // namespace

extern const FaultKind kContainerKill;
const FaultKind kContainerKill{.descriptor = &kDescriptor,
                               .describe = describe_kind,
                               .bind = bind_kind,
                               .create = create_takedown,
                               .rehearse = rehearse_containers,
                               .restores = kRestoresService,
                               .survives_reboot = false};

}  // namespace squall::inject
