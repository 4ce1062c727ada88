#include "inject/faults/network/pair.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "inject/faults/network/table_fault.h"

namespace squall::inject {

namespace {

using base::Json;
using model::LifetimeClass;
using Chain = PacketRule::Chain;
using Way = Telling::Way;

base::Error cannot_reply(const PacketPair& pair) {
  return base::Error{
      .code = base::ErrorCode::kUnsupported,
      .message =
          fmt::format("{} is told apart by its user, which what {} sends to it does not show",
                      pair.from.name, pair.to.name),
      .hint = fmt::format("say `direction: requests`, or run {} in a cgroup v2 of its own",
                          pair.from.name)};
}

// An exact share can be drawn only where packets arrive: dropped where they leave, the sender's own
// kernel would tell it, or try again at once.
base::Status check_exact(const PacketPair& pair, const PacketEndpoint& endpoint,
                         Direction direction) {
  const bool local = is_local(endpoint);
  if (direction != Direction::kReplies && !local) {
    return base::Error{
        .code = base::ErrorCode::kUnsupported,
        .message = fmt::format("{} is not on this host: what is sent to it cannot be lost "
                               "silently here",
                               endpoint.text()),
        .hint = "say `direction: replies`, or run the experiment on that host"};
  }
  if (direction != Direction::kRequests && pair.telling.way == Way::kUser)
    return cannot_reply(pair);
  if (direction != Direction::kRequests && local && pair.from.external && !is_loopback(endpoint)) {
    return base::Error{
        .code = base::ErrorCode::kUnsupported,
        .message = fmt::format("what {} at {} sends to callers outside cannot be lost silently "
                               "here",
                               pair.to.name, endpoint.text()),
        .hint = "say `direction: requests`"};
  }
  return {};
}

// For one endpoint and protocol.
void add_rules(const PacketPair& pair, const PacketEndpoint& endpoint,
               PacketRule::Protocol protocol, const Cut& cut, std::vector<PacketRule>& rules) {
  const Telling& telling = pair.telling;
  const bool local = is_local(endpoint);
  PacketRule request{
      .protocol = protocol, .source = {}, .destination = endpoint, .user = {}, .group = {}};
  PacketRule reply{
      .protocol = protocol, .source = endpoint, .destination = {}, .user = {}, .group = {}};
  request.chain = local ? Chain::kIncoming : Chain::kOutgoing;
  request.share = reply.share = cut.share;
  if (cut.refuse) {
    request.action = PacketRule::Action::kReset;
    request.opening = true;
  }
  std::optional<PacketRule> sender;
  if (telling.way == Way::kAddress) {
    const PacketEndpoint own{.address = telling.address, .port = 0};
    request.source = own;
    reply.destination = own;
    // Replies to a member on another host leave here.
    if (!is_local(own)) reply.chain = Chain::kOutgoing;
  } else if (telling.way == Way::kSockets) {
    request.marked = reply.marked = true;
  } else if (telling.way != Way::kAlone) {
    // Only where a packet leaves is its sender known.
    sender = request;
    sender->share = 0;
    sender->opening = false;
    if (telling.way == Way::kUser) sender->user = telling.user;
    if (telling.way == Way::kGroup) sender->group = telling.group;
    // An arriving packet belongs to the group of the socket that gets it.
    reply.group = sender->group;
    if (local) {
      sender->chain = Chain::kMark;
      sender->action = PacketRule::Action::kMark;
      request.marked = true;
    } else {
      sender->share = request.share;
      request = *std::exchange(sender, std::nullopt);
    }
  }
  if (cut.direction != Direction::kReplies) {
    if (sender) rules.push_back(*sender);
    rules.push_back(request);
  }
  if (cut.direction == Direction::kRequests || telling.way == Way::kUser) return;
  rules.push_back(reply);
  if (pair.from.external && local && telling.way == Way::kAlone && !cut.exactly) {
    reply.chain = Chain::kOutgoing;
    reply.off_host = true;
    rules.push_back(reply);
  }
}

}  // namespace

Direction direction_of(const model::Parameters& parameters) {
  const std::string text = parameters.optional_text("direction").value_or("both");
  if (text == "requests") return Direction::kRequests;
  return text == "replies" ? Direction::kReplies : Direction::kBoth;
}

std::string describe_packets(const std::string& from, const std::string& to, Direction direction) {
  if (direction == Direction::kRequests) return fmt::format("packets from {} to {}", from, to);
  if (direction == Direction::kReplies) return fmt::format("packets from {} to {}", to, from);
  return fmt::format("packets between {} and {}", from, to);
}

void describe_pair(const model::SystemMap& map, const model::FaultSpecification& fault,
                   model::PlannedFault& planned) {
  const std::string from = fault.parameters.text("from");
  const std::string to = fault.parameters.text("to");
  planned.target = fmt::format("the network between {} and {}", from, to);
  if (const auto port = fault.parameters.optional_integer("port"))
    planned.target += fmt::format(", port {}", *port);
  planned.services = {to};
  const model::Service* caller = map.service(from);
  if (caller != nullptr && !caller->external) planned.services.push_back(from);
  planned.processes_max = 0;
}

base::Result<PacketPair> find_pair_ends(const BindRequest& request) {
  const model::Parameters& parameters = request.fault.parameters;
  const model::Service* from = request.map.service(parameters.optional_text("from").value_or(""));
  const model::Service* to = request.map.service(parameters.optional_text("to").value_or(""));
  if (from == nullptr || to == nullptr || from == to) {
    return base::Error{.code = base::ErrorCode::kUsage,
                       .message = fmt::format("{} needs two different services of the map",
                                              request.fault.kind->name),
                       .hint = "name them: `{ from: api, to: db }`"};
  }
  PacketPair pair;
  const auto port = static_cast<std::uint16_t>(parameters.optional_integer("port").value_or(0));
  SQUALL_ASSIGN(pair.endpoints, endpoints_of(request, *to, port));
  SQUALL_ASSIGN(pair.from, calling_party(request, *from));
  pair.to.name = pair.to.service = to->name;
  return pair;
}

base::Result<PacketPair> find_pair(const BindRequest& request, bool replies) {
  SQUALL_ASSIGN(PacketPair pair, find_pair_ends(request));
  replies = replies || direction_of(request.fault.parameters) == Direction::kReplies;
  SQUALL_ASSIGN(pair.telling, tell_apart(request, pair.from, pair.to, pair.endpoints, replies));
  return pair;
}

std::optional<Marking> marking_of(const PacketPair& pair) {
  if (pair.telling.way != Way::kSockets) return std::nullopt;
  MarkedPair marked{.callers = {}, .endpoints = pair.endpoints, .joining = pair.from.joining};
  for (const host::Process& process : pair.from.processes)
    marked.callers.push_back(process.identity);
  return Marking{.pairs = {std::move(marked)}, .layout = pair.telling.layout};
}

base::Result<std::vector<PacketRule>> drop_rules(const PacketPair& pair, const Cut& cut) {
  if (cut.direction == Direction::kReplies && pair.telling.way == Way::kUser)
    return cannot_reply(pair);
  std::vector<PacketRule> rules;
  for (const PacketEndpoint& endpoint : pair.endpoints) {
    if (cut.exactly) SQUALL_TRY(check_exact(pair, endpoint, cut.direction));
    if (cut.refuse) {
      if (!is_local(endpoint)) {
        return base::Error{.code = base::ErrorCode::kUnsupported,
                           .message = fmt::format("{} is not on this host: new connections to it "
                                                  "cannot be refused here",
                                                  endpoint.text()),
                           .hint = "run the experiment there"};
      }
      add_rules(pair, endpoint, PacketRule::Protocol::kTcp,
                {.direction = Direction::kRequests, .refuse = true}, rules);
      continue;
    }
    for (const auto protocol : {PacketRule::Protocol::kTcp, PacketRule::Protocol::kUdp})
      add_rules(pair, endpoint, protocol, cut, rules);
  }
  return rules;
}

model::FaultBinding pair_binding(const BindRequest& request, const PacketPair& pair,
                                 Direction direction, const std::vector<PacketRule>& rules) {
  model::FaultBinding binding = new_binding(request, kOwnerTable, LifetimeClass::kKernelHeld);
  for (const PacketEndpoint& endpoint : pair.endpoints) {
    binding.targets.push_back({.service = pair.to.service,
                               .member = {},
                               .process = {},
                               .description = fmt::format("{} to {} at {}", pair.from.name,
                                                          pair.to.name, endpoint.text())});
  }
  Json details = table_details(describe_packets(pair.from.name, pair.to.name, direction), rules,
                               pair.endpoints);
  details["told_apart"] = pair.telling.text;
  if (const auto marking = marking_of(pair)) details["marked"] = to_json(*marking);
  binding.details = model::Parameters{details};
  return binding;
}

}  // namespace squall::inject
