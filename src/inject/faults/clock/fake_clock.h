#pragma once
// What the kinds share that give members of a service another clock: they are started again with
// libfaketime, which reads the clock's offset from a file of ours, and at the end once more without
// it.

#include <memory>
#include <string>

#include "inject/fault.h"
#include "inject/faults/process/targets.h"

namespace squall::inject {

inline constexpr std::string_view kFakeTime = "libfaketime";
inline constexpr std::array<std::string_view, 1> kClockMechanisms{kFakeTime};
inline constexpr std::array<std::string_view, 1> kClockCapabilities{"CAP_KILL"};
inline constexpr std::array<std::string_view, 2> kClockDirections{"forward", "back"};
inline constexpr std::string_view kClockRevert =
    "The member is ended and started again with the map's `start`, without libfaketime; the file "
    "is "
    "removed. The journal has it done also when the holder dies.";
inline constexpr std::string_view kClockProof =
    "Effect: libfaketime is mapped into the new process, and a program that is started the same "
    "way "
    "reads the other time. Revert: a process of the service into which it is not mapped.";

// `offset` and `direction` come after the parameters that choose members.
constexpr model::ParameterDescriptor direction_of_clock() {
  return {.name = "direction",
          .type = model::ValueType::kChoice,
          .default_text = "forward",
          .summary = "Whether the member's clock is ahead or behind.",
          .choices = kClockDirections};
}
constexpr model::ParameterDescriptor grace_of_clock() {
  return {.name = "grace",
          .type = model::ValueType::kDuration,
          .default_text = "10s",
          .minimum = 0,
          .maximum = 6e11,
          .summary =
              "How long a member may take to end on SIGTERM, before and after the fault; "
              "then it is killed."};
}
constexpr model::ParameterDescriptor limit_of_clock() {
  return {.name = "limit",
          .type = model::ValueType::kDuration,
          .default_text = "30s",
          .minimum = 1e8,
          .maximum = 6e11,
          .summary = "How long the new process may take to appear."};
}

// Seconds by which the clock is ahead, from `offset` and `direction`.
double offset_of_clock(const model::Parameters& parameters);
// "1h ahead"
std::string clock_text(double offset);

void describe_clock(const model::FaultSpecification& fault, const std::string& what,
                    model::PlannedFault& planned);
// `first` and `then`: what stands in the file when the member is started, and afterwards; equal for
// a clock that is wrong from the start. kUnsupported when the member cannot be started by us, takes
// its time not from the C library, or libfaketime is not there.
base::Result<model::FaultBinding> bind_clock(const BindRequest& request, const std::string& first,
                                             const std::string& then, double offset);
base::Result<std::unique_ptr<Fault>> create_clock(const model::FaultBinding& binding,
                                                  FaultContext& context);
// A program of our own is started with the library and the file; no member is touched.
base::Result<std::string> rehearse_clock(const model::FaultBinding& binding, FaultContext& context);

// Why the program could not be given another clock: it is static, or Go, which does not ask the C
// library. Nothing when it can.
std::optional<std::string> cannot_be_preloaded(const std::string& program);

}  // namespace squall::inject
