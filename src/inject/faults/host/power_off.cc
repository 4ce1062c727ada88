// host.power_off: takes an instance away for the fault's time and brings it back: by programs of
// the operator's own, or by QEMU's monitor, which can also just let it stand still.

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
constexpr std::array<ParameterDescriptor, 9> kParameters{{
    kInstanceService,
    {.name = "off_argv",
     .type = ValueType::kArgv,
     .minimum = 1,
     .summary = "The program that powers the instance off: [virsh, destroy, web-1]."},
    {.name = "on_argv",
     .type = ValueType::kArgv,
     .minimum = 1,
     .summary = "The program that powers it on; it must be right to run it twice. With `qmp`, QEMU "
                "is ended (`quit`) and started by this; without it, the instance only stands "
                "still (`stop`, `cont`)."},
    kMonitor,
    kAliveAddress,
    kAliveProgram,
    kBootIdProgram,
    kInstanceTimeout,
    kInstanceLimit,
}};

constexpr model::FaultKindDescriptor kDescriptor{
    .name = "host.power_off",
    .summary = "Powers an instance off, or lets it stand still, and brings it back.",
    .effect =
        "Nothing on the instance answers; connections to it are silent until the fault ends. One "
        "that was powered off has lost its memory.",
    .revert =
        "The instance is powered on or resumed, from the journal also after a crash or a reboot "
        "of this machine. One that somebody else resumed is left as it is.",
    .proof =
        "Effect: the instance stops answering; with QEMU, its monitor says paused or is gone. "
        "Revert: it answers again, or QEMU says running.",
    .weakest = LifetimeClass::kJournaled,
    .mechanisms = kMechanisms,
    .capabilities = kCapabilities,
    .parameters = kParameters,
    .can_be_effective = true,
    .example =
        "- host.power_off:\n"
        "    service: db\n"
        "    off_argv: [virsh, destroy, db-1]\n"
        "    on_argv: [virsh, start, db-1]\n"
        "    alive: \"192.0.2.7:5432\"\n"
        "  name: power-cut\n"
        "  at: 5s\n"
        "  for: 30s\n",
};

void describe_power_off(const model::SystemMap&, const model::FaultSpecification& fault,
                        model::PlannedFault& planned) {
  const model::Parameters& parameters = fault.parameters;
  const std::string service = parameters.text("service");
  planned.target = "the instance of " + service;
  planned.services = {service};
  planned.processes_max = 0;
  const bool on = parameters.has("on_argv");
  std::string change = on ? "QEMU ends" : "QEMU lets it stand still";
  if (parameters.has("off_argv"))
    change = fmt::format("`{}` runs", base::join(parameters.texts("off_argv"), " "));
  planned.changes = {
      {.change = fmt::format("the instance of {} is away: {}", service, change),
       .revert = on ? fmt::format("`{}` runs", base::join(parameters.texts("on_argv"), " "))
                    : "QEMU lets it run on",
       .lifetime = LifetimeClass::kJournaled}};
}

base::Result<model::FaultBinding> bind_power_off(const BindRequest& request) {
  const model::Parameters& parameters = request.fault.parameters;
  const bool by_program = parameters.has("off_argv");
  if (by_program == parameters.has("qmp") || (by_program && !parameters.has("on_argv"))) {
    return base::Error{.code = base::ErrorCode::kUsage,
                       .message = "host.power_off needs `off_argv` with `on_argv`, or `qmp`",
                       .hint = "say how the instance is taken away and brought back"};
  }
  SQUALL_ASSIGN(InstancePlan plan, instance_plan(request));
  if (parameters.has("on_argv")) plan.up = parameters.texts("on_argv");
  if (by_program) {
    plan.down = parameters.texts("off_argv");
  } else if (plan.up.empty()) {
    plan.down_command = "stop";
    plan.up_command = "cont";
  } else {
    plan.down_command = "quit";
  }
  SQUALL_TRY(check_not_this_machine(plan));
  return instance_binding(request, plan, LifetimeClass::kJournaled);
}

}  // namespace

extern const FaultKind kHostPowerOff;
const FaultKind kHostPowerOff{.descriptor = &kDescriptor,
                              .describe = describe_power_off,
                              .bind = bind_power_off,
                              .create = create_instance,
                              .rehearse = rehearse_instance,
                              .reach = reach_instance,
                              .restores = kRestoresService,
                              .survives_reboot = true};

}  // namespace squall::inject
