#include <fmt/format.h>

#include "safety/checks/table.h"

namespace squall::safety {

// An unnamed environment is production, and production needs approvals, which do not exist yet.
CheckResult check_environment(const Situation& situation) {
  const model::Plan& plan = *situation.plan;
  if (!plan.production) return pass(fmt::format("environment `{}`", plan.environment));
  return block(
      fmt::format("`{}` counts as production, and production experiments need approvals, which "
                  "this version does not have",
                  plan.environment.empty() ? "production" : plan.environment),
      "name a non-production environment of the system map: --env NAME");
}

}  // namespace squall::safety
