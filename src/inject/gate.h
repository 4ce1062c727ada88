#pragma once
// The one place that decides what a run may do to this host. Engines of others than root are not
// believed: whatever a binding says is read again here, by what its kind would do with it.
// See docs/decisions/0007-callers.md.

#include <string>

#include "inject/caller.h"
#include "inject/fault.h"
#include "inject/policy.h"
#include "inject/state_directory.h"

namespace squall::inject {

class Gate {
 public:
  // Reads the host's policy, once a run: changes count for the next one. Root needs none.
  static base::Result<Gate> open(const Account& caller, const std::string& policy_file);

  // kBlocked with the reason and what root could allow. `duration` zero: a rehearsal.
  base::Result<Grant> check(const FaultKind& kind, const model::FaultBinding& binding,
                            base::Duration duration, const StateDirectory& state,
                            const host::Host& host) const;

  const Account& caller() const { return caller_; }

 private:
  struct Request;

  base::Result<Grant> by_rule(const Request& request, const PolicyRule& rule) const;
  base::Status grant_start(const PolicyRule& rule, const Account& owner, Grant& grant) const;
  PolicyRule own_rule() const;
  base::Error refused(const Request& request, const std::string& why) const;

  Account caller_;
  Policy policy_;
};

}  // namespace squall::inject
