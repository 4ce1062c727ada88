#include <array>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "model/experiment.h"

namespace squall::model {
namespace {

base::Dimension dimension_of(std::string_view unit) {
  if (unit.empty()) return base::Dimension::kNumber;
  if (unit == "s") return base::Dimension::kDuration;
  if (unit == "B") return base::Dimension::kSize;
  if (unit == "%") return base::Dimension::kShare;
  if (unit == "/s") return base::Dimension::kRate;
  SQUALL_CHECK(false);
}

bool is_sequenced(const ProbeSpecification& probe) {
  return probe.kind->generates_load && probe.parameters.has("sequence");
}

}  // namespace

std::span<const SignalDescriptor> service_signals() {
  // What is recorded of every service that runs here, summed over its processes.
  static constexpr std::array<SignalDescriptor, 7> kSignals = {{
      {"processes", SignalType::kGauge, "", "How many processes it has."},
      {"cpu", SignalType::kGauge, "", "Processor cores in use: 1.5 is one and a half cores busy."},
      {"memory", SignalType::kGauge, "B", "Resident memory."},
      {"descriptors", SignalType::kGauge, "", "Open file descriptors."},
      {"sockets", SignalType::kGauge, "", "Open sockets."},
      {"threads", SignalType::kGauge, "", "Threads."},
      {"restarts", SignalType::kGauge, "", "Processes that were replaced since the run began."},
  }};
  return kSignals;
}

SignalTable signal_table(const SystemMap& map, const std::vector<std::string>& fault_names) {
  SignalTable table;
  for (const ProbeSpecification& probe : map.probes) {
    for (const SignalDescriptor& signal : probe.kind->signals) {
      table.entries.push_back(
          {probe.name, std::string(signal.field), signal.type, dimension_of(signal.unit)});
    }
    if (is_sequenced(probe)) table.sequenced_probes.push_back(probe.name);
    if (!probe.kind->generates_load) table.plain_probes.push_back(probe.name);
  }
  for (const Service& service : map.services) {
    if (service.external) continue;
    for (const SignalDescriptor& signal : service_signals()) {
      table.entries.push_back(
          {service.name, std::string(signal.field), signal.type, dimension_of(signal.unit)});
    }
  }
  table.fault_names = fault_names;
  return table;
}

}  // namespace squall::model
