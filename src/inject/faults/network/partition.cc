// network.partition: nothing passes between two services any more, on live connections or new ones.
// Packets are dropped where they arrive, so that the sender sees silence, not an error. Only what
// can be told apart from everybody else's packets is cut; else the fault is refused.

#include <fmt/format.h>

#include <array>

#include "base/text.h"
#include "inject/fault.h"
#include "inject/faults/network/scope.h"
#include "inject/faults/network/table_fault.h"
#include "inject/json_fields.h"

namespace squall::inject {

namespace {

using base::Json;
using model::LifetimeClass;
using model::ParameterDescriptor;
using model::ValueType;
using Chain = PacketRule::Chain;
using Protocol = PacketRule::Protocol;

constexpr std::array<std::string_view, 1> kMechanisms{kOwnerTable};
constexpr std::array<std::string_view, 1> kCapabilities{"CAP_NET_ADMIN"};
constexpr std::array<ParameterDescriptor, 2> kParameters{{
    {.name = "from",
     .type = ValueType::kService,
     .required = true,
     .summary = "The service that opens the connections; an external one stands for all callers "
                "from outside, and for the probes that say so."},
    {.name = "to",
     .type = ValueType::kService,
     .required = true,
     .summary = "The service that it speaks to, by the addresses on which it listens."},
}};

constexpr model::FaultKindDescriptor kDescriptor{
    .name = "network.partition",
    .summary = "Cuts the network between two services.",
    .effect =
        "Packets between the two vanish, on live connections and on new ones (TCP and UDP, "
        "IPv4 and IPv6); the callers wait until their own timeouts. Where `from` is told "
        "apart by its user, what `to` had already sent still arrives, but is never "
        "acknowledged.",
    .revert = "The table is deleted. The kernel does the same when the holder dies.",
    .proof = "Effect: the packet counters of the rules. Revert: the table is gone.",
    .weakest = LifetimeClass::kKernelHeld,
    .mechanisms = kMechanisms,
    .capabilities = kCapabilities,
    .parameters = kParameters,
    .can_be_effective = true,
    .example =
        "- network.partition: { from: api, to: db }\n"
        "  name: cut\n"
        "  at: 5s\n"
        "  for: 10s\n",
};

void describe_partition(const model::SystemMap& map, const model::FaultSpecification& fault,
                        model::PlannedFault& planned) {
  const std::string from = fault.parameters.text("from");
  const std::string to = fault.parameters.text("to");
  planned.target = fmt::format("the network between {} and {}", from, to);
  planned.services = {to};
  const model::Service* caller = map.service(from);
  if (caller != nullptr && !caller->external) planned.services.push_back(from);
  planned.processes_max = 0;
  planned.changes = {
      {.change = fmt::format("an nftables table drops the packets between {} and {}", from, to),
       .revert = "the table is deleted; the kernel deletes it when its owner dies",
       .lifetime = LifetimeClass::kKernelHeld}};
}

// The rules that cut one endpoint off for what `telling` tells apart.
void add_rules(const PacketEndpoint& endpoint, const Telling& telling, Protocol protocol,
               bool from_outside, std::vector<PacketRule>& rules) {
  const bool local = is_local(endpoint);
  PacketRule request{
      .protocol = protocol, .source = {}, .destination = endpoint, .user = {}, .group = {}};
  PacketRule reply{
      .protocol = protocol, .source = endpoint, .destination = {}, .user = {}, .group = {}};
  request.chain = local ? Chain::kIncoming : Chain::kOutgoing;
  if (telling.way != Telling::Way::kAlone) {
    PacketRule sender = request;
    sender.chain = local ? Chain::kMark : Chain::kOutgoing;
    sender.action = local ? PacketRule::Action::kMark : PacketRule::Action::kDrop;
    if (telling.way == Telling::Way::kUser) sender.user = telling.user;
    if (telling.way == Telling::Way::kGroup) sender.group = telling.group;
    rules.push_back(sender);
    request.marked = true;
    reply.group =
        sender.group;  // arriving packets belong to the group of the socket that gets them
  }
  if (local || telling.way == Telling::Way::kAlone) rules.push_back(request);
  if (telling.way != Telling::Way::kUser) rules.push_back(reply);
  if (from_outside && local && telling.way == Telling::Way::kAlone) {
    reply.chain = Chain::kOutgoing;
    reply.off_host = true;
    rules.push_back(reply);
  }
}

base::Result<model::FaultBinding> bind_partition(const BindRequest& request) {
  const std::string from_name = request.fault.parameters.text("from");
  const std::string to_name = request.fault.parameters.text("to");
  const model::Service* from = request.map.service(from_name);
  const model::Service* to = request.map.service(to_name);
  if (from == nullptr || to == nullptr || from == to) {
    return base::Error{.code = base::ErrorCode::kUsage,
                       .message = "a partition needs two different services of the map"};
  }
  SQUALL_ASSIGN(const auto endpoints, endpoints_of(request, *to, 0));
  SQUALL_ASSIGN(const Telling telling, tell_apart(request, *from, *to, endpoints));
  model::FaultBinding binding;
  binding.fault = request.fault.name;
  binding.kind = kDescriptor.name;
  binding.mechanism = kOwnerTable;
  binding.lifetime = LifetimeClass::kKernelHeld;
  std::vector<PacketRule> rules;
  Json resources = Json::array();
  std::vector<std::string> places;
  for (const PacketEndpoint& endpoint : endpoints) {
    for (const Protocol protocol : {Protocol::kTcp, Protocol::kUdp})
      add_rules(endpoint, telling, protocol, from->external, rules);
    binding.targets.push_back(
        {.service = to_name,
         .member = {},
         .process = {},
         .description = fmt::format("{} to {} at {}", from_name, to_name, endpoint.text())});
    resources.push_back("network/" + endpoint.text());
    places.push_back(endpoint.text());
  }
  Json list = Json::array();
  for (const PacketRule& rule : rules) list.push_back(to_json(rule));
  binding.details =
      model::Parameters{Json{{"what", fmt::format("packets between {} and {}", from_name, to_name)},
                             {"rules", list},
                             {"endpoints", places},
                             {"told_apart", telling.text},
                             {"resources", resources}}};
  return binding;
}

}  // namespace

extern const FaultKind kNetworkPartition;
const FaultKind kNetworkPartition{.descriptor = &kDescriptor,
                                  .describe = describe_partition,
                                  .bind = bind_partition,
                                  .create = create_table_fault,
                                  .rehearse = rehearse_table_fault};

}  // namespace squall::inject
