// resource.pids: lets a service have only so many processes and threads, by the limit of its
// cgroup.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdlib>

#include "inject/faults/resource/cgroup_limit.h"
#include "inject/faults/resource/parameters.h"

namespace squall::inject {

namespace {

using model::LifetimeClass;
using model::ParameterDescriptor;
using model::ValueType;

constexpr std::array<ParameterDescriptor, 6> kParameters{{
    service_parameter("The service that may start no more processes and threads."),
    member_parameter("The member that is limited, by name or role; without it, `count` decides."),
    count_parameter("How many members are limited."),
    kRandomParameter,
    {.name = "limit",
     .type = ValueType::kInteger,
     .minimum = 0,
     .maximum = 4194304,
     .summary = "How many processes and threads its cgroup may have; either this or `left`. What "
                "runs goes on."},
    {.name = "left",
     .type = ValueType::kInteger,
     .minimum = 0,
     .maximum = 4194304,
     .summary = "How many more it may have than when the fault is bound."},
}};

constexpr model::FaultKindDescriptor kDescriptor{
    .name = "resource.pids",
    .summary = "Lets a service start no more processes and threads.",
    .effect = "fork and clone fail with EAGAIN: no new worker, backend or thread.",
    .revert = "The cgroup gets its former limit back, unless somebody else changed it meanwhile.",
    .proof =
        "Effect: the limit read back, and `max` of pids.events rising, so not before the service "
        "tries to start one too many. Revert: the former limit read back.",
    .weakest = LifetimeClass::kJournaled,
    .mechanisms = kCgroupMechanisms,
    .capabilities = kCgroupCapabilities,
    .parameters = kParameters,
    .can_be_effective = true,
    .example =
        "- resource.pids: { service: db, left: 2 }\n"
        "  name: cannot-fork\n"
        "  at: 5s\n"
        "  for: 20s\n",
};

void describe_pids(const model::SystemMap&, const model::FaultSpecification& fault,
                   model::PlannedFault& planned) {
  const model::Parameters& parameters = fault.parameters;
  describe_members(parameters, planned);
  const auto limit = parameters.optional_integer("limit");
  const std::string amount =
      limit ? fmt::format("{}", *limit)
            : fmt::format("{} more than it has", parameters.optional_integer("left").value_or(0));
  planned.changes = {{.change = fmt::format("the cgroup of {} may have {} processes and threads",
                                            planned.target, amount),
                      .revert = "its former limit is written back, if it still has ours",
                      .lifetime = LifetimeClass::kJournaled}};
}

}  // namespace

base::Result<GroupLimit> pids_limit_of(const ControllerGroup& group,
                                       const model::Parameters& parameters) {
  LimitChange change{
      .file = group.folder + "/pids.max", .key = {}, .value = {}, .former = {}, .absent = {}};
  SQUALL_ASSIGN(change.former, read_limit(change.file));
  SQUALL_ASSIGN(const std::uint64_t now,
                read_number({.file = group.folder + "/pids.current", .key = {}, .field = {}}));
  const auto absolute = parameters.optional_integer("limit");
  const std::uint64_t wanted = absolute
                                   ? static_cast<std::uint64_t>(*absolute)
                                   : now + static_cast<std::uint64_t>(parameters.integer("left"));
  if (change.former != "max" && std::strtoull(change.former.c_str(), nullptr, 10) <= wanted) {
    return base::Error{.code = base::ErrorCode::kConflict,
                       .message = fmt::format("cgroup {} has a limit of {} already: {} would not "
                                              "squeeze it",
                                              group.name, change.former, wanted),
                       .hint = "lower `limit` or `left`"};
  }
  change.value = fmt::format("{}", wanted);
  GroupLimit limit;
  limit.changes = {change};
  limit.counters = {{.file = group.folder + "/pids.events", .key = "max", .field = {}}};
  return limit;
}

namespace {

base::Result<model::FaultBinding> bind_pids(const BindRequest& request) {
  SQUALL_TRY(check_exactly_one(request.fault.parameters, "limit", "left"));
  return bind_group_limits(
      request, {.v1 = "pids", .v2 = "pids"}, "times that it could not start another:",
      [&](const ControllerGroup& group) { return pids_limit_of(group, request.fault.parameters); });
}

}  // namespace

extern const FaultKind kResourcePids;
const FaultKind kResourcePids{.descriptor = &kDescriptor,
                              .describe = describe_pids,
                              .bind = bind_pids,
                              .create = create_group_limit,
                              .rehearse = rehearse_group_limit,
                              .reach = reach_group_limit};

}  // namespace squall::inject
