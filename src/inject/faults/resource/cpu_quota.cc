// resource.cpu_quota: lets a service have only so much processor time, by the quota of its cgroup.

#include <fmt/format.h>

#include <array>
#include <cstdlib>

#include "base/text.h"
#include "inject/faults/resource/cgroup_limit.h"

namespace squall::inject {

namespace {

using model::LifetimeClass;
using model::ParameterDescriptor;
using model::ValueType;

constexpr std::array<ParameterDescriptor, 5> kParameters{{
    service_parameter("The service that is squeezed."),
    member_parameter("The member that is squeezed, by name or role; without it, `count` decides."),
    count_parameter("How many members are squeezed."),
    kRandomParameter,
    {.name = "processors",
     .type = ValueType::kNumber,
     .required = true,
     .minimum = 0.01,
     .maximum = 1024,
     .summary = "How many processors' time its cgroup may have: 0.1 is a tenth of one."},
}};

constexpr model::FaultKindDescriptor kDescriptor{
    .name = "resource.cpu_quota",
    .summary = "Lets a service have little processor time.",
    .effect =
        "In each period (100 ms as a rule) its processes run until the quota is used up and stand "
        "still for the rest. An idle service notices nothing.",
    .revert = "The cgroup gets its former quota back, unless somebody else changed it meanwhile.",
    .proof =
        "Effect: the quota read back, and nr_throttled of cpu.stat rising, so not before the "
        "service wants more than it may have. Revert: the former quota read back.",
    .weakest = LifetimeClass::kJournaled,
    .mechanisms = kCgroupMechanisms,
    .capabilities = kCgroupCapabilities,
    .parameters = kParameters,
    .can_be_effective = true,
    .example =
        "- resource.cpu_quota: { service: api, processors: 0.1 }\n"
        "  name: starved\n"
        "  at: 5s\n"
        "  for: 20s\n",
};

constexpr double kLeastQuota = 1000;  // microseconds: the kernel takes no less

void describe_cpu_quota(const model::SystemMap&, const model::FaultSpecification& fault,
                        model::PlannedFault& planned) {
  planned.target = describe_selection(fault.parameters);
  planned.services = {fault.parameters.text("service")};
  planned.processes_max = planned_count(fault.parameters);
  planned.changes = {{.change = fmt::format("the cgroup of {} may use {} processors",
                                            planned.target, fault.parameters.number("processors")),
                      .revert = "its former quota is written back, if it still has ours",
                      .lifetime = LifetimeClass::kJournaled}};
}

base::Error not_lower(const ControllerGroup& group, const std::string& former, double quota) {
  return {.code = base::ErrorCode::kConflict,
          .message = fmt::format("cgroup {} has a quota of {} us already: {:.0f} us would not "
                                 "squeeze it",
                                 group.name, former, quota),
          .hint = "lower `processors`"};
}

}  // namespace

base::Result<GroupLimit> cpu_quota_of(const ControllerGroup& group, double processors) {
  GroupLimit limit;
  limit.counters = {{.file = group.folder + "/cpu.stat", .key = "nr_throttled", .field = {}}};
  LimitChange change;
  std::string quota_text;
  double period = 0;
  if (group.v2) {
    change.file = group.folder + "/cpu.max";
    SQUALL_ASSIGN(change.former, read_limit(change.file));
    const std::vector<std::string> words = base::split(change.former, ' ');
    if (words.size() == 2) period = std::strtod(words[1].c_str(), nullptr);
    quota_text = words.front();
  } else {
    change.file = group.folder + "/cpu.cfs_quota_us";
    SQUALL_ASSIGN(change.former, read_limit(change.file));
    SQUALL_ASSIGN(const std::string text, read_limit(group.folder + "/cpu.cfs_period_us"));
    period = std::strtod(text.c_str(), nullptr);
    quota_text = change.former;
  }
  const double quota = period * processors;
  if (quota < kLeastQuota) {
    return base::Error{
        .code = base::ErrorCode::kUnsupported,
        .message = fmt::format("{} processors are {:.0f} us of the {:.0f} us period of cgroup {}; "
                               "the kernel takes no less than {:.0f}",
                               processors, quota, period, group.name, kLeastQuota),
        .hint = "raise `processors`"};
  }
  const double former = std::strtod(quota_text.c_str(), nullptr);  // "max" and -1: none
  if (former > 0 && former <= quota) return not_lower(group, quota_text, quota);
  change.value =
      group.v2 ? fmt::format("{:.0f} {:.0f}", quota, period) : fmt::format("{:.0f}", quota);
  limit.changes = {change};
  return limit;
}

namespace {

base::Result<model::FaultBinding> bind_cpu_quota(const BindRequest& request) {
  return bind_group_limits(request, {.v1 = "cpu", .v2 = "cpu"},
                           "periods in which it was throttled:", [&](const ControllerGroup& group) {
                             return cpu_quota_of(group,
                                                 request.fault.parameters.number("processors"));
                           });
}

}  // namespace

extern const FaultKind kResourceCpuQuota;
const FaultKind kResourceCpuQuota{.descriptor = &kDescriptor,
                                  .describe = describe_cpu_quota,
                                  .bind = bind_cpu_quota,
                                  .create = create_group_limit,
                                  .rehearse = rehearse_group_limit,
                                  .reach = reach_group_limit};

}  // namespace squall::inject
