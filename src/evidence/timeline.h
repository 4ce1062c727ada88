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
  base::Instant inject;  // call of arm
  std::optional<base::Instant> armed;
  std::optional<base::Instant> effective;  // proof of effect
  std::optional<base::Instant> revert;     // call of revert, by whomever
  std::optional<base::Instant> verified;   // revert verified
  bool failed = false;                     // could not be armed
  bool can_be_effective = true;
  base::Instant record_end;  // stands for `revert` when that is not on record
  // From proven effect (kinds that cannot be effective: from armed) to the call of revert. Absent
  // when the effect was never proven: a fault that touched nothing decides nothing. When the engine
  // died before it could write the call of revert, the record ends with the fault.
  std::optional<Window> active() const;
};

struct Timeline {
  std::optional<Window> baseline;  // from its start to the first call of arm
  std::optional<Window> fault;     // first effective (see FaultWindow::active) to last revert
  std::optional<Window> recovery;  // last revert to the end of the run
  std::vector<FaultWindow> faults;
  base::Instant start;
  base::Instant end;
  const FaultWindow* find(std::string_view name) const;
  std::optional<Window> phase(model::PhaseKind kind) const;
};

// Pure. A record that a killed engine left gives what can be known: a phase that never began is
// absent, one that never ended ends with the record.
Timeline timeline_of(const Record& record);

}  // namespace squall::evidence
