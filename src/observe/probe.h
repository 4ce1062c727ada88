#pragma once
// What a probe is. One file a kind under observe/probes/, one line in probes.cc's table.

#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "evidence/recorder.h"
#include "model/prediction_language.h"
#include "model/system_map.h"

namespace squall::observe {

// What a probe gets to work with. All references outlive the probe.
struct ProbeContext {
  const base::Clock& clock;
  evidence::Recorder& recorder;
  std::vector<model::Slice> slices;  // of this probe; slices[0] is always the whole probe
  std::uint64_t seed = 0;
  base::Instant first_tick;          // all schedules start here
};

class Probe {
 public:
  virtual ~Probe() = default;
  // Asks once, before the run, with a limit of a few seconds: an error says what is not reachable
  // and how to mend it. Must not write anything to the target.
  virtual base::Status check() = 0;
  // Declares the series; called once before run().
  virtual base::Status prepare() = 0;
  // Produces samples until stopped. On a thread of its own; may block at most its own timeout.
  virtual void run(std::stop_token stop) = 0;
  // After the load has stopped: read-back of sequence-numbered writes. May take seconds.
  virtual base::Status finish() { return {}; }
};

// Descriptors of all kinds, for the Vocabulary.
std::span<const model::ProbeKindDescriptor* const> probe_kinds();

base::Result<std::unique_ptr<Probe>> make_probe(const model::ProbeSpecification& specification,
                                                ProbeContext context);

}  // namespace squall::observe
