// network.partition: nothing passes any more between two services, or between groups of the members
// of one. Packets are dropped where they arrive, so that the sender sees silence, not an error.
// Only what can be told apart from everybody else's packets is cut; else the fault is refused.

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/text.h"
#include "inject/fault.h"
#include "inject/faults/network/pair.h"
#include "inject/faults/network/shapes.h"
#include "inject/faults/network/table_fault.h"
#include "inject/json_fields.h"

namespace squall::inject {

namespace {

using base::Json;
using model::LifetimeClass;
using model::ParameterDescriptor;
using model::ValueType;

constexpr std::array<std::string_view, 1> kMechanisms{kOwnerTable};
constexpr std::array<std::string_view, 1> kCapabilities{"CAP_NET_ADMIN"};
constexpr std::array<std::string_view, 3> kShapeChoices{"isolate", "halves", "ring"};
constexpr std::array<ParameterDescriptor, 7> kParameters{{
    from_parameter(/*required=*/false),
    to_parameter(/*required=*/false),
    kDirectionParameter,
    {.name = "service",
     .type = ValueType::kService,
     .summary = "Instead of `from` and `to`: the service whose members are cut from one another."},
    {.name = "shape",
     .type = ValueType::kChoice,
     .summary = "How its members are cut: `isolate` cuts one from all its peers, `halves` splits "
                "them in two, `ring` leaves each only its two neighbours in the map's order.",
     .choices = kShapeChoices},
    {.name = "member",
     .type = ValueType::kMember,
     .summary = "The member that `isolate` cuts off, by name or role; without it the run's seed "
                "chooses."},
    {.name = "half",
     .type = ValueType::kArgv,
     .summary = "The members on one side of `halves`, by name; without it the run's seed draws "
                "half of them."},
}};

constexpr model::FaultKindDescriptor kDescriptor{
    .name = "network.partition",
    .summary = "Cuts the network between two services, or among the members of one.",
    .effect =
        "Packets between the two vanish, on live connections and on new ones (TCP and UDP, "
        "IPv4 and IPv6); the callers wait until their own timeouts. Where `from` is told "
        "apart by its user, what `to` had already sent still arrives, but is never "
        "acknowledged. UDP to another host is dropped where it leaves, which its sender sees as "
        "EPERM.",
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

constexpr std::string_view kTableGoes =
    "the table is deleted; the kernel deletes it when its owner dies";

// `member` and `half`: the names on one side; empty: the seed draws.
std::vector<std::string> named_side(const model::Service& service,
                                    const model::Parameters& parameters, Shape shape) {
  std::vector<std::string> names;
  if (shape == Shape::kHalves && parameters.has("half")) names = parameters.texts("half");
  const std::string member = parameters.optional_text("member").value_or("");
  if (shape == Shape::kIsolate && !member.empty()) names = {member};
  for (std::string& name : names) {
    for (const model::MemberSelector& selector : service.members) {
      if (selector.role == name) name = selector.name;
    }
  }
  return names;
}

// As far as the map says.
std::vector<std::string> member_names(const model::Service& service) {
  std::vector<std::string> names;
  for (const model::MemberSelector& member : service.members) names.push_back(member.name);
  if (!names.empty()) return names;
  for (int i = 1; i <= service.expected_members; ++i)
    names.push_back(fmt::format("{}-{}", service.name, i));
  return names;
}

base::Result<std::vector<MemberPair>> cut_pairs(const std::vector<std::string>& members,
                                                const std::vector<std::string>& named, Shape shape,
                                                std::uint64_t seed) {
  if (shape == Shape::kRing) {
    auto pairs = ring(members.size());
    if (!pairs.empty()) return pairs;
    return base::Error{
        .code = base::ErrorCode::kUsage,
        .message = fmt::format("in a ring of {} members each has all others as neighbours: nothing "
                               "would be cut",
                               members.size()),
        .hint = "use `shape: isolate` or `shape: halves`, or start four members or more"};
  }
  SQUALL_ASSIGN(const auto side, choose_side(members, named, shape, seed));
  return split(members.size(), side);
}

std::string describe_shape(const model::Parameters& parameters, Shape shape,
                           const std::vector<std::string>& named) {
  const std::string service = parameters.text("service");
  if (shape == Shape::kRing)
    return fmt::format("all but neighbouring members of service {}", service);
  if (shape == Shape::kIsolate) {
    return named.empty()
               ? fmt::format("one member of service {}, chosen by seed, and its peers", service)
               : fmt::format("member {} of service {} and its peers", named.front(), service);
  }
  return named.empty() ? fmt::format("two halves of service {}, drawn by seed", service)
                       : fmt::format("{} of service {} and the other members",
                                     base::enumerate(named), service);
}

void describe_members(const model::SystemMap& map, const model::FaultSpecification& fault,
                      model::PlannedFault& planned) {
  const model::Parameters& parameters = fault.parameters;
  const std::string name = parameters.text("service");
  const Shape shape =
      shape_from(parameters.optional_text("shape").value_or("")).value_or(Shape::kHalves);
  const model::Service* service = map.service(name);
  planned.services = {name};
  planned.processes_max = 0;
  std::vector<std::string> named;
  std::vector<std::string> members;
  if (service != nullptr) {
    named = named_side(*service, parameters, shape);
    members = member_names(*service);
  }
  const std::string between = describe_shape(parameters, shape, named);
  planned.target = "the network between " + between;
  const auto add = [&](const std::string& what) {
    planned.changes.push_back({.change = fmt::format("an nftables table drops the packets between "
                                                     "{}",
                                                     what),
                               .revert = std::string(kTableGoes),
                               .lifetime = LifetimeClass::kKernelHeld});
  };
  // Which pairs a seed will choose is not known before the binding, which lists them.
  const bool drawn = shape != Shape::kRing && named.empty();
  const auto pairs = cut_pairs(members, named, shape, /*seed=*/0);
  if (drawn || !pairs.ok()) {
    return add(pairs.ok() ? fmt::format("{}: {} pairs of {}", between, pairs->size(),
                                        base::enumerate(members))
                          : between);
  }
  for (const auto& [a, b] : *pairs)
    add(fmt::format("{}/{} and {}/{}", name, members[a], name, members[b]));
}

void describe_partition(const model::SystemMap& map, const model::FaultSpecification& fault,
                        model::PlannedFault& planned) {
  const model::Parameters& parameters = fault.parameters;
  if (parameters.has("service")) return describe_members(map, fault, planned);
  if (!parameters.has("from") || !parameters.has("to")) {
    planned.target = "nothing: it names neither `from` and `to` nor `service` and `shape`";
    return;
  }
  describe_pair(map, fault, planned);
  planned.changes = {
      {.change = fmt::format("an nftables table drops the {}",
                             describe_packets(parameters.text("from"), parameters.text("to"),
                                              direction_of(parameters))),
       .revert = std::string(kTableGoes),
       .lifetime = LifetimeClass::kKernelHeld}};
}

// A member with its places, on this host or on another one.
struct Node {
  std::string name;
  Party party;
  std::vector<PacketEndpoint> endpoints;
  bool here() const { return !party.processes.empty(); }
};

base::Result<Node> make_node(const BindRequest& request, const model::Service& service,
                             const std::string& name,
                             const std::optional<model::ListenAddress>& listens,
                             const host::Process* process) {
  Node node;
  node.name = name;
  SQUALL_ASSIGN(node.endpoints, endpoints_of_member(request, name, listens, process));
  const PacketEndpoint& first = node.endpoints.front();
  if (process == nullptr && is_local(first)) {
    return base::Error{
        .code = base::ErrorCode::kNotFound,
        .message = fmt::format("member {} of service {} is not running", name, service.name),
        .hint = "is it running?"};
  }
  node.party.name = fmt::format("{}/{}", service.name, name);
  node.party.service = service.name;
  node.party.member = true;
  if (process != nullptr) node.party.processes.push_back(*process);
  const bool usual = first.address == std::vector<std::uint8_t>{127, 0, 0, 1} ||
                     (first.address.size() == 16 && is_loopback(first));
  if (!usual) node.party.address = first.address;
  return node;
}

base::Result<std::vector<Node>> find_nodes(const BindRequest& request,
                                           const model::Service& service) {
  SQUALL_ASSIGN(const auto found, host::find_members(request.host, service));
  std::vector<Node> nodes;
  for (const model::MemberSelector& selector : service.members) {
    const auto member = std::find_if(found.begin(), found.end(), [&](const host::Member& each) {
      return each.name == selector.name;
    });
    SQUALL_ASSIGN(Node node, make_node(request, service, selector.name, selector.listens,
                                       member == found.end() ? nullptr : &member->process));
    nodes.push_back(std::move(node));
  }
  if (service.members.empty()) {
    for (const host::Member& member : found) {
      SQUALL_ASSIGN(Node node, make_node(request, service, member.name, {}, &member.process));
      nodes.push_back(std::move(node));
    }
  }
  // An address of its own is one that no other member has.
  for (Node& node : nodes) {
    for (Node& other : nodes) {
      if (&node == &other) continue;
      for (const PacketEndpoint& endpoint : node.endpoints) {
        const auto& theirs = other.endpoints;
        if (std::find(theirs.begin(), theirs.end(), endpoint) == theirs.end()) continue;
        return base::Error{
            .code = base::ErrorCode::kUnsupported,
            .message = fmt::format("{} and {} both listen on {}: what is sent there cannot be told "
                                   "apart",
                                   node.party.name, other.party.name, endpoint.text()),
            .hint = "give each member a port or an address of its own"};
      }
    }
    const auto sharing = std::count_if(nodes.begin(), nodes.end(), [&](const Node& other) {
      return other.endpoints.front().address == node.endpoints.front().address;
    });
    if (sharing > 1) node.party.address.clear();
  }
  return nodes;
}

// The connections that `from` opens to `to`.
base::Status add_way(const BindRequest& request, const Node& from, const Node& to,
                     std::vector<PacketRule>& rules, Marking& marking,
                     std::vector<std::string>& told) {
  PacketPair pair{.from = from.party, .to = to.party, .endpoints = to.endpoints, .telling = {}};
  SQUALL_ASSIGN(pair.telling, tell_apart(request, pair.from, pair.to, pair.endpoints));
  SQUALL_ASSIGN(auto more, drop_rules(pair, {}));
  rules.insert(rules.end(), more.begin(), more.end());
  if (const auto one = marking_of(pair)) {
    marking.pairs.push_back(one->pairs.front());
    marking.layout = one->layout;
  }
  told.push_back(fmt::format("{} to {}: {}", from.name, to.name, pair.telling.text));
  return {};
}

base::Result<model::FaultBinding> bind_members(const BindRequest& request) {
  const model::Parameters& parameters = request.fault.parameters;
  const std::string name = parameters.text("service");
  const model::Service* service = request.map.service(name);
  const auto shape = shape_from(parameters.optional_text("shape").value_or(""));
  const bool other_way = parameters.has("from") || parameters.has("to") ||
                         direction_of(parameters) != Direction::kBoth;
  if (service == nullptr || !shape || other_way) {
    return base::Error{
        .code = base::ErrorCode::kUsage,
        .message =
            "a partition among members needs `service` and `shape`, and no `from`, `to` or "
            "`direction`",
        .hint = fmt::format("write {{ service: {}, shape: halves }}, or isolate, or ring", name)};
  }
  SQUALL_ASSIGN(const std::vector<Node> nodes, find_nodes(request, *service));
  std::vector<std::string> names;
  for (const Node& node : nodes) names.push_back(node.name);
  SQUALL_ASSIGN(const auto pairs, cut_pairs(names, named_side(*service, parameters, *shape), *shape,
                                            seed_of(request)));
  model::FaultBinding binding = new_binding(request, kOwnerTable, LifetimeClass::kKernelHeld);
  std::vector<PacketRule> rules;
  std::vector<PacketEndpoint> endpoints;
  Marking marking;
  std::vector<std::string> told;
  for (const auto& [a, b] : pairs) {
    const Node& one = nodes[a];
    const Node& two = nodes[b];
    if (!one.here() && !two.here()) {
      return base::Error{.code = base::ErrorCode::kUnsupported,
                         .message = fmt::format("neither {} nor {} runs on this host",
                                                one.party.name, two.party.name),
                         .hint =
                             "run the experiment on one of theirs, or isolate a member of this "
                             "host"};
    }
    SQUALL_TRY(add_way(request, one, two, rules, marking, told));
    SQUALL_TRY(add_way(request, two, one, rules, marking, told));
    for (const Node* node : {&one, &two}) {
      for (const PacketEndpoint& endpoint : node->endpoints) {
        if (std::find(endpoints.begin(), endpoints.end(), endpoint) == endpoints.end())
          endpoints.push_back(endpoint);
      }
    }
    binding.targets.push_back(
        {.service = name,
         .member = one.name,
         .process = {},
         .description = fmt::format("{} and {}", one.party.name, two.party.name)});
  }
  Json details =
      table_details(fmt::format("packets between members of {}", name), rules, endpoints);
  details["told_apart"] = told;
  if (!marking.pairs.empty()) details["marked"] = to_json(marking);
  binding.details = model::Parameters{details};
  return binding;
}

base::Result<model::FaultBinding> bind_partition(const BindRequest& request) {
  const model::Parameters& parameters = request.fault.parameters;
  if (parameters.has("service")) return bind_members(request);
  if (parameters.has("shape") || parameters.has("member") || parameters.has("half")) {
    return base::Error{.code = base::ErrorCode::kUsage,
                       .message = "`shape`, `member` and `half` need a `service`",
                       .hint = "name the service whose members are meant"};
  }
  SQUALL_ASSIGN(const PacketPair pair, find_pair(request));
  const Direction direction = direction_of(parameters);
  SQUALL_ASSIGN(const auto rules, drop_rules(pair, {.direction = direction}));
  return pair_binding(request, pair, direction, rules);
}

}  // namespace

extern const FaultKind kNetworkPartition;
const FaultKind kNetworkPartition{.descriptor = &kDescriptor,
                                  .describe = describe_partition,
                                  .bind = bind_partition,
                                  .create = create_table_fault,
                                  .rehearse = rehearse_table_fault,
                                  .reach = reach_rules};

}  // namespace squall::inject
