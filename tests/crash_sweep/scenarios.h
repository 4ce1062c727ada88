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

// In namespaces of its own: a service `target` with one member, a service `own-user` with a user of
// its own, a service `server` that listens on loopback, users outside, and a stand-in for systemd.
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
  base::Status end_own_user();

  std::string folder_;
  model::SystemMap map_;
  base::ChildProcess own_user_;
  base::UniqueFd listener_;
  base::Instant started_;
};

struct Scenario {
  std::string name;
  std::string kind;
  std::string parameters;  // JSON
};
const std::vector<Scenario>& scenarios();

base::Result<model::FaultBinding> bind(const Stage& stage, const Scenario& scenario);

}  // namespace squall::crash_sweep
