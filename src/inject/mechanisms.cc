// What this host can do, found out by doing it on targets of our own. For `squall doctor`.

#include <fmt/format.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/ids.h"
#include "base/units.h"
#include "inject/cgroup.h"
#include "inject/client.h"
#include "inject/faults/kinds.h"
#include "inject/faults/network/nft_table.h"
#include "inject/faults/network/pair_marker.h"
#include "inject/faults/network/scheduled_fault.h"
#include "inject/faults/network/table_fault.h"
#include "inject/faults/process/targets.h"
#include "inject/faults/syscall/interception_fault.h"
#include "inject/json_fields.h"
#include "inject/lease.h"

namespace squall::inject {

namespace {

using base::Json;
using model::LifetimeClass;

class MechanismTrial {
 public:
  explicit MechanismTrial(Programs& programs) : programs_(programs) {}

  MechanismReport process(std::string name, const FaultKind& kind, std::string_view mechanism,
                          LifetimeClass lifetime) {
    model::FaultBinding binding;
    binding.kind = kind.descriptor->name;
    binding.mechanism = mechanism;
    binding.lifetime = lifetime;
    binding.details = model::Parameters{Json{{"service", {{"name", "scratch"}}},
                                             {"signal", 9},
                                             {"limit", 8},
                                             {"restore", "none"},
                                             {"limit_ns", 1'000'000'000},
                                             {"members_before", Json::array()}}};
    return report(std::move(name), kind, binding);
  }

  MechanismReport table() {
    PacketRule rule;
    rule.destination = PacketEndpoint{.address = {127, 0, 0, 1}, .port = 1};
    model::FaultBinding binding;
    binding.mechanism = kOwnerTable;
    binding.lifetime = LifetimeClass::kKernelHeld;
    binding.details = model::Parameters{
        Json{{"what", "packets to a scratch port"}, {"rules", Json::array({to_json(rule)})}}};
    return report(std::string(kOwnerTable), *find_kind("network.partition"), binding);
  }

  MechanismReport socket_marks() {
    PacketRule rule;
    rule.destination = PacketEndpoint{.address = {127, 0, 0, 1}, .port = 1};
    rule.marked = true;
    const auto layout = TaskLayout::of_this_kernel();
    if (!layout.ok()) {
      return {.mechanism = std::string(kSocketMarks),
              .works = false,
              .detail = layout.error().to_string(),
              .remedy = layout.error().hint};
    }
    const Marking marking{.pairs = {{.callers = {base::identify_process(::getpid()).value_or({})},
                                     .endpoints = {*rule.destination}}},
                          .layout = *layout};
    model::FaultBinding binding;
    binding.mechanism = kOwnerTable;
    binding.lifetime = LifetimeClass::kKernelHeld;
    binding.details = model::Parameters{Json{{"what", "packets to a scratch port"},
                                             {"rules", Json::array({to_json(rule)})},
                                             {"marked", to_json(marking)}}};
    return report(std::string(kSocketMarks), *find_kind("network.partition"), binding);
  }

  MechanismReport reset() {
    model::FaultBinding binding;
    binding.lifetime = LifetimeClass::kOneWay;
    return report("sock_diag destroy", *find_kind("network.reset"), binding);
  }

  MechanismReport file_gate() {
    FileGateConfiguration gate;
    gate.interception.delay = std::chrono::milliseconds(1);
    gate.processes = {programs_.process()};
    gate.path = "/";
    gate.opens = true;
    return interception(kGateMechanism, "file_gate", to_json(gate));
  }

  MechanismReport tracer() {
    TracerConfiguration tracer;
    tracer.interception.delay = std::chrono::milliseconds(1);
    tracer.processes = {programs_.process()};
    tracer.calls = {0};
    return interception(kTracerMechanism, "tracer", to_json(tracer));
  }

  MechanismReport packet_scheduler() {
    PacketRule rule;
    rule.chain = PacketRule::Chain::kArriving;
    rule.action = PacketRule::Action::kQueue;
    rule.loopback = true;
    rule.protocol = PacketRule::Protocol::kUdp;
    rule.destination = PacketEndpoint{.address = {127, 0, 0, 1}, .port = 1};
    PacketProfile profile;
    profile.delay = std::chrono::milliseconds(10);
    model::FaultBinding binding;
    binding.mechanism = kPacketScheduling;
    binding.lifetime = LifetimeClass::kKernelHeld;
    binding.details = model::Parameters{Json{{"what", "packets to a scratch port"},
                                             {"rules", Json::array({to_json(rule)})},
                                             {"profiles", Json::array({to_json(profile)})},
                                             {"seed", 1},
                                             {"effect", "delayed"}}};
    return report(std::string(kPacketScheduling), *find_kind("network.latency"), binding);
  }

 private:
  MechanismReport interception(std::string_view mechanism, const char* worker,
                               const Json& configuration) {
    model::FaultBinding binding;
    binding.mechanism = mechanism;
    binding.lifetime = LifetimeClass::kKernelHeld;
    binding.details = model::Parameters{Json{{worker, configuration}}};
    return report(std::string(mechanism), *find_kind("disk.latency"), binding);
  }

  MechanismReport report(std::string name, const FaultKind& kind,
                         const model::FaultBinding& binding) {
    LeaseRecord record;
    record.lease = base::LeaseId::generate();
    record.binding = binding;
    Lease context{record,
                  kind,
                  std::nullopt,
                  {.host = host::real_host(), .programs = programs_, .tell = [](const auto&) {}}};
    MechanismReport report{.mechanism = std::move(name), .lifetime = binding.lifetime};
    const auto result = kind.rehearse(binding, context);
    report.works = result.ok();
    report.detail = result.ok() ? *result : result.error().to_string();
    if (!result.ok()) report.remedy = result.error().hint;
    return report;
  }

  Programs& programs_;
};

}  // namespace

std::vector<MechanismReport> probe_mechanisms() {
  auto programs = fork_starter();
  if (!programs.ok()) {
    return {{.mechanism = "starting programs",
             .works = false,
             .detail = programs.error().to_string(),
             .remedy = programs.error().hint}};
  }
  MechanismTrial trial{**programs};
  return {
      trial.process("pidfd signal", *find_kind("process.kill"), "pidfd signal",
                    LifetimeClass::kOneWay),
      trial.process("cgroup v2 freezer", *find_kind("process.pause"), "cgroup v2 freezer",
                    LifetimeClass::kJournaled),
      trial.process("prlimit", *find_kind("resource.descriptors"), "prlimit",
                    LifetimeClass::kJournaled),
      trial.process("SIGSTOP", *find_kind("process.pause"), "SIGSTOP", LifetimeClass::kJournaled),
      trial.table(),
      trial.socket_marks(),
      trial.reset(),
      trial.packet_scheduler(),
      trial.file_gate(),
      trial.tracer(),
  };
}

}  // namespace squall::inject
