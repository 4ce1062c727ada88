// network.latency: packets between two services arrive later, by a fixed time or with jitter. Held
// by the packet scheduler, or, where that is permitted, delayed by netem.

#include <fmt/format.h>

#include "base/units.h"
#include "inject/fault.h"
#include "inject/faults/network/netem_fault.h"
#include "inject/faults/network/scheduled_fault.h"

namespace squall::inject {

namespace {

using model::LifetimeClass;
using model::ParameterDescriptor;
using model::ValueType;

constexpr std::array<std::string_view, 3> kDistributions{"uniform", "normal", "pareto"};
constexpr std::string_view kQueue = "queue";
constexpr std::string_view kAuto = "auto";
constexpr std::array<std::string_view, 3> kWays{kQueue, kNetem, kAuto};
constexpr std::array<std::string_view, 2> kMechanisms{kPacketScheduling, kNetem};
constexpr std::array<ParameterDescriptor, 9> kParameters{{
    from_parameter(/*required=*/true),
    to_parameter(/*required=*/true),
    kPortParameter,
    {.name = "delay",
     .type = ValueType::kDuration,
     .required = true,
     .minimum = 1e5,
     .maximum = 30e9,
     .summary = "How much later a packet arrives; in both directions a round trip takes twice "
                "this."},
    {.name = "jitter",
     .type = ValueType::kDuration,
     .default_text = "0s",
     .minimum = 0,
     .maximum = 10e9,
     .summary = "How far single packets differ from `delay`; see `distribution`."},
    {.name = "distribution",
     .type = ValueType::kChoice,
     .default_text = "uniform",
     .summary = "`uniform`: up to `jitter` more or less. `normal`: with this standard deviation, "
                "cut at three of them. `pareto`: never less than `delay`, `jitter` more on "
                "average, sometimes far more (at most 20 times `jitter`).",
     .choices = kDistributions},
    kDirectionParameter,
    {.name = "keep_order",
     .type = ValueType::kBoolean,
     .default_text = "true",
     .summary = "Packets of one connection do not overtake one another, as on most networks. "
                "`false` lets jitter reorder them."},
    {.name = "mechanism",
     .type = ValueType::kChoice,
     .default_text = "queue",
     .summary = "`queue`: a worker of Squall's holds the packets, up to some 100,000 a second. "
                "`netem`: the kernel does, for more packets than that; an interface's default "
                "queue is replaced meanwhile, which is undone from the journal if the holder is "
                "killed. `auto`: `queue` where this host can do it, else `netem`.",
     .choices = kWays},
}};

constexpr model::FaultKindDescriptor kDescriptor{
    .name = "network.latency",
    .summary = "Delays the packets between two services.",
    .effect =
        "Answers come later, on live connections and on new ones (TCP and UDP, IPv4 and "
        "IPv6), exact to about 0.1 ms; throughput within one connection falls as it does "
        "on a long line. Packets are held where they arrive on this host. Where only one "
        "direction arrives here (the peer is on another host, or `from` is told apart by "
        "its user), that one is held for both.",
    .revert = kSchedulerRevert,
    .proof =
        "Effect: the worker's counts of packets, and the delays that it realised; netem's own "
        "counts. Revert: table, worker and queues are gone.",
    .weakest = model::LifetimeClass::kJournaled,
    .mechanisms = kMechanisms,
    .capabilities = kSchedulerCapabilities,
    .parameters = kParameters,
    .example =
        "- network.latency: { from: api, to: db, delay: 100ms, jitter: 20ms }\n"
        "  name: slow-network\n"
        "  at: 5s\n"
        "  for: 10s\n",
};

std::string way_of(const model::Parameters& parameters) {
  return parameters.has("mechanism") ? parameters.text("mechanism") : std::string(kQueue);
}

void describe_latency(const model::SystemMap& map, const model::FaultSpecification& fault,
                      model::PlannedFault& planned) {
  const base::Duration jitter = fault.parameters.duration("jitter");
  const std::string delay = base::format_duration(fault.parameters.duration("delay"));
  const std::string what =
      jitter > base::Duration::zero()
          ? fmt::format("wait {} with a jitter of {} ({})", delay, base::format_duration(jitter),
                        fault.parameters.text("distribution"))
          : fmt::format("wait {}", delay);
  describe_scheduled(fault, what, map, planned);
  const std::string way = way_of(fault.parameters);
  planned.lifetime = way == kQueue ? LifetimeClass::kKernelHeld : LifetimeClass::kJournaled;
  planned.mechanisms.clear();
  if (way != kNetem) planned.mechanisms.emplace_back(kPacketScheduling);
  if (way == kQueue) return;
  planned.mechanisms.emplace_back(kNetem);
  if (way == kNetem) planned.changes.clear();
  planned.changes.push_back(
      {.change = fmt::format("{}at the root of the interface stands netem, by which {} {}",
                             way == kAuto ? "where there is no packet queue: " : "", planned.target,
                             what),
       .revert = "the interface gets its default queue back, if it still has ours; nothing is "
                 "delayed any more as soon as the holder is dead",
       .lifetime = LifetimeClass::kJournaled});
}

bool netem_can(const PacketProfile& profile) {
  return profile.jitter == base::Duration::zero() ||
         (profile.distribution == JitterDistribution::kUniform && !profile.keeps_order &&
          profile.jitter <= profile.delay);
}

base::Result<model::FaultBinding> bind_to_netem(const BindRequest& request,
                                                const PacketProfile& profile) {
  if (netem_can(profile))
    return bind_netem(request, {.delay = profile.delay, .jitter = profile.jitter});
  return base::Error{
      .code = base::ErrorCode::kUnsupported,
      .message = "netem jitters uniformly, by at most `delay`, and lets packets overtake",
      .hint = "say `distribution: uniform` and `keep_order: false`, or leave `mechanism` out"};
}

base::Result<model::FaultBinding> bind_latency(const BindRequest& request) {
  const model::Parameters& parameters = request.fault.parameters;
  PacketProfile profile;
  profile.delay = parameters.duration("delay");
  profile.jitter = parameters.duration("jitter");
  profile.keeps_order = parameters.boolean("keep_order");
  profile.distribution = jitter_distribution_from(parameters.text("distribution"))
                             .value_or(JitterDistribution::kUniform);
  const std::string way = way_of(parameters);
  if (way == kNetem) return bind_to_netem(request, profile);
  if (way == kAuto) {
    if (const auto queues = check_packet_queues(); !queues.ok()) {
      auto binding = bind_to_netem(request, profile);
      if (!binding.ok()) binding = std::move(binding).error().within(queues.error().message);
      return binding;
    }
  }
  return bind_scheduled(request, profile, "delayed");
}

base::Result<std::unique_ptr<Fault>> create_latency(const model::FaultBinding& binding,
                                                    FaultContext& context) {
  return binding.mechanism == kNetem ? create_netem(binding, context)
                                     : create_scheduled(binding, context);
}

base::Result<std::string> rehearse_latency(const model::FaultBinding& binding,
                                           FaultContext& context) {
  return binding.mechanism == kNetem ? rehearse_netem(binding, context)
                                     : rehearse_scheduled(binding, context);
}

// netem stands at an interface that everybody uses, so it is root's.
base::Result<Reach> reach_latency(const model::FaultBinding& binding) {
  if (binding.mechanism != kNetem) return reach_rules(binding);
  return base::Error{.code = base::ErrorCode::kPermission,
                     .message = "netem is for root only: it replaces the queue of an interface",
                     .hint = "leave `mechanism` out"};
}

}  // namespace

extern const FaultKind kNetworkLatency;
const FaultKind kNetworkLatency{.descriptor = &kDescriptor,
                                .describe = describe_latency,
                                .bind = bind_latency,
                                .create = create_latency,
                                .rehearse = rehearse_latency,
                                .reach = reach_latency};

}  // namespace squall::inject
