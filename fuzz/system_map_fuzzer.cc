// Any bytes as a system map: refused with mistakes that have a place, or accepted as a map whose
// services, probes and predictions hang together, in every environment.

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

model::SystemMap parse(std::string_view text, const std::string& environment,
                       model::Diagnostics& diagnostics) {
  return model::parse_system_map(text, "/srv/fuzz/squall.yaml", environment,
                                 model::testing::test_vocabulary(), diagnostics);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  model::Diagnostics diagnostics;
  const model::SystemMap map = parse(text, {}, diagnostics);
  fuzz::check_diagnostics(diagnostics);
  if (diagnostics.has_errors()) return 0;

  SQUALL_CHECK(!map.services.empty() && map.environment.production);
  for (const model::Service& service : map.services) {
    for (const std::string& dependency : service.depends_on) {
      SQUALL_CHECK(map.service(dependency) != nullptr);
    }
    map.dependents_of(service.name);
    if (service.listens) {
      SQUALL_CHECK(model::parse_listen_address(service.listens->text()).has_value());
    }
  }
  for (const model::ProbeSpecification& probe : map.probes) {
    SQUALL_CHECK(probe.kind != nullptr && map.service(probe.name) == nullptr);
  }
  const model::SignalTable signals = model::signal_table(map, {});
  for (const model::Prediction& prediction : map.steady_state) {
    const auto again = model::parse_prediction(prediction.name, prediction.text, signals,
                                               model::ClauseRule::kSteadyState);
    SQUALL_CHECK(again.prediction.has_value());
  }
  // A map that is right is right in each of its environments.
  for (const std::string& environment : map.environments) {
    model::Diagnostics own;
    SQUALL_CHECK(parse(text, environment, own).environment.name == environment);
    SQUALL_CHECK(!own.has_errors());
  }
  return 0;
}
