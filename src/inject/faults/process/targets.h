#pragma once
// What the process kinds share: which members of a service a fault hits, and how they are
// described.

#include <array>
#include <functional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/json.h"
#include "host/host.h"
#include "inject/client.h"
#include "inject/programs.h"
#include "model/plan.h"
#include "model/vocabulary.h"

namespace squall::inject {

class FaultContext;
struct Reach;

// How a process is told to end: by a descriptor that names this very process, never by a number.
inline constexpr std::string_view kPidfdSignal = "pidfd signal";
inline constexpr std::array<std::string_view, 1> kSignalMechanisms{kPidfdSignal};
inline constexpr std::array<std::string_view, 1> kSignalCapabilities{"CAP_KILL"};

// The parameters by which a fault chooses members; every kind says in words of its own what happens
// to them.
constexpr model::ParameterDescriptor service_parameter(std::string_view summary) {
  return {
      .name = "service", .type = model::ValueType::kService, .required = true, .summary = summary};
}
constexpr model::ParameterDescriptor member_parameter(std::string_view summary) {
  return {.name = "member", .type = model::ValueType::kMember, .summary = summary};
}
constexpr model::ParameterDescriptor count_parameter(std::string_view summary) {
  return {.name = "count",
          .type = model::ValueType::kInteger,
          .default_text = "1",
          .minimum = 1,
          .maximum = 1000,
          .summary = summary};
}
inline constexpr model::ParameterDescriptor kRandomParameter{
    .name = "random",
    .type = model::ValueType::kBoolean,
    .default_text = "true",
    .summary = "Choose them by the run's seed; `false` takes those that run longest."};

struct ChosenMembers {
  const model::Service* service = nullptr;
  std::vector<host::Member> all;     // found now
  std::vector<host::Member> chosen;  // by `member`, or `count` of all: by seed, or the oldest
};

// kNotFound when the service has no (such) member, kConflict when more processes match than the map
// says there are, kBlocked when a chosen one is Squall itself, kPermission without CAP_KILL.
base::Result<ChosenMembers> choose_members(const BindRequest& request);

// `count` of `members`: by `seed` when `random`, else the first ones. The order is kept. The same
// members and seed give the same choice everywhere.
std::vector<host::Member> choose(const std::vector<host::Member>& members, std::size_t count,
                                 bool random, std::uint64_t seed);
std::vector<std::size_t> choose_indices(std::size_t members, std::size_t count, bool random,
                                        std::uint64_t seed);

// "worker-2 (orchestrator-worker pid 4242)"
std::string describe_member(const host::Member& member);

// A binding with kind, targets, service, members before and resources filled in. `extra` is merged
// into the details.
model::FaultBinding process_binding(const BindRequest& request, const ChosenMembers& members,
                                    std::string mechanism, model::LifetimeClass lifetime,
                                    const base::Json& extra);

// Selector in words for the plan: "one member of worker, chosen by seed", "member primary of db".
std::string describe_selection(const model::Parameters& parameters);
int planned_count(const model::Parameters& parameters);
// Fills in target, services and processes_max from the parameters that choose members.
void describe_members(const model::Parameters& parameters, model::PlannedFault& planned);

// A process that a fault was bound to.
struct Target {
  std::string member;
  base::ProcessIdentity identity;
  std::string description;
};
base::Json to_json(const Target& target);
Target target_from_json(const base::Json& json);
std::vector<Target> targets_of(const model::FaultBinding& binding);

// For FaultKind::reach: the bound processes, and whether the binding says `restore: start`.
base::Result<Reach> reach_processes(const model::FaultBinding& binding);

// Opens each; kNotFound with "ended between bind and arm" when one is gone or was reborn.
base::Result<std::vector<base::PidFd>> open_targets(const std::vector<Target>& targets);

// Opens, notes as `killing` and signals each; those that ended by themselves are left out. For
// faults that kill more than what was bound. kBlocked when one of them is Squall itself.
struct Signalled {
  std::vector<Target> targets;
  std::vector<base::PidFd> processes;  // in the same order
};
base::Result<Signalled> note_and_signal(FaultContext& context, const std::vector<Target>& targets,
                                        int signal);

// Members of the service that run now (no zombies).
base::Result<std::vector<Target>> running_members(const host::Host& host,
                                                  const model::Service& service);

// Without `start:` in the map nobody can be started: kUnsupported.
base::Status check_startable(const ChosenMembers& members);

// "a and b"
std::string describe_targets(const std::vector<Target>& targets);

// The number of "SIGTERM"; 0 when there is no such signal.
int signal_number(const std::string& name);

// Has this process the capability (number of <linux/capability.h>)?
bool has_capability(int number);

// Calls `rehearsal` with a binding like `binding` whose only target is a scratch process of ours,
// and which restores nothing; the process is ended afterwards. kTimeout when it does not come up.
base::Result<std::string> rehearse_on_scratch(
    const model::FaultBinding& binding, FaultContext& context,
    const std::function<base::Result<std::string>(const model::FaultBinding& scratch)>& rehearsal);

}  // namespace squall::inject
