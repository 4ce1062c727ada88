#pragma once
#include <string>
#include <vector>

#include "base/clock.h"

namespace squall::evidence {

// A step of the run, written to the record before it happens. Types are listed in docs/record.md:
// "run.started", "phase.started", "check.finished", "fault.arming", "fault.armed",
// "fault.effective", "fault.reverting", "fault.reverted", "fault.verified", "fault.failed",
// "abort.breached", "member.restarted", "member.gone", "probe.stuck", "log.line", "note", ...
struct Event {
  base::Instant at;
  std::string type;
  std::string subject;  // fault, probe, service or phase name; may be empty
  std::string text;     // one sentence for people
  std::string details;  // JSON object as text; may be empty
};

}  // namespace squall::evidence
