#pragma once
// One life of a fault on the simulated machine, with the product's own engine client, keeper and
// holder.

#include <string>
#include <vector>

#include "base/fd.h"
#include "simulation.h"

namespace squall::lease_protocol {

struct Scenario {
  std::string kind;
  bool asks = true;  // the engine asks for the revert; else the deadline ends it
};

struct Outcome {
  std::string violation;   // empty: none
  Nanoseconds lasted = 0;  // how long the fault was in force
  Nanoseconds asked_at = 0;
  std::vector<StepInfo> steps;
};

// `folder`: where the journals may lie, emptied before. `order`: 0 to 5, who goes first.
Outcome live(const Scenario& scenario, const std::string& folder,
             const std::vector<Disturbance>& plan, unsigned order);

// The main function of a process that was started, with the descriptors from 3 on.
int main_of(const std::string& name, std::vector<base::UniqueFd>& descriptors);

}  // namespace squall::lease_protocol
