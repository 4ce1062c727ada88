#pragma once
// The phases and fault windows of a run, derived from its events. The only place that knows which
// events mark them.

#include <optional>
#include <string>
#include <vector>

#include "evidence/record.h"
#include "model/prediction.h"

namespace squall::evidence {

struct Window {
  base::Instant begin;
  base::Instant end;
  bool contains(base::Instant at) const { return begin <= at && at < end; }
  base::Duration length() const { return end - begin; }
};

struct FaultWindow {
  std::string name;
  base::Instant inject;                    // call of arm
  std::optional<base::Instant> armed;
  std::optional<base::Instant> effective;  // proof of effect
  std::optional<base::Instant> revert;     // call of revert, by whomever
  std::optional<base::Instant> verified;   // revert verified
  bool failed = false;                     // could not be armed
  bool can_be_effective = true;
  // From proven effect (kinds that cannot be effective: from armed) to the call of revert. Absent
  // when the effect was never proven: a fault that touched nothing decides nothing.
  std::optional<Window> active() const;
};

struct Timeline {
  std::optional<Window> baseline;
  std::optional<Window> fault;     // first effective to last revert
  std::optional<Window> recovery;  // last revert to the end of the run
  std::vector<FaultWindow> faults;
  base::Instant start;
  base::Instant end;
  const FaultWindow* find(std::string_view fault) const;
  std::optional<Window> phase(model::PhaseKind phase) const;
};

Timeline timeline_of(const Record& record);

}  // namespace squall::evidence
