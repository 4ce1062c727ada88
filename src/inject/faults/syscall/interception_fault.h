#pragma once
// What the kinds share that stand in the way of a service's system calls: a worker or two do the
// work (workers/tracer, workers/file_gate), this fault starts them, reads their counts and looks at
// what the kernel says of them. All that they hold is the kernel's to end when they die.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "inject/fault.h"
#include "inject/faults/process/successors.h"
#include "inject/faults/process/targets.h"
#include "inject/workers/file_gate/file_gate.h"
#include "inject/workers/tracer/tracer.h"
#include "inject/workers/worker_watch.h"

namespace squall::inject {

inline constexpr std::string_view kGateMechanism = "fanotify permission group";
inline constexpr std::string_view kTracerMechanism = "ptrace";
inline constexpr std::string_view kGateAndTracer = "fanotify permission group and ptrace";
inline constexpr std::string_view kInterceptionRevert =
    "The workers are ended, and the kernel lets everything go that they held; it does the same if "
    "they or the holder die. The target is not touched for it.";

inline constexpr model::ParameterDescriptor kHitShareParameter{
    .name = "share",
    .type = model::ValueType::kShare,
    .default_text = "100%",
    .minimum = 0.0001,
    .maximum = 1,
    .summary = "How many of them are hit, chosen by the run's seed."};

struct InterceptionWorkers {
  std::optional<FileGateConfiguration> gate;
  std::optional<TracerConfiguration> tracer;
};

// The binding's details get what the workers are told.
model::FaultBinding bind_interception(const BindRequest& request, const ChosenMembers& members,
                                      const InterceptionWorkers& workers);
base::Result<Reach> reach_interception(const model::FaultBinding& binding);
base::Result<std::unique_ptr<Fault>> create_interception(const model::FaultBinding& binding,
                                                         FaultContext& context);
// The same interception of a scratch process's calls, and of a scratch file.
base::Result<std::string> rehearse_interception(const model::FaultBinding& binding,
                                                FaultContext& context);

// Every process that would be traced: kConflict, kPermission or kUnsupported when one cannot be.
base::Status check_all_traceable(const ChosenMembers& members,
                                 const TracerConfiguration& configuration);

// Error numbers by name: 0 when there is none like this.
int error_number(const std::string& name);

}  // namespace squall::inject
