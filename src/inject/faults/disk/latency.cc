// disk.latency: a service's accesses to files wait before they are made.

#include "base/units.h"
#include "inject/faults/disk/disk.h"

namespace squall::inject {

namespace {

using model::ParameterDescriptor;
using model::ValueType;

constexpr std::array<ParameterDescriptor, 15> kParameters{{
    service_parameter("The service whose accesses wait; with all its child processes."),
    member_parameter("The member to hit, by name or role; without it, `count` decides."),
    count_parameter("How many members are hit."),
    kRandomParameter,
    kJoinsParameter,
    kPathParameter,
    kTreeParameter,
    {.name = "delay",
     .type = ValueType::kDuration,
     .required = true,
     .minimum = 1e5,
     .maximum = 30e9,
     .summary = "How long each access waits before it is made."},
    {.name = "jitter",
     .type = ValueType::kDuration,
     .default_text = "0s",
     .minimum = 0,
     .maximum = 30e9,
     .summary = "Up to this much more or less than `delay`."},
    kOpensParameter,
    kReadsParameter,
    kWritesParameter,
    kSyncsParameter,
    kHitShareParameter,
    kOpenFilesParameter,
}};

constexpr model::FaultKindDescriptor kDescriptor{
    .name = "disk.latency",
    .summary = "Delays a service's accesses to files.",
    .effect =
        "The thread stands still in its open, read, write or sync until the delay is over; it gets "
        "its signals afterwards, but can be killed. Files that are open when the fault begins are "
        "hit with `open_files: trace` only. Others who use the same files wait some 20 us for an "
        "answer. Accesses through mapped memory are not hit.",
    .revert = kInterceptionRevert,
    .proof = kDiskProof,
    .weakest = model::LifetimeClass::kKernelHeld,
    .mechanisms = kDiskMechanisms,
    .capabilities = kDiskCapabilities,
    .parameters = kParameters,
    .can_be_effective = true,
    .example =
        "- disk.latency: { service: db, path: /var/lib/db, delay: 20ms, syncs: true, "
        "open_files: trace }\n"
        "  name: slow-disk\n"
        "  at: 5s\n"
        "  for: 20s\n",
};

void describe_disk_latency(const model::SystemMap&, const model::FaultSpecification& fault,
                           model::PlannedFault& planned) {
  describe_disk(fault, "wait " + base::format_duration(fault.parameters.duration("delay")),
                planned);
}

base::Result<model::FaultBinding> bind_disk_latency(const BindRequest& request) {
  const model::Parameters& parameters = request.fault.parameters;
  return bind_disk(request, {.share = parameters.number("share"),
                             .delay = parameters.duration("delay"),
                             .jitter = parameters.duration("jitter"),
                             .error = 0});
}

}  // namespace

extern const FaultKind kDiskLatency;
const FaultKind kDiskLatency{.descriptor = &kDescriptor,
                             .describe = describe_disk_latency,
                             .bind = bind_disk_latency,
                             .create = create_interception,
                             .rehearse = rehearse_interception,
                             .reach = reach_interception};

}  // namespace squall::inject
