#pragma once
// What a probe is. One file a kind under observe/probes/, one line in probes.cc's table.

#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "evidence/recorder.h"
#include "host/host.h"
#include "model/prediction_language.h"
#include "model/system_map.h"

namespace squall::observe {

// What a probe gets to work with. All references outlive the probe.
struct ProbeContext {
  const base::Clock& clock;
  evidence::Recorder& recorder;
  const host::Host& host;
  const model::SystemMap& map;
  std::vector<model::Slice> slices;  // of this probe; slices[0] is always the whole probe
  std::uint64_t seed = 0;
  std::string run;  // short id, part of every sequence-numbered write; letters, digits and -
};

// How the load generator did so far.
struct LoadHealth {
  std::string probe;
  std::uint64_t intended = 0;
  std::uint64_t dropped = 0;
  base::Duration lag_p99{};
};

class Probe {
 public:
  virtual ~Probe() = default;
  // Asks once, before the run, with a limit of a few seconds: an error says what is not reachable
  // and how to mend it. Must not write anything to the target.
  virtual base::Status check() = 0;
  // Declares the series; called once before run().
  virtual base::Status prepare() = 0;
  // Produces samples until stopped; all schedules count from `first_tick`. On a thread of its own;
  // may block at most its own timeout.
  virtual void run(base::Instant first_tick, std::stop_token stop) = 0;
  // After the load has stopped: read-back of sequence-numbered writes. May take seconds.
  virtual base::Status finish() { return {}; }

  // For the watch over the probes themselves; from any thread.
  // Since when it has been busy with one question; absent while it waits for its next tick.
  virtual std::optional<base::Instant> busy_since() const { return std::nullopt; }
  // Longer than this on one question is called stuck.
  virtual base::Duration patience() const { return std::chrono::seconds(5); }
  // From now on no sample is recorded, whatever the probe's thread still does.
  virtual void abandon() {}
  virtual std::optional<LoadHealth> load_health() const { return std::nullopt; }
};

// Descriptors of all kinds, for the Vocabulary.
std::span<const model::ProbeKindDescriptor* const> probe_kinds();

// The parameters must have been read with the kind's descriptor.
base::Result<std::unique_ptr<Probe>> make_probe(const model::ProbeSpecification& specification,
                                                ProbeContext context);

}  // namespace squall::observe
