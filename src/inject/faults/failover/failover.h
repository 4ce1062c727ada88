#pragma once
// What the failover kinds share: the primary of a service is taken away by an existing process kind
// (killed or paused), or its role is given to another; the new primary is awaited and named; at the
// end there must be exactly one.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "inject/fault.h"
#include "inject/faults/process/targets.h"

namespace squall::inject {

// Unknown: it runs and does not say, as one that is just starting. It may turn out to be a primary.
enum class Role { kPrimary, kReplica, kDown, kUnknown };
std::string_view to_string(Role role);

struct MemberRole {
  std::string member;
  Role role = Role::kDown;
  std::string text;  // why it counts as down or unknown
};
std::vector<std::string> primaries_of(const std::vector<MemberRole>& roles);
// "primary is a replica, standby is the primary"
std::string describe_roles(const std::vector<MemberRole>& roles);

// Asks all members of a service for their role.
class Roles {
 public:
  using Found = std::optional<base::Result<std::vector<MemberRole>>>;
  virtual ~Roles() = default;
  // Absent while an answer is missing; then waiting() says what for. Asks anew after that.
  virtual Found look() = 0;
  // Drops questions that are still open: their answers are of before this moment.
  virtual void forget() {}
  virtual Step waiting() const = 0;
};

// Gives the role to another member, where the fault does that itself.
class Handover {
 public:
  virtual ~Handover() = default;
  // Notes what it is about to do, then does it.
  virtual Step begin(FaultContext& context) = 0;
  // Of a journal; and what of it a revert can still take back.
  virtual void recall(const base::Json& found) = 0;
  virtual base::Status withdraw() = 0;
};

struct FailoverPlan {
  std::string service;
  std::string primary;  // member that was it at bind
  base::Duration limit{};
};

// `outage` (may be null) takes the primary away; `handover` (may be null) comes after it.
std::unique_ptr<Fault> make_failover(FailoverPlan plan, std::unique_ptr<Fault> outage,
                                     std::unique_ptr<Handover> handover,
                                     std::unique_ptr<Roles> roles, FaultContext& context);

// The binding of `kind` (process.kill, process.pause) to one member, for the same fault.
base::Result<model::FaultBinding> bind_outage(const BindRequest& request, std::string_view kind,
                                              const std::string& member, base::Json parameters);
// The same fault, as the kind named in the details as `outage` made it.
base::Result<std::unique_ptr<Fault>> create_outage(const model::FaultBinding& binding,
                                                   FaultContext& context);
// Of the outage; nothing when there is none. kCorrupt when it is not one of those that bind()
// makes.
base::Result<Reach> reach_outage(const model::FaultBinding& binding);
base::Result<std::string> rehearse_outage(const model::FaultBinding& binding,
                                          FaultContext& context);
FailoverPlan failover_plan_of(const model::FaultBinding& binding);

// One primary and somebody who could take over, or kConflict. Waits, for bind.
base::Result<std::vector<MemberRole>> look_now(Roles& roles);
base::Result<std::string> only_primary(const std::string& service,
                                       const std::vector<MemberRole>& roles);

inline constexpr std::string_view kFailoverRestoreChoices[] = {"start", "await", "none"};
inline constexpr model::ParameterDescriptor kFailoverLimitParameter{
    .name = "limit",
    .type = model::ValueType::kDuration,
    .default_text = "60s",
    .minimum = 1e8,
    .maximum = 6e11,
    .summary =
        "How long it may take until there is a new primary, and after the revert until "
        "there is exactly one again."};

}  // namespace squall::inject
