#pragma once
// What the events of a record say about the run as a whole.

#include <string>
#include <vector>

#include "evidence/record.h"
#include "evidence/timeline.h"
#include "model/experiment.h"
#include "model/verdict.h"

namespace squall::judge {

// A process that ended or was replaced, and not by us.
struct UnrelatedChange {
  base::Instant at;
  std::string service;
  bool restarted = false;  // false: gone
  std::string text;        // as the event says it
};

struct RunFacts {
  // Its end is where observation ended: what comes after (read-back, judging) has no samples.
  evidence::Timeline timeline;
  model::Outcome outcome = model::Outcome::kErrored;
  std::string outcome_reason;
  bool effect_proven = true;     // of every fault that was to be armed
  bool reverts_verified = true;  // of every fault that may have changed something
  std::vector<UnrelatedChange> unrelated;
};

RunFacts facts_of(const evidence::Record& record);

// Why `fault` decides nothing, as a clause; empty: its effect was proven.
std::string why_without_effect(const evidence::FaultWindow& fault);

}  // namespace squall::judge
