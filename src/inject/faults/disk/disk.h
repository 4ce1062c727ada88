#pragma once
// What the disk kinds share: which accesses of which service to which files they hit, and by which
// means.

#include <array>

#include "inject/faults/syscall/interception_fault.h"

namespace squall::inject {

inline constexpr std::array<std::string_view, 3> kDiskMechanisms{kGateAndTracer, kGateMechanism,
                                                                 kTracerMechanism};
inline constexpr std::array<std::string_view, 4> kDiskCapabilities{
    "CAP_SYS_ADMIN", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_KILL"};
inline constexpr std::array<std::string_view, 2> kOpenFilesChoices{"none", "trace"};
inline constexpr std::string_view kDiskProof =
    "Effect: the marks that the kernel shows for the worker's group, TracerPid of traced targets, "
    "and the worker's counts of accesses that it held or let fail. Revert: the workers, and with "
    "them group and marks, are gone, and no target is traced by them.";

constexpr model::ParameterDescriptor access_parameter(std::string_view name,
                                                      std::string_view default_text,
                                                      std::string_view summary) {
  return {.name = name,
          .type = model::ValueType::kBoolean,
          .default_text = default_text,
          .summary = summary};
}
inline constexpr model::ParameterDescriptor kPathParameter{
    .name = "path",
    .type = model::ValueType::kPath,
    .required = true,
    .summary = "A file, or a folder with the files in it."};
inline constexpr model::ParameterDescriptor kTreeParameter =
    access_parameter("tree", "true",
                     "Also the folders in it that are there when the fault begins (one filesystem, "
                     "at most 10,000).");
inline constexpr model::ParameterDescriptor kOpensParameter =
    access_parameter("opens", "false", "Hit the opening of files.");
inline constexpr model::ParameterDescriptor kReadsParameter =
    access_parameter("reads", "true", "Hit reads.");
inline constexpr model::ParameterDescriptor kWritesParameter = access_parameter(
    "writes", "true", "Hit writes, also truncation. Needs Linux 6.14 and ext4, xfs or btrfs.");
inline constexpr model::ParameterDescriptor kSyncsParameter =
    access_parameter("syncs", "false", "Hit fsync and fdatasync; needs `open_files: trace`.");
inline constexpr model::ParameterDescriptor kOpenFilesParameter{
    .name = "open_files",
    .type = model::ValueType::kChoice,
    .default_text = "none",
    .summary =
        "Files that are open already when the fault begins (a database's log): `none` leaves "
        "them alone, `trace` hits them, too, by tracing the service, which makes every "
        "system call of it 10 to 20 us slower.",
    .choices = kOpenFilesChoices};

// `what` becomes of an access, in words: "wait 20ms".
void describe_disk(const model::FaultSpecification& fault, const std::string& what,
                   model::PlannedFault& planned);
base::Result<model::FaultBinding> bind_disk(const BindRequest& request,
                                            const Interception& interception);

}  // namespace squall::inject
