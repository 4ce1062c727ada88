// Which packets netem delays, on which interfaces, and how that is rehearsed.

#include <fmt/format.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <set>

#include "inject/faults/network/netem_fault.h"
#include "inject/faults/network/pair.h"
#include "inject/json_fields.h"
#include "inject/network_namespace.h"
#include "inject/scratch_network.h"

namespace squall::inject {

namespace {

using base::Duration;
using base::Json;
using Way = Telling::Way;

constexpr Duration kRehearsedDelay = std::chrono::milliseconds(20);
constexpr std::uint32_t kOnce = 0;
constexpr std::uint32_t kTwice = 1;
constexpr const char* kLoopback = "lo";

// netem acts where packets leave. Through the loopback interface both directions leave here; to
// other hosts only one does, which stands for both.
class NetemPlan {
 public:
  NetemPlan(const PacketPair& pair, Direction direction) : pair_(pair), direction_(direction) {}

  base::Status add(const PacketEndpoint& endpoint, const TrafficControl& control) {
    const Way way = pair_.telling.way;
    if (way != Way::kAlone && way != Way::kUser && way != Way::kGroup)
      return impossible(fmt::format("{} can be told apart only where packets arrive ({})",
                                    pair_.from.name, pair_.telling.text));
    if (!is_local(endpoint)) return add_far(endpoint, control);
    interfaces_.insert(kLoopback);
    PacketRule request = requests_to(endpoint);
    request.loopback = true;
    if (way == Way::kAlone) {
      PacketRule reply = replies_of(endpoint);
      reply.loopback = true;
      if (direction_ != Direction::kReplies) push(request, kOnce);
      if (direction_ != Direction::kRequests) push(reply, kOnce);
    } else {
      if (direction_ == Direction::kReplies) return impossible(replies_are_alike());
      push(request, direction_ == Direction::kBoth ? kTwice : kOnce);
    }
    if (!pair_.from.external || is_loopback(endpoint)) return {};
    return add_outside(endpoint);
  }

  const std::vector<PacketRule>& rules() const { return rules_; }
  const std::set<std::string>& interfaces() const { return interfaces_; }

 private:
  static base::Error impossible(std::string why) {
    return {.code = base::ErrorCode::kUnsupported,
            .message = "netem cannot delay this: " + std::move(why),
            .hint = "leave `mechanism` out"};
  }
  std::string replies_are_alike() const {
    return fmt::format("what {} sends to {} leaves like what it sends to others", pair_.to.name,
                       pair_.from.name);
  }

  // Callers on other hosts: only what they are answered leaves here.
  base::Status add_outside(const PacketEndpoint& endpoint) {
    if (direction_ == Direction::kRequests)
      return impossible("what callers on other hosts send arrives here, and does not leave");
    if (pair_.telling.way != Way::kAlone) return impossible(replies_are_alike());
    PacketRule reply = replies_of(endpoint);
    reply.off_host = true;
    push(reply, direction_ == Direction::kBoth ? kTwice : kOnce);
    return add_interfaces_with(endpoint);
  }

  base::Status add_far(const PacketEndpoint& endpoint, const TrafficControl& control) {
    if (direction_ == Direction::kReplies)
      return impossible(
          fmt::format("what {} sends arrives here, and does not leave", endpoint.text()));
    PacketRule request = requests_to(endpoint);
    request.off_host = true;
    push(request, direction_ == Direction::kBoth ? kTwice : kOnce);
    SQUALL_ASSIGN(const int index, control.interface_towards(endpoint.address));
    std::array<char, IF_NAMESIZE> name{};
    if (::if_indextoname(static_cast<unsigned>(index), name.data()) == nullptr)
      return base::system_error("look at an interface", errno);
    interfaces_.insert(name.data());
    return {};
  }

  base::Status add_interfaces_with(const PacketEndpoint& endpoint) {
    ifaddrs* list = nullptr;
    if (::getifaddrs(&list) != 0) return base::system_error("list the addresses", errno);
    for (const ifaddrs* item = list; item != nullptr; item = item->ifa_next) {
      if (item->ifa_addr == nullptr || (item->ifa_flags & IFF_UP) == 0 ||
          (item->ifa_flags & IFF_LOOPBACK) != 0)
        continue;
      if (endpoint.address.empty() || carries(*item->ifa_addr, endpoint))
        interfaces_.insert(item->ifa_name);
    }
    ::freeifaddrs(list);
    return {};
  }

  static bool carries(const sockaddr& address, const PacketEndpoint& endpoint) {
    const void* bytes = nullptr;
    std::size_t size = 0;
    if (address.sa_family == AF_INET) {
      bytes = &reinterpret_cast<const sockaddr_in&>(address).sin_addr;
      size = 4;
    } else if (address.sa_family == AF_INET6) {
      bytes = &reinterpret_cast<const sockaddr_in6&>(address).sin6_addr;
      size = 16;
    }
    return bytes != nullptr && endpoint.address.size() == size &&
           std::memcmp(bytes, endpoint.address.data(), size) == 0;
  }

  PacketRule requests_to(const PacketEndpoint& endpoint) const {
    PacketRule rule{.chain = PacketRule::Chain::kOutgoing,
                    .action = PacketRule::Action::kPriority,
                    .source = {},
                    .destination = endpoint,
                    .user = {},
                    .group = {}};
    if (pair_.telling.way == Way::kUser) rule.user = pair_.telling.user;
    if (pair_.telling.way == Way::kGroup) rule.group = pair_.telling.group;
    return rule;
  }
  static PacketRule replies_of(const PacketEndpoint& endpoint) {
    return {.chain = PacketRule::Chain::kOutgoing,
            .action = PacketRule::Action::kPriority,
            .source = endpoint,
            .destination = {},
            .user = {},
            .group = {}};
  }

  void push(PacketRule rule, std::uint32_t band) {
    rule.priority = band;
    for (const auto protocol : {PacketRule::Protocol::kTcp, PacketRule::Protocol::kUdp}) {
      rule.protocol = protocol;
      rules_.push_back(rule);
    }
  }

  const PacketPair& pair_;
  Direction direction_;
  std::vector<PacketRule> rules_;
  std::set<std::string> interfaces_;
};

base::Status check_default_queues(const TrafficControl& control,
                                  const std::set<std::string>& interfaces) {
  for (const std::string& name : interfaces) {
    SQUALL_ASSIGN(const auto foreign,
                  control.foreign_root(static_cast<int>(::if_nametoindex(name.c_str()))));
    if (!foreign) continue;
    return base::Error{
        .code = base::ErrorCode::kConflict,
        .message = fmt::format("interface {} has queues of its own ({}), which are not ours to "
                               "replace",
                               name, foreign->kind),
        .hint = "leave `mechanism` out: the packet scheduler needs no queue of an interface"};
  }
  return {};
}

struct NetemDetails {
  std::string what;
  std::vector<PacketRule> rules;
  std::vector<std::string> interfaces;
  NetemDelay delay;
};

base::Result<NetemDetails> read_details(const model::FaultBinding& binding) {
  const Json& json = binding.details.json();
  NetemDetails details{.what = text_field(json, "what"),
                       .rules = {},
                       .interfaces = texts_field(json, "interfaces"),
                       .delay = {.delay = Duration{integer_field(json, "delay_ns")},
                                 .jitter = Duration{integer_field(json, "jitter_ns")}}};
  bool good = details.delay.delay > Duration::zero() && details.delay.jitter >= Duration::zero() &&
              !details.interfaces.empty();
  for (const Json& item : field(json, "rules")) {
    SQUALL_ASSIGN(PacketRule rule, rule_from_json(item));
    good = good && rule.action == PacketRule::Action::kPriority && rule.priority <= kTwice;
    details.rules.push_back(std::move(rule));
  }
  if (!good || details.rules.empty()) {
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = "the binding holds no delay by netem"};
  }
  return details;
}

}  // namespace

base::Result<model::FaultBinding> bind_netem(const BindRequest& request, const NetemDelay& delay) {
  const model::Parameters& parameters = request.fault.parameters;
  if (InNamespace::entered()) {
    return base::Error{
        .code = base::ErrorCode::kUnsupported,
        .message = "netem stands at this host's interfaces only",
        .hint = "leave `mechanism` out: packet queues work in a container's network"};
  }
  SQUALL_TRY(check_netem());
  SQUALL_ASSIGN(const PacketPair pair, find_pair(request));
  SQUALL_ASSIGN(const TrafficControl control, TrafficControl::open());
  NetemPlan plan{pair, direction_of(parameters)};
  model::FaultBinding binding = new_binding(request, kNetem, model::LifetimeClass::kJournaled);
  Json resources = Json::array();
  std::vector<std::string> places;
  for (const PacketEndpoint& endpoint : pair.endpoints) {
    SQUALL_TRY(plan.add(endpoint, control));
    binding.targets.push_back({.service = pair.to.service,
                               .member = {},
                               .process = {},
                               .description = fmt::format("{} to {} at {}", pair.from.name,
                                                          pair.to.name, endpoint.text())});
    resources.push_back("network/" + endpoint.text());
    places.push_back(endpoint.text());
  }
  SQUALL_TRY(check_default_queues(control, plan.interfaces()));
  for (const std::string& name : plan.interfaces()) resources.push_back("queues/" + name);
  Json rules = Json::array();
  for (const PacketRule& rule : plan.rules()) rules.push_back(to_json(rule));
  binding.details = model::Parameters{
      Json{{"what", fmt::format("packets between {} and {}", pair.from.name, pair.to.name)},
           {"rules", rules},
           {"interfaces", plan.interfaces()},
           {"delay_ns", delay.delay.count()},
           {"jitter_ns", delay.jitter.count()},
           {"endpoints", places},
           {"told_apart", pair.telling.text},
           {"resources", resources}}};
  return binding;
}

base::Result<std::unique_ptr<Fault>> create_netem(const model::FaultBinding& binding,
                                                  FaultContext& context) {
  SQUALL_ASSIGN(NetemDetails details, read_details(binding));
  return std::unique_ptr<Fault>{std::make_unique<NetemFault>(details.what, std::move(details.rules),
                                                             std::move(details.interfaces),
                                                             details.delay, context)};
}

base::Result<std::string> rehearse_netem(const model::FaultBinding& binding,
                                         FaultContext& context) {
  SQUALL_ASSIGN(const NetemDetails details, read_details(binding));
  SQUALL_ASSIGN(const ScratchNetwork network, ScratchNetwork::create());
  SQUALL_ASSIGN(ScratchTalk talk, ScratchTalk::create());
  PacketRule rule{.chain = PacketRule::Chain::kOutgoing,
                  .action = PacketRule::Action::kPriority,
                  .protocol = PacketRule::Protocol::kUdp,
                  .source = {},
                  .destination = {},
                  .user = {},
                  .group = {}};
  SQUALL_ASSIGN(rule.destination, PacketEndpoint::parse("127.0.0.1", talk.port()));
  NetemFault fault{"packets to a scratch port",
                   {rule},
                   {kLoopback},
                   {.delay = std::min(details.delay.delay, kRehearsedDelay),
                    .jitter = std::min(details.delay.jitter, kRehearsedDelay)},
                   context};
  return rehearse_life(fault, "delayed packets of a network namespace of our own",
                       ScratchTalk::speak, &talk);
}

base::Status check_netem() {
  SQUALL_ASSIGN(const ScratchNetwork network, ScratchNetwork::create());
  SQUALL_ASSIGN(TrafficControl control, TrafficControl::open());
  constexpr std::uint16_t kTree = 1;
  return control.add_tree(static_cast<int>(::if_nametoindex(kLoopback)), kTree,
                          {{.delay = kRehearsedDelay, .limit = 1000}});
}

}  // namespace squall::inject
