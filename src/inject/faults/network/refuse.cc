// network.refuse: new connections to a service are answered with a reset, as if nobody listened.
// Connections that exist live on; to break those, cut them with network.partition or kill the
// service.

#include <fmt/format.h>

#include <array>

#include "base/text.h"
#include "inject/fault.h"
#include "inject/faults/network/scope.h"
#include "inject/faults/network/table_fault.h"
#include "inject/json_fields.h"

namespace squall::inject {

namespace {

using model::LifetimeClass;
using model::ParameterDescriptor;
using model::ValueType;

constexpr std::array<std::string_view, 1> kMechanisms{kOwnerTable};
constexpr std::array<std::string_view, 1> kCapabilities{"CAP_NET_ADMIN"};
constexpr std::array<ParameterDescriptor, 2> kParameters{{
    {.name = "service",
     .type = ValueType::kService,
     .required = true,
     .summary = "The service whose new connections are refused, whoever opens them."},
    {.name = "port",
     .type = ValueType::kInteger,
     .minimum = 1,
     .maximum = 65535,
     .summary = "Only this one of the ports on which it listens."},
}};

constexpr model::FaultKindDescriptor kDescriptor{
    .name = "network.refuse",
    .summary = "Refuses new connections to a service.",
    .effect =
        "connect() fails at once with ECONNREFUSED, as if nobody listened. Connections that "
        "exist live on.",
    .revert = "The table is deleted. The kernel does the same when the holder dies.",
    .proof = "Effect: the packet counters of the rules. Revert: the table is gone.",
    .weakest = LifetimeClass::kKernelHeld,
    .mechanisms = kMechanisms,
    .capabilities = kCapabilities,
    .parameters = kParameters,
    .can_be_effective = true,
    .example =
        "- network.refuse: { service: queue }\n"
        "  name: refused\n"
        "  at: 5s\n"
        "  for: 10s\n",
};

void describe_refuse(const model::SystemMap&, const model::FaultSpecification& fault,
                     model::PlannedFault& planned) {
  const std::string service = fault.parameters.text("service");
  planned.target = fmt::format("new connections to {}", service);
  planned.services = {service};
  planned.processes_max = 0;
  planned.changes = {{.change = fmt::format(
                          "an nftables table answers new connections to {} with a reset", service),
                      .revert = "the table is deleted; the kernel deletes it when its owner dies",
                      .lifetime = LifetimeClass::kKernelHeld}};
}

base::Result<model::FaultBinding> bind_refuse(const BindRequest& request) {
  const std::string name = request.fault.parameters.text("service");
  const model::Service* service = request.map.service(name);
  if (service == nullptr)
    return base::Error{.code = base::ErrorCode::kNotFound,
                       .message = fmt::format("the system map has no service {}", name)};
  const auto port =
      static_cast<std::uint16_t>(request.fault.parameters.optional_integer("port").value_or(0));
  SQUALL_ASSIGN(const auto endpoints, endpoints_of(request, *service, port));
  const auto probes = evidence_probes(request.map, *service, endpoints, {});
  if (!probes.empty()) {
    return base::Error{
        .code = base::ErrorCode::kUnsupported,
        .message = fmt::format("the fault would also refuse Squall's own evidence: probe {}",
                               base::enumerate(probes)),
        .hint = "if the probe stands for a caller, say so: `from: SERVICE`; else give `port:`"};
  }
  model::FaultBinding binding = new_binding(request, kOwnerTable, LifetimeClass::kKernelHeld);
  std::vector<PacketRule> rules;
  for (const PacketEndpoint& endpoint : endpoints) {
    if (!is_local(endpoint)) {
      return base::Error{.code = base::ErrorCode::kUnsupported,
                         .message = fmt::format("{} is not on this host", endpoint.text()),
                         .hint = "run the experiment there, or use network.partition here"};
    }
    PacketRule rule{.source = {}, .destination = endpoint, .user = {}, .group = {}};
    rule.action = PacketRule::Action::kReset;
    rule.opening = true;
    rules.push_back(rule);
    binding.targets.push_back(
        {.service = name,
         .member = {},
         .process = {},
         .description = fmt::format("new connections to {} at {}", name, endpoint.text())});
  }
  binding.details = model::Parameters{
      table_details(fmt::format("new connections to {}", name), rules, endpoints)};
  return binding;
}

}  // namespace

extern const FaultKind kNetworkRefuse;
const FaultKind kNetworkRefuse{.descriptor = &kDescriptor,
                               .describe = describe_refuse,
                               .bind = bind_refuse,
                               .create = create_table_fault,
                               .rehearse = rehearse_table_fault,
                               .reach = reach_rules};

}  // namespace squall::inject
