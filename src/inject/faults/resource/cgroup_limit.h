#pragma once
// A fault that is a value in files of the cgroups of a service: written when armed, given back as
// it stood when reverted. Shared by the kinds that squeeze a service.

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "inject/cgroup.h"
#include "inject/fault.h"
#include "inject/faults/process/targets.h"

namespace squall::inject {

inline constexpr std::string_view kCgroupV1 = "cgroup v1";
inline constexpr std::string_view kCgroupV2 = "cgroup v2";
inline constexpr std::array<std::string_view, 2> kCgroupMechanisms{kCgroupV1, kCgroupV2};
inline constexpr std::array<std::string_view, 2> kCgroupCapabilities{"CAP_DAC_OVERRIDE",
                                                                     "CAP_KILL"};

// One value: the whole of `file`, or the rest of its line that begins with `key`.
struct LimitChange {
  std::string file;
  std::string key;
  std::string value;   // as the kernel reads it back
  std::string former;  // found when bound; empty: there was no such line
  std::string absent;  // what takes the line away
  // The file that says how much is used, when the kernel takes back what is above the limit before
  // its write returns: then the value is approached in steps, so that none takes long.
  std::string used = {};
};
// A number that rises: the first one behind `key` in `file` (and behind `field`, if given).
struct LimitCounter {
  std::string file;
  std::string key;
  std::string field;
};
// What a kind does to one group.
struct GroupLimit {
  std::vector<LimitChange> changes;
  std::vector<LimitCounter> counters;  // effective when one of them rises
  std::vector<LimitCounter> deaths;    // told when they rise
};

// kNotFound when the file is gone; empty when it has no line with `key`.
base::Result<std::string> read_limit(const std::string& file, const std::string& key = {});
base::Result<std::uint64_t> read_number(const LimitCounter& counter);

// What each kind writes to a group; reads the group's files as they are now. An error says why the
// fault would squeeze nothing, or too much.
base::Result<GroupLimit> cpu_quota_of(const ControllerGroup& group, double processors);
base::Result<GroupLimit> memory_limit_of(const ControllerGroup& group,
                                         const model::Parameters& parameters);
base::Result<GroupLimit> pids_limit_of(const ControllerGroup& group,
                                       const model::Parameters& parameters);
// What a memory group uses and cannot be had back from it: everything but the page cache of files.
std::uint64_t pinned_bytes(const ControllerGroup& group);
// `disk`: "254:0".
base::Result<GroupLimit> io_throttle_of(const ControllerGroup& group, const std::string& disk,
                                        const model::Parameters& parameters);

// The name of a controller in both versions.
struct Controller {
  std::string_view v1;
  std::string_view v2;
};
// The groups of the chosen members, each of which holds them and what descends from them and
// nothing else; kBlocked with the remedy when one does not.
base::Result<std::vector<ControllerGroup>> own_groups_of(const ChosenMembers& members,
                                                         const Controller& controller);

// Binds the members that the fault's parameters choose, each by its group, to what `limit_of` says
// of that group. kBlocked with the remedy when a group holds others than them and what descends
// from them. `what`: what the counters count, for texts: "times that it was met:".
base::Result<model::FaultBinding> bind_group_limits(
    const BindRequest& request, const Controller& controller, std::string_view what,
    const std::function<base::Result<GroupLimit>(const ControllerGroup&)>& limit_of);
base::Result<std::unique_ptr<Fault>> create_group_limit(const model::FaultBinding& binding,
                                                        FaultContext& context);
// The same values in an empty group of our own beside the first one.
base::Result<Reach> reach_group_limit(const model::FaultBinding& binding);
base::Result<std::string> rehearse_group_limit(const model::FaultBinding& binding,
                                               FaultContext& context);

}  // namespace squall::inject
