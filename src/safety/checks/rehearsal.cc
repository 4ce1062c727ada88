#include <fmt/format.h>

#include "base/text.h"
#include "safety/checks/table.h"

namespace squall::safety {

CheckResult check_rehearsal(const Situation& situation) {
  if (situation.rehearsals.empty()) {
    return cannot_tell("no revert was rehearsed", "see the check `binding`");
  }
  std::vector<std::string> failures;
  std::vector<std::string> done;
  std::string remedy;
  for (const Rehearsal& rehearsal : situation.rehearsals) {
    if (rehearsal.error) {
      failures.push_back(fmt::format("{}: {}", rehearsal.fault, rehearsal.error->to_string()));
      if (remedy.empty()) remedy = rehearsal.error->hint;
    } else {
      done.push_back(fmt::format("{}: {}", rehearsal.fault, rehearsal.text));
    }
  }
  if (failures.empty()) return pass(base::join(done, "; "));
  if (remedy.empty()) remedy = "run `squall doctor` to see which mechanisms work on this host";
  return block(base::join(failures, "; "), remedy);
}

}  // namespace squall::safety
