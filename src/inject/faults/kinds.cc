#include "inject/faults/kinds.h"

#include <array>

namespace squall::inject {

// Each is defined in faults/<family>/<kind>.cc.
extern const FaultKind kClockJump;
extern const FaultKind kClockSkew;
extern const FaultKind kProcessCrashLoop;
extern const FaultKind kProcessKill;
extern const FaultKind kProcessPause;
extern const FaultKind kProcessRestart;
extern const FaultKind kProcessUnitStop;
extern const FaultKind kNetworkBandwidth;
extern const FaultKind kNetworkBlackhole;
extern const FaultKind kNetworkBurstLoss;
extern const FaultKind kNetworkCorrupt;
extern const FaultKind kNetworkDns;
extern const FaultKind kNetworkDuplicate;
extern const FaultKind kNetworkLatency;
extern const FaultKind kNetworkLoss;
extern const FaultKind kNetworkPartition;
extern const FaultKind kNetworkRefuse;
extern const FaultKind kNetworkReorder;
extern const FaultKind kNetworkReset;
extern const FaultKind kResourceConnections;
extern const FaultKind kResourceCpuLoad;
extern const FaultKind kResourceCpuQuota;
extern const FaultKind kResourceDescriptors;
extern const FaultKind kResourceDiskFill;
extern const FaultKind kResourceInodes;
extern const FaultKind kResourceIoSaturation;
extern const FaultKind kResourceIoThrottle;
extern const FaultKind kResourceMemoryFill;
extern const FaultKind kResourceMemoryLimit;
extern const FaultKind kResourcePids;
extern const FaultKind kResourcePort;
extern const FaultKind kDiskErrors;
extern const FaultKind kDiskLatency;
extern const FaultKind kSyscallFault;
extern const FaultKind kContainerKill;
extern const FaultKind kContainerPause;
extern const FaultKind kContainerRestart;
extern const FaultKind kContainerStop;
extern const FaultKind kPostgresFailover;
extern const FaultKind kRedisFailover;
extern const FaultKind kHostPowerOff;
extern const FaultKind kHostReboot;
extern const FaultKind kCommand;

namespace {

// One a line.
// clang-format off
constexpr std::array kKinds{
    &kProcessKill,
    &kProcessCrashLoop,
    &kProcessPause,
    &kProcessRestart,
    &kProcessUnitStop,
    &kNetworkLatency,
    &kNetworkBandwidth,
    &kNetworkLoss,
    &kNetworkBurstLoss,
    &kNetworkReorder,
    &kNetworkDuplicate,
    &kNetworkCorrupt,
    &kNetworkBlackhole,
    &kNetworkPartition,
    &kNetworkRefuse,
    &kNetworkReset,
    &kNetworkDns,
    &kResourceCpuLoad,
    &kResourceCpuQuota,
    &kResourceMemoryLimit,
    &kResourceMemoryFill,
    &kResourcePids,
    &kResourceDescriptors,
    &kResourceDiskFill,
    &kResourceInodes,
    &kResourceIoThrottle,
    &kResourceIoSaturation,
    &kResourcePort,
    &kResourceConnections,
    &kClockSkew,
    &kClockJump,
    &kDiskLatency,
    &kDiskErrors,
    &kSyscallFault,
    &kContainerKill,
    &kContainerPause,
    &kContainerStop,
    &kContainerRestart,
    &kPostgresFailover,
    &kRedisFailover,
    &kHostReboot,
    &kHostPowerOff,
    &kCommand,
};
// clang-format on

}  // namespace

std::span<const FaultKind* const> all_kinds() {
  return kKinds;
}

const FaultKind* find_kind(std::string_view name) {
  for (const FaultKind* kind : kKinds) {
    if (kind->descriptor->name == name) return kind;
  }
  return nullptr;
}

std::span<const model::FaultKindDescriptor* const> fault_kinds() {
  static const auto kDescriptors = [] {
    std::array<const model::FaultKindDescriptor*, kKinds.size()> descriptors{};
    for (std::size_t i = 0; i < kKinds.size(); ++i) descriptors[i] = kKinds[i]->descriptor;
    return descriptors;
  }();
  return kDescriptors;
}

}  // namespace squall::inject
