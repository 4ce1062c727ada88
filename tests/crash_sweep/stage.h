#pragma once
// What the faults of a sweep hit: services and state of our own, in namespaces of our own.

#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/process.h"
#include "base/result.h"
#include "model/system_map.h"
#include "scenarios.h"
#include "support/podman.h"

namespace squall::crash_sweep {

// A service `target` with one member, a service `own-user` with a user of its own, a service
// `grouped` in control groups of its own, a service `server` that listens on loopback, users
// outside, and a stand-in for systemd; when a scenario needs them a container `box`, two Redis
// `queue` and two PostgreSQL `db`, a primary and its replica each.
class Stage {
 public:
  static base::Result<Stage> make(const std::string& folder);
  Stage(Stage&&) = default;
  Stage& operator=(Stage&&) = delete;
  ~Stage();

  const model::SystemMap& map() const { return map_; }
  const std::string& folder() const { return folder_; }
  const model::Service& service(const std::string& name) const;
  const model::Service& target() const { return service("target"); }
  // Whom a scenario hits.
  const model::Service& target_of(const Scenario& scenario) const {
    return service(scenario.service);
  }
  static int members_of(const model::Service& service);
  // Why a scenario cannot be tried on this host; empty: it can.
  static std::string missing_for(const Scenario& scenario);
  // The control groups of `grouped`.
  const std::vector<std::string>& groups() const { return groups_; }
  // Starts whoever the scenario needs and is not there, and a new target in place of an old one.
  base::Status set_up(const Scenario& scenario);
  // Ends the target and starts another one.
  base::Status replace_target(const Scenario& scenario);
  void tear_down();
  // The server takes whoever connects, and is done with them at once.
  void accept_all() const;

 private:
  Stage() = default;
  base::Status end_own_user();
  base::Status start_grouped();
  base::Status start_box();
  base::Status start_redis();
  base::Status start_postgres();
  base::Status start_apart(std::vector<std::string> argv) const;

  std::string folder_;
  model::SystemMap map_;
  base::ChildProcess own_user_;
  base::ChildProcess grouped_;
  std::vector<std::string> groups_;
  base::UniqueFd listener_;
  std::unique_ptr<test::Podman> podman_;
  bool has_postgres_ = false;
  base::Instant started_;
};

// Those that a sweep with this folder made, and left when it was killed.
void remove_groups(const std::string& folder);

}  // namespace squall::crash_sweep
