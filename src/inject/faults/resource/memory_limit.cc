// resource.memory_limit: lets a service have only so much memory, by the limit of its cgroup.

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>

#include "base/units.h"
#include "inject/faults/resource/cgroup_limit.h"
#include "inject/faults/resource/parameters.h"

namespace squall::inject {

namespace {

using model::LifetimeClass;
using model::ParameterDescriptor;
using model::ValueType;

constexpr std::array<ParameterDescriptor, 6> kParameters{{
    service_parameter("The service that is squeezed."),
    member_parameter("The member that is squeezed, by name or role; without it, `count` decides."),
    count_parameter("How many members are squeezed."),
    kRandomParameter,
    {.name = "limit",
     .type = ValueType::kSize,
     .minimum = 65536,
     .summary = "How much its cgroup may have; either this or `left`."},
    {.name = "left",
     .type = ValueType::kSize,
     .summary = "How much more it may have than what it uses when the fault is bound and what the "
                "kernel cannot take back from it."},
}};

constexpr model::FaultKindDescriptor kDescriptor{
    .name = "resource.memory_limit",
    .summary = "Lets a service have little memory.",
    .effect =
        "The page cache of its files is taken back first; then the kernel kills a process of the "
        "group, and nothing brings that back. Refused when it would kill at once.",
    .revert = "The cgroup gets its former limit back, unless somebody else changed it meanwhile.",
    .proof =
        "Effect: the limit read back, and the kernel's count of how often it was met rising. "
        "Revert: the former limit read back.",
    .weakest = LifetimeClass::kJournaled,
    .mechanisms = kCgroupMechanisms,
    .capabilities = kCgroupCapabilities,
    .parameters = kParameters,
    .can_be_effective = true,
    .example =
        "- resource.memory_limit: { service: api, left: 16MiB }\n"
        "  name: short-of-memory\n"
        "  at: 5s\n"
        "  for: 20s\n",
};

void describe_memory_limit(const model::SystemMap&, const model::FaultSpecification& fault,
                           model::PlannedFault& planned) {
  const model::Parameters& parameters = fault.parameters;
  describe_members(parameters, planned);
  const std::string amount =
      parameters.has("limit")
          ? base::format_size(parameters.size("limit"))
          : base::format_size(parameters.has("left") ? parameters.size("left") : 0) +
                " more than it uses";
  planned.changes = {{.change = fmt::format("the cgroup of {} may have {}", planned.target, amount),
                      .revert = "its former limit is written back, if it still has ours",
                      .lifetime = LifetimeClass::kJournaled}};
}

std::uint64_t number(const std::string& file, const std::string& key = {}) {
  return read_number({.file = file, .key = key, .field = {}}).value_or(0);
}

}  // namespace

std::uint64_t pinned_bytes(const ControllerGroup& group) {
  const std::string stat = group.folder + "/memory.stat";
  const std::string total = group.v2 ? "" : "total_";
  const std::uint64_t used =
      number(group.folder + (group.v2 ? "/memory.current" : "/memory.usage_in_bytes"));
  const std::uint64_t cache =
      number(stat, total + "inactive_file") + number(stat, total + "active_file");
  return used - std::min(used, cache);
}

base::Result<GroupLimit> memory_limit_of(const ControllerGroup& group,
                                         const model::Parameters& parameters) {
  const std::uint64_t pinned = pinned_bytes(group);
  std::uint64_t wanted =
      parameters.has("limit") ? parameters.size("limit") : pinned + parameters.size("left");
  const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  wanted -= wanted % page;
  if (wanted < pinned || wanted == 0) {
    return base::Error{
        .code = base::ErrorCode::kBlocked,
        .message = fmt::format("cgroup {} uses {} that cannot be taken back: with {} the kernel "
                               "would refuse (EBUSY) or kill at once",
                               group.name, base::format_size(pinned), base::format_size(wanted)),
        .hint = "raise `limit`, or say how much more it may have: `left: 16MiB`"};
  }
  GroupLimit limit;
  LimitChange change{.file = group.folder + (group.v2 ? "/memory.max" : "/memory.limit_in_bytes"),
                     .key = {},
                     .value = fmt::format("{}", wanted),
                     .former = {},
                     .absent = {}};
  change.used = group.folder + (group.v2 ? "/memory.current" : "/memory.usage_in_bytes");
  SQUALL_ASSIGN(change.former, read_limit(change.file));
  const std::uint64_t former = std::strtoull(change.former.c_str(), nullptr, 10);  // "max": 0
  if (former > 0 && former <= wanted) {
    return base::Error{
        .code = base::ErrorCode::kConflict,
        .message = fmt::format("cgroup {} has a limit of {} already: {} would not "
                               "squeeze it",
                               group.name, base::format_size(former), base::format_size(wanted)),
        .hint = "lower `limit` or `left`"};
  }
  limit.changes = {change};
  if (group.v2) {
    const std::string events = group.folder + "/memory.events";
    limit.counters = {{.file = events, .key = "max", .field = {}}};
    limit.deaths = {{.file = events, .key = "oom_kill", .field = {}}};
  } else {
    limit.counters = {{.file = group.folder + "/memory.failcnt", .key = {}, .field = {}}};
    limit.deaths = {{.file = group.folder + "/memory.oom_control", .key = "oom_kill", .field = {}}};
  }
  return limit;
}

namespace {

base::Result<model::FaultBinding> bind_memory_limit(const BindRequest& request) {
  SQUALL_TRY(check_exactly_one(request.fault.parameters, "limit", "left"));
  return bind_group_limits(request, {.v1 = "memory", .v2 = "memory"},
                           "times that it was met:", [&](const ControllerGroup& group) {
                             return memory_limit_of(group, request.fault.parameters);
                           });
}

}  // namespace

extern const FaultKind kResourceMemoryLimit;
const FaultKind kResourceMemoryLimit{.descriptor = &kDescriptor,
                                     .describe = describe_memory_limit,
                                     .bind = bind_memory_limit,
                                     .create = create_group_limit,
                                     .rehearse = rehearse_group_limit,
                                     .reach = reach_group_limit};

}  // namespace squall::inject
