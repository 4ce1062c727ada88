// host.reboot: boots an instance anew, by a program of the operator's own or by QEMU's monitor, and
// proves that it came back. Never the machine that Squall runs on.

#include <fmt/format.h>

#include <array>

#include "base/text.h"
#include "inject/faults/host/instance.h"

namespace squall::inject {

namespace {

using model::LifetimeClass;
using model::ParameterDescriptor;
using model::ValueType;

constexpr std::array<std::string_view, 2> kMechanisms{kByCommand, kByMonitor};
constexpr std::array<std::string_view, 0> kCapabilities{};
constexpr std::array<ParameterDescriptor, 8> kParameters{{
    kInstanceService,
    {.name = "argv",
     .type = ValueType::kArgv,
     .minimum = 1,
     .summary = "The program that reboots the instance: [virsh, reset, web-1]. Exit status 0 means "
                "that it was told to."},
    kMonitor,
    kAliveAddress,
    kAliveProgram,
    kBootIdProgram,
    kInstanceTimeout,
    kInstanceLimit,
}};

constexpr model::FaultKindDescriptor kDescriptor{
    .name = "host.reboot",
    .summary = "Reboots an instance: a virtual machine, or a machine elsewhere.",
    .effect =
        "All that runs on the instance is gone at once, its connections are silent, and it comes "
        "back as its boot brings it up.",
    .revert = "Nothing undoes a reboot; the fault ends when the instance lives again.",
    .proof =
        "Effect: the instance stops answering or has a new boot id; with QEMU, its monitor reports "
        "RESET. Revert: it answers again, and its boot id is another one.",
    .weakest = LifetimeClass::kOneWay,
    .mechanisms = kMechanisms,
    .capabilities = kCapabilities,
    .parameters = kParameters,
    .can_be_effective = true,
    .example =
        "- host.reboot: { service: db, argv: [virsh, reset, db-1], alive: \"192.0.2.7:5432\" }\n"
        "  name: reboot\n"
        "  at: 5s\n"
        "  for: 60s\n",
};

void describe_reboot(const model::SystemMap&, const model::FaultSpecification& fault,
                     model::PlannedFault& planned) {
  const model::Parameters& parameters = fault.parameters;
  const std::string service = parameters.text("service");
  planned.target = "the instance of " + service;
  planned.services = {service};
  planned.processes_max = 0;
  const std::string by = parameters.has("argv")
                             ? fmt::format("`{}` runs", base::join(parameters.texts("argv"), " "))
                             : "QEMU resets it";
  planned.changes = {{.change = fmt::format("the instance of {} reboots: {}", service, by),
                      .revert = "nothing: that it came back is awaited and proved",
                      .lifetime = LifetimeClass::kOneWay}};
}

base::Result<model::FaultBinding> bind_reboot(const BindRequest& request) {
  const model::Parameters& parameters = request.fault.parameters;
  if (parameters.has("argv") == parameters.has("qmp")) {
    return base::Error{.code = base::ErrorCode::kUsage,
                       .message = "host.reboot needs `argv` or `qmp`, and not both",
                       .hint = "say how the instance is rebooted"};
  }
  SQUALL_ASSIGN(InstancePlan plan, instance_plan(request));
  if (parameters.has("argv")) plan.down = parameters.texts("argv");
  if (!plan.monitor.empty()) {
    plan.down_command = "system_reset";
    plan.down_event = "RESET";
  }
  SQUALL_TRY(check_not_this_machine(plan));
  return instance_binding(request, plan, LifetimeClass::kOneWay);
}

}  // namespace

extern const FaultKind kHostReboot;
const FaultKind kHostReboot{.descriptor = &kDescriptor,
                            .describe = describe_reboot,
                            .bind = bind_reboot,
                            .create = create_instance,
                            .rehearse = rehearse_instance,
                            .reach = reach_instance,
                            .restores = kRestoresService,
                            .survives_reboot = true};

}  // namespace squall::inject
