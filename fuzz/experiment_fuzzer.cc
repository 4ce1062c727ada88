// Any bytes as an experiment on a known system: refused with mistakes that have a place, or
// accepted with everything that an experiment must have, within its own bounds.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "file_checks.h"
#include "model/experiment.h"
#include "model/system_map.h"
#include "unit/model/kinds_for_test.h"

using namespace squall;

namespace {

const model::SystemMap& system_map() {
  static const model::SystemMap map = [] {
    model::Diagnostics diagnostics;
    auto result = model::parse_system_map(model::testing::orchestrator_map(), "/srv/squall.yaml",
                                          {}, model::testing::test_vocabulary(), diagnostics);
    SQUALL_CHECK(!diagnostics.has_errors());
    return result;
  }();
  return map;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  model::Diagnostics diagnostics;
  const model::Experiment experiment = model::parse_experiment(
      text, "/srv/experiment.yaml", system_map(), model::testing::test_vocabulary(), diagnostics);
  fuzz::check_diagnostics(diagnostics);
  if (diagnostics.has_errors()) return 0;

  SQUALL_CHECK(!experiment.scenario.empty() && !experiment.name.empty());
  SQUALL_CHECK(!experiment.hypothesis.empty() && !experiment.faults.empty());
  SQUALL_CHECK(!experiment.abort_when.empty() && !experiment.blast_radius.services.empty());
  for (const model::FaultSpecification& fault : experiment.faults) {
    SQUALL_CHECK(fault.kind != nullptr && fault.duration > base::Duration::zero());
    SQUALL_CHECK(fault.at >= base::Duration::zero());
    SQUALL_CHECK(fault.duration <= experiment.blast_radius.duration);
    SQUALL_CHECK(fault.duration <= system_map().limits.longest_fault);
  }
  for (const model::Prediction& prediction : experiment.hypothesis) {
    SQUALL_CHECK(!std::holds_alternative<model::NoClause>(prediction.when));
  }
  return 0;
}
