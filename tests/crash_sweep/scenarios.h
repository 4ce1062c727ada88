#pragma once
// One fault of each kind on targets of our own, to be armed and reverted again and again.

#include <string>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/process.h"
#include "base/result.h"
#include "model/plan.h"
#include "model/system_map.h"

namespace squall::crash_sweep {

// In a network namespace of its own: a service `target` with one member, a service `server` that
// listens on loopback, and users outside.
class Stage {
 public:
  static base::Result<Stage> make(const std::string& folder);
  const model::SystemMap& map() const { return map_; }
  const model::Service& target() const { return map_.services.front(); }
  const std::string& folder() const { return folder_; }
  // Starts the target if it is not there, and a new one in place of an old one.
  base::Status set_up();
  void tear_down();

 private:
  std::string folder_;
  model::SystemMap map_;
  base::UniqueFd listener_;
  base::Instant started_;
};

struct Scenario {
  std::string name;
  std::string kind;
  std::string parameters;  // JSON
  // --foreign: what somebody else does to the target while the fault is in force; PID is its
  // number.
  std::string meddling = {};
};
const std::vector<Scenario>& scenarios();

base::Result<model::FaultBinding> bind(const Stage& stage, const Scenario& scenario);

}  // namespace squall::crash_sweep
