#pragma once
// What the network kinds share that hold packets in user space: an owner table puts the packets of
// a pair of services into queues, and a worker (workers/packet_scheduler) decides about each. The
// table is the holder's, the queues are the worker's: if either process dies, packets pass.

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "inject/fault.h"
#include "inject/faults/network/nft_table.h"
#include "inject/faults/network/pair.h"
#include "inject/faults/network/pair_marker.h"
#include "inject/faults/network/table_fault.h"
#include "inject/faults/network/table_place.h"
#include "inject/workers/packet_scheduler/packet_model.h"
#include "inject/workers/worker_watch.h"
#include "model/vocabulary.h"

namespace squall::inject {

inline constexpr std::string_view kPacketScheduling = "packet scheduler";
inline constexpr std::array<std::string_view, 1> kSchedulerMechanisms{kPacketScheduling};
inline constexpr std::array<std::string_view, 1> kSchedulerCapabilities{"CAP_NET_ADMIN"};
inline constexpr std::string_view kSchedulerRevert =
    "The rules are taken away, what is still held passes at once, in order, and the table is "
    "deleted. If the holder dies, the kernel deletes the table and drops what was held; if the "
    "worker dies, packets pass.";

constexpr model::ParameterDescriptor share_parameter(std::string_view summary) {
  return {.name = "share",
          .type = model::ValueType::kShare,
          .required = true,
          .minimum = 0.0001,
          .maximum = 1,
          .summary = summary};
}

// What all kinds of this sort say alike: how they are undone, by which mechanism, and how surely.
constexpr model::FaultKindDescriptor scheduled_kind(model::FaultKindDescriptor kind) {
  kind.revert = kSchedulerRevert;
  kind.weakest = model::LifetimeClass::kKernelHeld;
  kind.mechanisms = kSchedulerMechanisms;
  kind.capabilities = kSchedulerCapabilities;
  return kind;
}

// `what` happens to packets, in words: "wait 100ms".
void describe_scheduled(const model::FaultSpecification& fault, const std::string& what,
                        const model::SystemMap& map, model::PlannedFault& planned);

// The packets of `from`, `to`, `port` and `direction`, with this fate. kUnsupported when they
// cannot be told apart, or when a probe of Squall's own would be hit.
// `effect` as in ScheduledFault.
base::Result<model::FaultBinding> bind_scheduled(const BindRequest& request,
                                                 const PacketProfile& profile,
                                                 std::string_view effect);

base::Result<std::unique_ptr<Fault>> create_scheduled(const model::FaultBinding& binding,
                                                      FaultContext& context);

// The same rules and worker for packets between two loopback ports of our own. Delays are shortened
// to 20 ms for it.
base::Result<std::string> rehearse_scheduled(const model::FaultBinding& binding,
                                             FaultContext& context);

// The fault itself; for tests and benchmarks too.
class ScheduledFault final : public Fault {
 public:
  // A rule's `queue` is the index of its profile, `marked` and `place` as in TableFault. `effect`
  // names the worker's count that proves it: delayed, dropped, duplicated, corrupted, overtaken.
  ScheduledFault(std::string what, std::vector<PacketRule> rules,
                 std::vector<PacketProfile> profiles, std::uint64_t seed, std::string effect,
                 Marking marked, FaultContext& context, std::optional<NetworkNamespace> place = {});

  // By another worker that serves queues: it reports `first_queue`, and `drained` when told
  // "drain". It serves them in the `network_namespace` that it finds in its configuration.
  struct QueueWorker {
    std::string name;
    std::string what;  // for texts: "the packet scheduler"
    base::Json configuration;
  };
  ScheduledFault(std::string what, std::vector<PacketRule> rules, QueueWorker worker,
                 std::string effect, Marking marked, FaultContext& context,
                 std::optional<NetworkNamespace> place = {});

  Step arm() override;
  Step effective() override;
  Step hold() override;
  Step revert() override;
  Step verify() override;
  void recall(const base::Json& found) override;

 private:
  base::Status put_table(const WorkerReport& report);
  Step proof(const WorkerReport& report, const std::string& text) const;

  std::string what_;
  std::vector<PacketRule> rules_;
  QueueWorker queue_worker_;
  std::string effect_;
  FaultContext& context_;
  FaultMarks marks_;
  std::string name_;
  TablePlace place_;
  WorkerWatch worker_;
  std::optional<NftTable> table_;
  base::Instant drain_asked_;
  bool draining_ = false;
  bool removed_ = false;
  std::string reverted_text_;
  std::uint64_t met_ = 0;  // packets that the rules met
  std::optional<base::Instant> gone_wait_since_;
};

}  // namespace squall::inject
