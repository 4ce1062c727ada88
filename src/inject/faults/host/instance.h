#pragma once
// What host.reboot and host.power_off share: reaching an instance (a virtual machine, or a machine
// elsewhere) by programs of the operator's own or by QEMU's monitor, and telling whether it lives.

#include <optional>
#include <string>
#include <vector>

#include "inject/fault.h"
#include "inject/faults/host/qmp.h"

namespace squall::inject {

inline constexpr std::string_view kByCommand = "command";
inline constexpr std::string_view kByMonitor = "QEMU monitor";

inline constexpr model::ParameterDescriptor kInstanceService{
    .name = "service",
    .type = model::ValueType::kService,
    .required = true,
    .summary = "The service that is on the instance."};
inline constexpr model::ParameterDescriptor kMonitor{
    .name = "qmp",
    .type = model::ValueType::kPath,
    .summary = "Instead of programs: the socket of QEMU's monitor (-qmp unix:PATH,server=on)."};
inline constexpr model::ParameterDescriptor kAliveAddress{
    .name = "alive",
    .type = model::ValueType::kText,
    .minimum = 3,
    .maximum = 100,
    .summary = "ADDRESS:PORT on the instance that takes TCP connections while it lives."};
inline constexpr model::ParameterDescriptor kAliveProgram{
    .name = "alive_argv",
    .type = model::ValueType::kArgv,
    .minimum = 1,
    .summary =
        "A program that exits with 0 while the instance lives, and else with something "
        "else."};
inline constexpr model::ParameterDescriptor kBootIdProgram{
    .name = "boot_id_argv",
    .type = model::ValueType::kArgv,
    .minimum = 1,
    .summary =
        "A program that prints the instance's /proc/sys/kernel/random/boot_id: that it "
        "changed proves the reboot."};
inline constexpr model::ParameterDescriptor kInstanceTimeout{
    .name = "timeout",
    .type = model::ValueType::kDuration,
    .default_text = "30s",
    .minimum = 1e6,
    .maximum = 6e11,
    .summary = "How long each program may run; then it is killed with its process group."};
inline constexpr model::ParameterDescriptor kInstanceLimit{
    .name = "limit",
    .type = model::ValueType::kDuration,
    .default_text = "5min",
    .minimum = 1e8,
    .maximum = 3.6e12,
    .summary =
        "How long the instance may take to come back; later the revert counts as not "
        "verified."};

struct InstancePlan {
  std::string service;
  std::string directory;
  std::string monitor;            // path; empty: by programs
  std::vector<std::string> down;  // program that takes it down
  std::vector<std::string> up;    // program that brings it back; empty: it comes by itself
  std::string down_command;       // of the monitor: system_reset, stop, quit
  std::string down_event;
  std::string up_command;  // cont, or empty
  std::vector<std::string> alive_argv;
  std::vector<std::string> boot_id_argv;
  std::string alive_address;
  std::uint16_t alive_port = 0;
  base::Duration timeout{};
  base::Duration limit{};
};
base::Json to_json(const InstancePlan& plan);

// From the parameters that both kinds have. kUsage without a way to tell whether it lives, kBlocked
// when a program or a boot id shows that it would be this machine.
base::Result<InstancePlan> instance_plan(const BindRequest& request);
base::Status check_not_this_machine(const InstancePlan& plan);
model::FaultBinding instance_binding(const BindRequest& request, const InstancePlan& plan,
                                     model::LifetimeClass lifetime);
base::Result<std::unique_ptr<Fault>> create_instance(const model::FaultBinding& binding,
                                                     FaultContext& context);
base::Result<Reach> reach_instance(const model::FaultBinding& binding);
// The monitor answers, or the programs are there; nothing is done to the instance.
base::Result<std::string> rehearse_instance(const model::FaultBinding& binding,
                                            FaultContext& context);

}  // namespace squall::inject
