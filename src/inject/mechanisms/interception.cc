// What stands between a process and the kernel: marks on its sockets' packets, a gate before its
// files, a tracer at its system calls. Each by the rehearsal of a kind that uses it.

#include <unistd.h>

#include "base/fd.h"
#include "inject/faults/kinds.h"
#include "inject/faults/network/pair_marker.h"
#include "inject/faults/network/table_fault.h"
#include "inject/faults/syscall/interception_fault.h"
#include "inject/json_fields.h"
#include "inject/mechanisms/mechanism_trial.h"

namespace squall::inject {

namespace {

using base::Json;

base::Result<TrialResult> rehearse(std::string_view kind, std::string_view mechanism, Json details,
                                   Programs& programs) {
  model::FaultBinding binding;
  binding.kind = kind;
  binding.mechanism = mechanism;
  binding.lifetime = model::LifetimeClass::kKernelHeld;
  binding.details = model::Parameters{std::move(details)};
  TrialContext context{programs};
  SQUALL_ASSIGN(std::string text, find_kind(kind)->rehearse(binding, context));
  return TrialResult{.detail = std::move(text), .precision = {}};
}

Json gate_of(const Programs& programs) {
  FileGateConfiguration gate;
  gate.interception.delay = std::chrono::milliseconds(1);
  gate.processes = {programs.process()};
  gate.path = "/";
  gate.opens = true;
  return to_json(gate);
}

Json tracer_of(const Programs& programs) {
  TracerConfiguration tracer;
  tracer.interception.delay = std::chrono::milliseconds(1);
  tracer.processes = {programs.process()};
  tracer.calls = {0};
  return to_json(tracer);
}

}  // namespace

base::Result<TrialResult> try_socket_marks(Programs& programs) {
  PacketRule rule;
  rule.destination = PacketEndpoint{.address = {127, 0, 0, 1}, .port = 1};
  rule.marked = true;
  SQUALL_ASSIGN(const TaskLayout layout, TaskLayout::of_this_kernel());
  SQUALL_ASSIGN(const auto self, base::identify_process(::getpid()));
  const Marking marking{.pairs = {{.callers = {self}, .endpoints = {*rule.destination}}},
                        .layout = layout};
  return rehearse("network.partition", kOwnerTable,
                  {{"what", "packets to a scratch port"},
                   {"rules", Json::array({to_json(rule)})},
                   {"marked", to_json(marking)}},
                  programs);
}

base::Result<TrialResult> try_file_gate(Programs& programs) {
  return rehearse("disk.latency", kGateMechanism, {{"file_gate", gate_of(programs)}}, programs);
}

base::Result<TrialResult> try_tracer(Programs& programs) {
  return rehearse("disk.latency", kTracerMechanism, {{"tracer", tracer_of(programs)}}, programs);
}

base::Result<TrialResult> try_gate_and_tracer(Programs& programs) {
  return rehearse("disk.latency", kGateAndTracer,
                  {{"file_gate", gate_of(programs)}, {"tracer", tracer_of(programs)}}, programs);
}

}  // namespace squall::inject
