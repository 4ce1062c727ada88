#pragma once
// The plan is what people approve: selectors, parameters, changes beside their reverts, limits, and
// what the planned samples can decide. It holds no pid. Its hash identifies it. The binding is the
// plan resolved against this host at preflight; it is recorded and must fit the plan's bounds.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/json.h"
#include "model/experiment.h"
#include "model/system_map.h"

namespace squall::model {

// One change that a fault makes, in words, and how it is undone.
struct PlannedChange {
  std::string change;
  std::string revert;
  LifetimeClass lifetime = LifetimeClass::kOneWay;
};

struct PlannedFault {
  std::string name;
  std::string kind;
  Parameters parameters;
  std::string target;                 // selector in words: "one of service worker, chosen by seed"
  std::vector<std::string> services;  // that it touches
  int processes_max = 0;              // most processes it may touch
  base::Duration at{};
  base::Duration duration{};
  std::vector<PlannedChange> changes;
  std::vector<std::string> mechanisms;              // permitted
  LifetimeClass lifetime = LifetimeClass::kOneWay;  // weakest over the permitted mechanisms
  // May another fault, of this plan or of another one, touch its targets meanwhile? Both must say
  // so.
  bool overlap = false;
};

// Can the planned traffic decide the prediction?
struct Decidability {
  std::string prediction;
  bool decidable = true;
  std::uint64_t samples_planned = 0;
  std::uint64_t samples_needed = 0;
  std::string method;   // "Wilson interval, 95 %", "exact"
  std::string message;  // "200/s for 20 s gives 4,000 samples; 99.95 % needs 7,700 clean ones: ..."
};

struct PlannedPrediction {
  std::string name;
  std::string text;  // canonical
  bool steady_state = false;
  std::string location;  // "worker-dies.yaml:4:3"
};

struct Plan {
  std::string experiment;
  std::string system;
  std::string scenario;
  std::string environment;
  bool production = true;
  std::uint64_t seed = 0;
  std::vector<PlannedFault> faults;
  std::vector<PlannedPrediction> predictions;
  std::vector<std::string> abort_when;
  BlastRadius blast_radius;
  Phases phases;
  base::Duration lag_limit{};
  double drop_limit = 0;
  std::vector<Decidability> decidability;           // of predictions, same order
  std::vector<std::string> warnings;                // lints: several faults at once, ...
  LifetimeClass lifetime = LifetimeClass::kOneWay;  // weakest of the faults
};

base::Json to_json(const Plan& plan);
base::Result<Plan> plan_from_json(const base::Json& json);
// SHA-256 over the canonical JSON of the plan without `decidability` and `warnings` (advice may
// improve with a new version of Squall without voiding an approval).
std::string plan_hash(const Plan& plan);

// One process, address or file that a fault was bound to.
struct BoundTarget {
  std::string service;
  std::string member;
  base::ProcessIdentity process;  // pid 0: not a process
  std::string description;        // "orchestrator-worker pid 4242", "127.0.0.1:5432"
};

struct FaultBinding {
  std::string fault;  // name
  std::string kind;
  std::vector<BoundTarget> targets;
  std::string mechanism;
  LifetimeClass lifetime = LifetimeClass::kOneWay;
  Parameters details;    // whatever the kind needs to arm: part of the record
  bool overlap = false;  // as the plan says
};

struct Binding {
  std::vector<FaultBinding> faults;
  std::string hostname;
  std::string kernel;
};

base::Json to_json(const FaultBinding& binding);
base::Result<FaultBinding> fault_binding_from_json(const base::Json& json);
base::Json to_json(const Binding& binding);
base::Result<Binding> binding_from_json(const base::Json& json);

// What makes the binding not fit the plan: too many processes, a service outside the blast radius,
// a mechanism that is not permitted, a weaker lifetime class, nothing bound. Empty: it fits.
std::vector<std::string> misfits(const Plan& plan, const Binding& binding);

}  // namespace squall::model
