#pragma once
// One fault of each kind on targets of our own, to be armed and reverted again and again.

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/plan.h"

namespace squall::crash_sweep {

class Stage;

struct Scenario {
  std::string name;
  std::string kind;
  std::string parameters;  // JSON; FOLDER stands for the stage's folder
  // --foreign: what somebody else does to the target while the fault is in force; PID is its
  // number.
  std::string meddling = {};
  std::string service = "target";  // of the stage: whom it hits, whose members are compared
  // It sees the process numbers of the host (BPF), so that the sweep cannot have its own.
  bool by_host_numbers = false;
  // The target is killed while the fault is in force, and another one is started, which joins.
  bool joined = false;
  // A life takes seconds: this many points for each role and fault are tried, chosen by the seed.
  std::size_t sample = 0;
};
const std::vector<Scenario>& scenarios();

// A kind that no scenario stages, and what is missing for it.
struct Untried {
  std::string_view kind;
  std::string_view missing;
};
const std::vector<Untried>& untried();

// Kinds that are in neither of them; empty is the rule.
std::vector<std::string> forgotten_kinds();

base::Result<model::FaultBinding> bind(const Stage& stage, const Scenario& scenario);

}  // namespace squall::crash_sweep
