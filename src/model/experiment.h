#pragma once
// One experiment file: scenario, hypothesis, faults, blast radius, abort rules.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "model/diagnostic.h"
#include "model/parameters.h"
#include "model/prediction.h"
#include "model/prediction_language.h"
#include "model/system_map.h"
#include "model/vocabulary.h"

namespace squall::model {

struct FaultSpecification {
  std::string name;  // `name:`; default: the kind's name with a number
  const FaultKindDescriptor* kind = nullptr;
  Parameters parameters;
  base::Duration at{};        // after the start of the fault phase's timeline
  base::Duration duration{};  // `for`
  bool overlap = false;       // may share its targets with another fault that says so, too
  Location location;
};

struct BlastRadius {
  std::vector<std::string> services;
  int processes = 0;          // at most; 0: not stated, then one
  base::Duration duration{};  // all faults together, first inject to last revert
};

struct Phases {
  base::Duration baseline = std::chrono::seconds(60);
  base::Duration recovery = std::chrono::seconds(120);  // limit; ends earlier when all is decided
};

struct Experiment {
  std::string file;
  std::string name;
  std::string scenario;
  std::vector<Prediction> hypothesis;
  std::vector<FaultSpecification> faults;  // in file order
  BlastRadius blast_radius;
  std::vector<Prediction> abort_when;
  Phases phases;
  std::uint64_t seed = 0;  // `seed:`; 0: chosen at plan time and recorded
  std::string owner;
  std::vector<std::string> tags;
  // Lag and drops of the load above these make affected predictions inconclusive.
  base::Duration lag_limit = std::chrono::milliseconds(100);  // p99 of sent - intended
  double drop_limit = 0.001;                                  // share of intended requests
};

// Parses and validates `text` against the system map and the kinds of this build. All mistakes go
// to `diagnostics`; the experiment is usable only when there are no errors. Nothing is read from
// disk.
Experiment parse_experiment(std::string_view text, const std::string& file, const SystemMap& map,
                            const Vocabulary& vocabulary, Diagnostics& diagnostics);

// The gauges recorded of every service that is not external, without being asked: processes, cpu
// (in cores: 1.5 is one and a half cores busy), memory (bytes), descriptors, sockets, threads,
// restarts. Each is the sum over the processes of the service.
std::span<const SignalDescriptor> service_signals();

// The names and types that predictions may use on this system: the signals of its probes and those
// of its services.
SignalTable signal_table(const SystemMap& map, const std::vector<std::string>& fault_names);

}  // namespace squall::model
