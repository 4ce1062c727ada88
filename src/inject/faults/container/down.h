#pragma once
// What container.kill, stop and restart share: a container is taken down by its engine, and brought
// back by it, by somebody else, or not at all.

#include "inject/faults/container/containers.h"
#include "inject/faults/process/revival.h"

namespace squall::inject {

struct Takedown {
  std::string verb;         // "kill": the engine's word, also for people
  std::string path;         // "/kill?signal=SIGKILL"
  base::Duration grace{};   // how long the engine may take until the process has ended
  bool comes_back = false;  // the engine itself starts it again (restart)
};

inline constexpr model::ParameterDescriptor kContainerGraceParameter{
    .name = "grace",
    .type = model::ValueType::kDuration,
    .default_text = "10s",
    .minimum = 0,
    .maximum = 3e10,
    .summary =
        "How long its first process may take to end after the stop signal, in whole "
        "seconds; after that the engine kills it."};
inline constexpr model::ParameterDescriptor kContainerLimitParameter{
    .name = "limit",
    .type = model::ValueType::kDuration,
    .default_text = "30s",
    .minimum = 1e8,
    .maximum = 6e11,
    .summary =
        "How long it may take until the container runs again; later the revert counts as "
        "not verified."};

base::Json to_json(const Takedown& takedown);

// With the details `takedown`, `restore` (start, await, none) and `limit_ns`. kUnsupported when the
// engine would remove the container at its end and `restore` is start.
base::Result<model::FaultBinding> bind_takedown(const BindRequest& request,
                                                const Takedown& takedown, Restore restore,
                                                model::LifetimeClass lifetime);
base::Result<std::unique_ptr<Fault>> create_takedown(const model::FaultBinding& binding,
                                                     FaultContext& context);

}  // namespace squall::inject
