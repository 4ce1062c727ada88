// What this host can do, found out by doing it on targets of our own. For `squall doctor`.

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "inject/faults/kinds.h"
#include "inject/faults/network/netem_fault.h"
#include "inject/faults/network/nft_table.h"
#include "inject/faults/network/pair_marker.h"
#include "inject/faults/network/scheduled_fault.h"
#include "inject/faults/network/table_fault.h"
#include "inject/faults/process/standstill.h"
#include "inject/faults/syscall/interception_fault.h"
#include "inject/json_fields.h"
#include "inject/mechanisms/mechanism_trial.h"
#include "inject/workers/held_workers.h"

namespace squall::inject {

namespace {

using base::Json;
using model::LifetimeClass;

// ---- trials by the rehearsal of a kind
// -----------------------------------------------------------

Json process_details() {
  return {{"service", {{"name", "scratch"}}},
          {"signal", 9},
          {"limit", 8},
          {"restore", "none"},
          {"limit_ns", 1'000'000'000},
          {"members_before", Json::array()}};
}

Json table_details() {
  PacketRule rule;
  rule.destination = PacketEndpoint{.address = {127, 0, 0, 1}, .port = 1};
  return {{"what", "packets to a scratch port"}, {"rules", Json::array({to_json(rule)})}};
}

Json no_details() {
  return Json::object();
}

Json port_details() {
  return {{"address", "127.0.0.1"}, {"port", 1}, {"protocol", "tcp"}};
}

Json unit_details() {
  return {{"unit", "units"}};
}

Json folder_details() {
  return {{"path", "/var/tmp"}};
}

Json question_details() {
  PacketRule rule;
  rule.chain = PacketRule::Chain::kOutgoing;
  rule.action = PacketRule::Action::kQueue;
  rule.protocol = PacketRule::Protocol::kUdp;
  rule.destination = PacketEndpoint{.address = {}, .port = 53};
  return {{"name", "*"}, {"rules", Json::array({to_json(rule)})}, {"answer", "nxdomain"}};
}

Json ballast_details() {
  return {{"path", "/var/tmp"}, {"reserve", false}, {"size", 1 << 20}};
}

struct Row {
  std::string_view mechanism;
  LifetimeClass lifetime;
  std::string_view kind;  // by its rehearsal, with these details,
  Json (*details)() = nullptr;
  base::Result<TrialResult> (*trial)(Programs&) = nullptr;  // or by a trial of its own
  std::string_view used_with = {};                          // beside this one, by its kinds
};

// The strongest first, within a family.
constexpr std::array kTable{
    Row{kOwnerTable, LifetimeClass::kKernelHeld, "network.partition", table_details},
    Row{kPacketScheduling, LifetimeClass::kKernelHeld, {}, nullptr, try_packet_scheduler},
    Row{kNetem, LifetimeClass::kJournaled, {}, nullptr, try_netem},
    Row{kSocketMarks, LifetimeClass::kKernelHeld, {}, nullptr, try_socket_marks, kOwnerTable},
    Row{"sock_diag destroy", LifetimeClass::kOneWay, "network.reset", no_details},
    Row{"pidfd signal", LifetimeClass::kOneWay, "process.kill", process_details},
    Row{kFreezer2, LifetimeClass::kJournaled, "process.pause", process_details},
    Row{kFreezer1, LifetimeClass::kJournaled, "process.pause", process_details},
    Row{kTracerStop, LifetimeClass::kKernelHeld, "process.pause", process_details},
    Row{kStopSignal, LifetimeClass::kJournaled, "process.pause", process_details},
    Row{kWorkerProcesses, LifetimeClass::kKernelHeld, {}, nullptr, try_processor_load},
    Row{"packet queue with DNS answers", LifetimeClass::kKernelHeld, "network.dns",
        question_details},
    Row{"systemctl", LifetimeClass::kJournaled, "process.unit_stop", unit_details},
    Row{"libfaketime", LifetimeClass::kJournaled, "clock.skew", no_details},
    Row{"container engine", LifetimeClass::kJournaled, {}, nullptr, try_container_engine},
    Row{kGateAndTracer, LifetimeClass::kKernelHeld, {}, nullptr, try_gate_and_tracer},
    Row{kGateMechanism, LifetimeClass::kKernelHeld, {}, nullptr, try_file_gate},
    Row{kTracerMechanism, LifetimeClass::kKernelHeld, {}, nullptr, try_tracer},
    Row{"prlimit", LifetimeClass::kJournaled, "resource.descriptors", process_details},
    Row{"unnamed ballast file", LifetimeClass::kKernelHeld, "resource.disk_fill", ballast_details},
    Row{"unnamed files", LifetimeClass::kKernelHeld, "resource.inodes", folder_details},
    Row{"socket of the holder", LifetimeClass::kKernelHeld, "resource.port", port_details},
    Row{"connections of the holder", LifetimeClass::kKernelHeld, "resource.connections",
        no_details},
    Row{"command", LifetimeClass::kJournaled, {}, nullptr, try_command},
};

struct ControllerRow {
  std::string_view v1;
  std::string_view v2;
  std::string_view kind;
};
constexpr std::array kControllers{
    ControllerRow{"cpu", "cpu", "resource.cpu_quota"},
    ControllerRow{"memory", "memory", "resource.memory_limit"},
    ControllerRow{"pids", "pids", "resource.pids"},
    ControllerRow{"blkio", "io", "resource.io_throttle"},
};

std::vector<std::string> kinds_with(std::string_view mechanism) {
  std::vector<std::string> kinds;
  for (const FaultKind* kind : all_kinds()) {
    const auto& mechanisms = kind->descriptor->mechanisms;
    if (std::find(mechanisms.begin(), mechanisms.end(), mechanism) != mechanisms.end())
      kinds.emplace_back(kind->descriptor->name);
  }
  return kinds;
}

base::Result<TrialResult> rehearse(const Row& row, Programs& programs) {
  const FaultKind* kind = find_kind(row.kind);
  SQUALL_CHECK(kind != nullptr);
  model::FaultBinding binding;
  binding.kind = row.kind;
  binding.mechanism = row.mechanism;
  binding.lifetime = row.lifetime;
  binding.details = model::Parameters{row.details()};
  TrialContext context{programs};
  SQUALL_ASSIGN(std::string text, kind->rehearse(binding, context));
  return TrialResult{.detail = std::move(text), .precision = {}};
}

MechanismReport report_of(std::string mechanism, LifetimeClass lifetime,
                          std::vector<std::string> kinds, const base::Result<TrialResult>& result) {
  MechanismReport report{.mechanism = std::move(mechanism),
                         .works = result.ok(),
                         .detail = result.ok() ? result->detail : result.error().message,
                         .kinds = std::move(kinds),
                         .lifetime = lifetime};
  if (result.ok())
    report.precision = result->precision;
  else
    report.remedy = result.error().hint;
  return report;
}

}  // namespace

std::vector<MechanismReport> probe_mechanisms() {
  auto programs = fork_starter();
  if (!programs.ok()) {
    return {{.mechanism = "starting programs",
             .works = false,
             .detail = programs.error().message,
             .remedy = programs.error().hint}};
  }
  std::vector<MechanismReport> reports;
  for (const Row& row : kTable) {
    reports.push_back(
        report_of(std::string(row.mechanism), row.lifetime,
                  kinds_with(row.used_with.empty() ? row.mechanism : row.used_with),
                  row.trial != nullptr ? row.trial(**programs) : rehearse(row, **programs)));
  }
  for (const ControllerRow& row : kControllers) {
    const ControllerTrial trial = try_controller(row.v1, row.v2, **programs);
    reports.push_back(report_of(fmt::format("{} {}", trial.mechanism, row.v2),
                                LifetimeClass::kJournaled, {std::string(row.kind)}, trial.result));
  }
  return reports;
}

}  // namespace squall::inject
