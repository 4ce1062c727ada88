#pragma once
// Trying a mechanism for `squall doctor`: by doing it on a target of our own. One file a family,
// one line in the table of mechanisms.cc.

#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "inject/client.h"
#include "inject/fault.h"
#include "inject/programs.h"

namespace squall::inject {

// What a trial showed, besides that it works.
struct TrialResult {
  std::string detail;     // what was done and how long it took
  std::string precision;  // what was asked and what was measured; empty: there is nothing to miss
};

// The context of a fault that is no lease: its notes go nowhere.
class TrialContext final : public FaultContext {
 public:
  explicit TrialContext(Programs& programs) : programs_(programs) {}
  base::Status note(const base::Json&) override { return {}; }
  const host::Host& host() override { return host::real_host(); }
  Programs& programs() override { return programs_; }
  base::LeaseId lease() const override { return lease_; }
  base::Status check_process(const base::ProcessIdentity&) const override { return {}; }
  uid_t caller() const override { return 0; }  // our own targets only

 private:
  Programs& programs_;
  base::LeaseId lease_ = base::LeaseId::generate();
};

// "10ms asked: 10.1ms (p50), 10.4ms (p99)"
std::string delay_precision(base::Duration asked, std::vector<base::Duration> measured);

base::Result<TrialResult> try_packet_scheduler(Programs& programs);
base::Result<TrialResult> try_netem(Programs& programs);
base::Result<TrialResult> try_socket_marks(Programs& programs);
base::Result<TrialResult> try_file_gate(Programs& programs);
base::Result<TrialResult> try_tracer(Programs& programs);
base::Result<TrialResult> try_gate_and_tracer(Programs& programs);
// Asks it what it has; does nothing to any container.
base::Result<TrialResult> try_container_engine(Programs& programs);
base::Result<TrialResult> try_processor_load(Programs& programs);
base::Result<TrialResult> try_command(Programs& programs);

// A controller of cgroups ("cpu", "memory", "pids", "io"), in whichever hierarchy has it.
struct ControllerTrial {
  base::Result<TrialResult> result;
  std::string mechanism;  // "cgroup v1"; both, when no hierarchy has it
};
ControllerTrial try_controller(std::string_view v1, std::string_view v2, Programs& programs);

}  // namespace squall::inject
