#pragma once
// One fault of each kind on targets of our own, to be armed and reverted again and again.

#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/process.h"
#include "base/result.h"
#include "model/plan.h"
#include "model/system_map.h"
#include "support/podman.h"

namespace squall::crash_sweep {

struct Scenario {
  std::string name;
  std::string kind;
  std::string parameters;  // JSON
  // --foreign: what somebody else does to the target while the fault is in force; PID is its
  // number.
  std::string meddling = {};
};
const std::vector<Scenario>& scenarios();

// In namespaces of its own: a service `target` with one member, a service `own-user` with a user of
// its own, a service `server` that listens on loopback, users outside, a service `box` that is a
// container, and a stand-in for systemd.
class Stage {
 public:
  static base::Result<Stage> make(const std::string& folder);
  const model::SystemMap& map() const { return map_; }
  const model::Service& target() const { return map_.services.front(); }
  const std::string& folder() const { return folder_; }
  // Whom a scenario hits: the service that its parameters name, else `target`.
  const model::Service& target_of(const Scenario& scenario) const;
  // Why a scenario cannot be tried on this host; empty: it can.
  std::string missing_for(const Scenario& scenario) const;
  // Starts the target if it is not there, and a new one in place of an old one; for a scenario of
  // containers also the engine and its container.
  base::Status set_up(const Scenario& scenario);
  void tear_down();

 private:
  base::Status end_own_user();

  std::string folder_;
  model::SystemMap map_;
  base::ChildProcess own_user_;
  base::UniqueFd listener_;
  std::unique_ptr<test::Podman> podman_;
  base::Instant started_;
};

base::Result<model::FaultBinding> bind(const Stage& stage, const Scenario& scenario);

}  // namespace squall::crash_sweep
