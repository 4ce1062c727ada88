// resource.io_throttle: makes a disk slow for a service, by the throttle of its cgroup.

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <map>

#include "base/text.h"
#include "inject/faults/resource/cgroup_limit.h"
#include "inject/faults/resource/filesystem.h"

namespace squall::inject {

namespace {

using model::LifetimeClass;
using model::ParameterDescriptor;
using model::ValueType;

constexpr std::array<ParameterDescriptor, 9> kParameters{{
    service_parameter("The service for which the disk is slow."),
    member_parameter("The member for which it is slow, by name or role; without it, `count` "
                     "decides."),
    count_parameter("For how many members it is slow."),
    kRandomParameter,
    {.name = "path",
     .type = ValueType::kPath,
     .required = true,
     .summary = "A file or folder on the disk, or the disk itself (`/dev/sda`)."},
    {.name = "read_bytes",
     .type = ValueType::kSize,
     .minimum = 1,
     .summary = "How much it may read in a second."},
    {.name = "write_bytes",
     .type = ValueType::kSize,
     .minimum = 1,
     .summary = "How much it may write in a second."},
    {.name = "read_operations",
     .type = ValueType::kInteger,
     .minimum = 1,
     .maximum = 4e9,
     .summary = "How many reads it may make in a second."},
    {.name = "write_operations",
     .type = ValueType::kInteger,
     .minimum = 1,
     .maximum = 4e9,
     .summary = "How many writes it may make in a second."},
}};

constexpr model::FaultKindDescriptor kDescriptor{
    .name = "resource.io_throttle",
    .summary = "Makes a disk slow for a service.",
    .effect =
        "Reads and writes to the disk wait for their turn, in bursts: the mean is exact, single "
        "ones take very different times. With cgroup v1 only direct and synced writes are held "
        "up; buffered ones are not before their fsync.",
    .revert = "The cgroup gets its former throttle back, unless somebody else changed it.",
    .proof =
        "Effect: the throttle read back, and the kernel's count of the bytes that went through it "
        "rising. Revert: the former throttle, or none, read back.",
    .weakest = LifetimeClass::kJournaled,
    .mechanisms = kCgroupMechanisms,
    .capabilities = kCgroupCapabilities,
    .parameters = kParameters,
    .can_be_effective = true,
    .example =
        "- resource.io_throttle: { service: db, path: /var/lib/db, write_bytes: 1MiB }\n"
        "  name: slow-disk\n"
        "  at: 5s\n"
        "  for: 20s\n",
};

struct Aspect {
  std::string_view parameter;
  std::string_view v1;  // file
  std::string_view v2;  // word of io.max
  bool write = false;
};
constexpr std::array<Aspect, 4> kAspects{{
    {"read_bytes", "blkio.throttle.read_bps_device", "rbps", false},
    {"write_bytes", "blkio.throttle.write_bps_device", "wbps", true},
    {"read_operations", "blkio.throttle.read_iops_device", "riops", false},
    {"write_operations", "blkio.throttle.write_iops_device", "wiops", true},
}};

std::string rates_text(const model::Parameters& parameters) {
  std::vector<std::string> texts;
  for (const Aspect& aspect : kAspects) {
    if (const auto rate = parameters.optional_integer(aspect.parameter))
      texts.push_back(fmt::format("{} {} a second", aspect.parameter, *rate));
  }
  return base::enumerate(texts);
}

void describe_io_throttle(const model::SystemMap&, const model::FaultSpecification& fault,
                          model::PlannedFault& planned) {
  planned.target = describe_selection(fault.parameters);
  planned.services = {fault.parameters.text("service")};
  planned.processes_max = planned_count(fault.parameters);
  planned.changes = {
      {.change = fmt::format("the cgroup of {} is throttled on the disk of {}: {}", planned.target,
                             fault.parameters.text("path"), rates_text(fault.parameters)),
       .revert = "its former throttle is written back, if it still has ours",
       .lifetime = LifetimeClass::kJournaled}};
}

// The line of io.max with what the parameters say; the rest as it was.
std::string merged_line(const std::string& former, const model::Parameters& parameters) {
  std::map<std::string, std::string> words;
  for (const std::string& word : base::split(former, ' ')) {
    const std::size_t at = word.find('=');
    if (at != std::string::npos) words[word.substr(0, at)] = word.substr(at + 1);
  }
  // The order in which the kernel shows them.
  std::vector<std::string> line;
  for (const std::string_view name : {"rbps", "wbps", "riops", "wiops"}) {
    std::string value = words.contains(std::string(name)) ? words[std::string(name)] : "max";
    for (const Aspect& aspect : kAspects) {
      if (aspect.v2 != name) continue;
      if (const auto rate = parameters.optional_integer(aspect.parameter))
        value = fmt::format("{}", *rate);
    }
    line.push_back(fmt::format("{}={}", name, value));
  }
  return base::join(line, " ");
}

}  // namespace

base::Result<GroupLimit> io_throttle_of(const ControllerGroup& group, const std::string& disk,
                                        const model::Parameters& parameters) {
  GroupLimit limit;
  for (const Aspect& aspect : kAspects) {
    const auto rate = parameters.optional_integer(aspect.parameter);
    if (!rate) continue;
    if (group.v2) {
      limit.counters.push_back({.file = group.folder + "/io.stat",
                                .key = disk,
                                .field = aspect.write ? "wbytes" : "rbytes"});
      continue;
    }
    LimitChange change{.file = fmt::format("{}/{}", group.folder, aspect.v1),
                       .key = disk,
                       .value = fmt::format("{}", *rate),
                       .former = {},
                       .absent = "0"};
    SQUALL_ASSIGN(change.former, read_limit(change.file, disk));
    limit.changes.push_back(std::move(change));
    limit.counters.push_back({.file = group.folder + "/blkio.throttle.io_service_bytes",
                              .key = disk + (aspect.write ? " Write" : " Read"),
                              .field = {}});
  }
  if (group.v2) {
    LimitChange change{.file = group.folder + "/io.max",
                       .key = disk,
                       .value = {},
                       .former = {},
                       .absent = "rbps=max wbps=max riops=max wiops=max"};
    SQUALL_ASSIGN(change.former, read_limit(change.file, disk));
    change.value = merged_line(change.former, parameters);
    limit.changes = {std::move(change)};
  }
  for (const LimitChange& change : limit.changes) {
    if (change.value != change.former) continue;
    return base::Error{
        .code = base::ErrorCode::kConflict,
        .message = fmt::format("{} has {} {} already", change.file, change.key, change.value),
        .hint = "choose another rate"};
  }
  return limit;
}

namespace {

base::Result<model::FaultBinding> bind_io_throttle(const BindRequest& request) {
  const model::Parameters& parameters = request.fault.parameters;
  if (rates_text(parameters).empty()) {
    return base::Error{.code = base::ErrorCode::kBadFile,
                       .message = "no rate is given",
                       .hint =
                           "write at least one of `read_bytes`, `write_bytes`, "
                           "`read_operations` and `write_operations`"};
  }
  SQUALL_ASSIGN(const std::string disk, disk_of(parameters.text("path")));
  return bind_group_limits(request, {.v1 = "blkio", .v2 = "io"},
                           "bytes that went through:", [&](const ControllerGroup& group) {
                             return io_throttle_of(group, disk, parameters);
                           });
}

}  // namespace

extern const FaultKind kResourceIoThrottle;
const FaultKind kResourceIoThrottle{.descriptor = &kDescriptor,
                                    .describe = describe_io_throttle,
                                    .bind = bind_io_throttle,
                                    .create = create_group_limit,
                                    .rehearse = rehearse_group_limit,
                                    .reach = reach_group_limit};

}  // namespace squall::inject
