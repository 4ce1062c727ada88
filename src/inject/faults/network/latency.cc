// network.latency: packets between two services arrive later, by a fixed time or with jitter.

#include <fmt/format.h>

#include "base/units.h"
#include "inject/fault.h"
#include "inject/faults/network/scheduled_fault.h"

namespace squall::inject {

namespace {

using model::ParameterDescriptor;
using model::ValueType;

constexpr std::array<std::string_view, 3> kDistributions{"uniform", "normal", "pareto"};
constexpr std::array<ParameterDescriptor, 8> kParameters{{
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
}};

constexpr model::FaultKindDescriptor kDescriptor = scheduled_kind({
    .name = "network.latency",
    .summary = "Delays the packets between two services.",
    .effect = "Answers come later, on live connections and on new ones (TCP and UDP, IPv4 and "
              "IPv6), exact to about 0.1 ms; throughput within one connection falls as it does "
              "on a long line. Packets are held where they arrive on this host. Where only one "
              "direction arrives here (the peer is on another host, or `from` is told apart by "
              "its user), that one is held for both.",
    .proof = "Effect: the worker's counts of packets, and the delays that it realised. Revert: "
             "table and worker are gone.",
    .parameters = kParameters,
    .example = "- network.latency: { from: api, to: db, delay: 100ms, jitter: 20ms }\n"
               "  name: slow-network\n"
               "  at: 5s\n"
               "  for: 10s\n",
});

void describe_latency(const model::SystemMap& map, const model::FaultSpecification& fault,
                      model::PlannedFault& planned) {
  const base::Duration jitter = fault.parameters.duration("jitter");
  const std::string delay = base::format_duration(fault.parameters.duration("delay"));
  describe_scheduled(
      fault,
      jitter > base::Duration::zero()
          ? fmt::format("wait {} with a jitter of {} ({})", delay, base::format_duration(jitter),
                        fault.parameters.text("distribution"))
          : fmt::format("wait {}", delay),
      map, planned);
}

base::Result<model::FaultBinding> bind_latency(const BindRequest& request) {
  const model::Parameters& parameters = request.fault.parameters;
  PacketProfile profile;
  profile.delay = parameters.duration("delay");
  profile.jitter = parameters.duration("jitter");
  profile.keeps_order = parameters.boolean("keep_order");
  profile.distribution = jitter_distribution_from(parameters.text("distribution"))
                             .value_or(JitterDistribution::kUniform);
  return bind_scheduled(request, profile, "delayed");
}

}  // namespace

extern const FaultKind kNetworkLatency;
const FaultKind kNetworkLatency{.descriptor = &kDescriptor,
                                .describe = describe_latency,
                                .bind = bind_latency,
                                .create = create_scheduled,
                                .rehearse = rehearse_scheduled,
                                .reach = reach_rules};

}  // namespace squall::inject
