#include "safety/check.h"

#include <array>
#include <exception>
#include <nlohmann/json.hpp>

#include "safety/checks/table.h"

namespace squall::safety {

namespace {

constexpr std::array kChecks = {
    Check{"environment", "the environment may be broken without approvals", Stage::kBeforeBaseline,
          check_environment},
    Check{"binding", "the targets found fit the plan's bounds and are not none",
          Stage::kBeforeBaseline, check_binding},
    Check{"overlap", "no other run holds a fault on the same targets", Stage::kBeforeBaseline,
          check_overlap},
    Check{"kill-switch", "nobody has stopped all experiments on this host", Stage::kBeforeBaseline,
          check_kill_switch},
    Check{"probes", "every probe reaches what it asks", Stage::kBeforeBaseline, check_probes},
    Check{"rehearsal", "each revert worked on a scratch target, with the same mechanism",
          Stage::kBeforeBaseline, check_rehearsal},
    Check{"evidence-room", "the record fits on the disk", Stage::kBeforeBaseline,
          check_evidence_room},
    Check{"signals", "every predicted signal has data", Stage::kAfterBaseline, check_signals},
    Check{"steady-state", "the system is healthy before it is disturbed", Stage::kAfterBaseline,
          check_steady_state},
};

}  // namespace

std::string_view to_string(Answer answer) {
  switch (answer) {
    case Answer::kPass:
      return "pass";
    case Answer::kBlock:
      return "block";
    case Answer::kCannotTell:
      return "cannot_tell";
  }
  return "cannot_tell";
}

CheckResult pass(std::string reason) {
  return {{}, Answer::kPass, std::move(reason), {}};
}
CheckResult block(std::string reason, std::string remedy) {
  return {{}, Answer::kBlock, std::move(reason), std::move(remedy)};
}
CheckResult cannot_tell(std::string reason, std::string remedy) {
  return {{}, Answer::kCannotTell, std::move(reason), std::move(remedy)};
}

std::span<const Check> checks() {
  return kChecks;
}

std::vector<CheckResult> run_checks(const Situation& situation, Stage stage) {
  std::vector<CheckResult> results;
  for (const Check& check : kChecks) {
    if (check.stage != stage) continue;
    CheckResult result =
        cannot_tell("the check itself failed", "report this as a defect of Squall");
    try {
      result = check.run(situation);
    } catch (const std::exception& defect) {
      result.reason = std::string("the check itself failed: ") + defect.what();
    }
    result.name = check.name;
    results.push_back(std::move(result));
  }
  return results;
}

bool all_pass(const std::vector<CheckResult>& results) {
  for (const CheckResult& result : results) {
    if (result.answer != Answer::kPass) return false;
  }
  return true;
}

base::Json to_json(const std::vector<CheckResult>& results) {
  base::Json list = base::Json::array();
  for (const CheckResult& result : results) {
    list.push_back({{"name", result.name},
                    {"result", std::string(to_string(result.answer))},
                    {"reason", result.reason},
                    {"remedy", result.remedy}});
  }
  return list;
}

}  // namespace squall::safety
