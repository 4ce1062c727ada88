#pragma once
// All probes of a run, and the watch over the services that the faults touch and their dependents.

#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "evidence/recorder.h"
#include "host/host.h"
#include "model/experiment.h"
#include "model/system_map.h"
#include "observe/probe.h"

namespace squall::observe {

struct ObserverOptions {
  const model::SystemMap& map;
  // Predictions of the run (hypothesis, steady state, abort rules): they decide which probes run
  // and which slices are counted.
  std::vector<const model::Prediction*> predictions;
  // Services to record without being asked: those the faults touch and their dependents.
  std::vector<std::string> watched_services;
  const host::Host& host;
  const base::Clock& clock;
  evidence::Recorder& recorder;
  std::uint64_t seed = 0;
  // Short id of the run, which makes sequence-numbered writes of different runs different. Empty:
  // one is made up.
  std::string run;
  // How probes are made; tests put in their own.
  base::Result<std::unique_ptr<Probe>> (*make)(const model::ProbeSpecification&,
                                               ProbeContext) = &make_probe;
};

// Runs exactly the probes that predictions read from, and those with `always: true`. Its methods
// are called from one thread; only expect_changes() and load_health() may be called from any.
class Observer {
 public:
  // Fails when a parameter makes no sense (a bad regular expression, an unreadable file); what is
  // not reachable is for check() to say.
  static base::Result<std::unique_ptr<Observer>> create(ObserverOptions options);
  virtual ~Observer() = default;
  // The probes that run, in the map's order.
  virtual std::vector<std::string> probe_names() const = 0;
  // Asks every probe once, in parallel. One error per probe that cannot reach its target; its
  // context ends with "checking probe NAME".
  virtual std::vector<base::Error> check() = 0;
  virtual base::Status start() = 0;  // declares series, starts threads
  // Tells the watch that these processes are about to be killed or restarted by us, so that their
  // end is not called an unrelated restart.
  virtual void expect_changes(const std::string& service) = 0;
  virtual void stop_load() = 0;          // ends load and gauges, waits for outstanding requests
  virtual base::Status read_back() = 0;  // sequence-numbered writes
  virtual void stop() = 0;               // ends everything; idempotent
  virtual std::vector<LoadHealth> load_health() const = 0;
};

}  // namespace squall::observe
