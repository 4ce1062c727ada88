// disk.errors: a service's accesses to files fail.

#include "inject/faults/disk/disk.h"

namespace squall::inject {

namespace {

using model::ParameterDescriptor;
using model::ValueType;

// Those that the kernel lets a permission event answer.
constexpr std::array<std::string_view, 7> kErrors{"EIO",    "ENOSPC", "EDQUOT", "EBUSY",
                                                  "EAGAIN", "EPERM",  "ETXTBSY"};
constexpr std::array<ParameterDescriptor, 14> kParameters{{
    service_parameter("The service whose accesses fail; with all its child processes."),
    member_parameter("The member to hit, by name or role; without it, `count` decides."),
    count_parameter("How many members are hit."),
    kRandomParameter,
    kJoinsParameter,
    kPathParameter,
    kTreeParameter,
    {.name = "error",
     .type = ValueType::kChoice,
     .default_text = "EIO",
     .summary = "The error that the service gets. Before Linux 6.13 only EPERM.",
     .choices = kErrors},
    kOpensParameter,
    kReadsParameter,
    kWritesParameter,
    kSyncsParameter,
    kHitShareParameter,
    kOpenFilesParameter,
}};

constexpr model::FaultKindDescriptor kDescriptor{
    .name = "disk.errors",
    .summary = "Makes a service's accesses to files fail.",
    .effect =
        "Its open, read, write or sync returns the error and does nothing; no data is changed. "
        "Files that are open when the fault begins are hit with `open_files: trace` only. Others "
        "who use the same files wait some 20 us for an answer, and succeed. Accesses through "
        "mapped memory are not hit.",
    .revert = kInterceptionRevert,
    .proof = kDiskProof,
    .weakest = model::LifetimeClass::kKernelHeld,
    .mechanisms = kDiskMechanisms,
    .capabilities = kDiskCapabilities,
    .parameters = kParameters,
    .can_be_effective = true,
    .example =
        "- disk.errors: { service: db, path: /var/lib/db, error: EIO, share: 5% }\n"
        "  name: bad-disk\n"
        "  at: 5s\n"
        "  for: 20s\n",
};

void describe_disk_errors(const model::SystemMap&, const model::FaultSpecification& fault,
                          model::PlannedFault& planned) {
  describe_disk(fault, "fail with " + fault.parameters.text("error"), planned);
}

base::Result<model::FaultBinding> bind_disk_errors(const BindRequest& request) {
  const model::Parameters& parameters = request.fault.parameters;
  return bind_disk(request, {.share = parameters.number("share"),
                             .delay = {},
                             .jitter = {},
                             .error = error_number(parameters.text("error"))});
}

}  // namespace

extern const FaultKind kDiskErrors;
const FaultKind kDiskErrors{.descriptor = &kDescriptor,
                            .describe = describe_disk_errors,
                            .bind = bind_disk_errors,
                            .create = create_interception,
                            .rehearse = rehearse_interception,
                            .reach = reach_interception};

}  // namespace squall::inject
