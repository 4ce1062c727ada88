// Which packets a kind of the packet scheduler gets, and how that is rehearsed.

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/fd.h"
#include "inject/faults/network/pair.h"
#include "inject/faults/network/scheduled_fault.h"
#include "inject/json_fields.h"

namespace squall::inject {

namespace {

using base::Duration;
using base::Json;
using Action = PacketRule::Action;
using Chain = PacketRule::Chain;
using Protocol = PacketRule::Protocol;

constexpr Duration kRehearsedDelay = std::chrono::milliseconds(20);
constexpr double kRehearsedShare = 0.5;

// Packets are held where they arrive, never where they leave: a packet that waits at its sender
// counts against that socket's send buffer, and throughput falls to almost nothing (TCP small
// queues). Where only one direction arrives on this host, that one is held for both.
class RuleMaker {
 public:
  RuleMaker(PacketProfile profile, std::string_view direction, const Telling& telling)
      : profile_(profile), direction_(direction), telling_(telling) {}

  base::Status add(const PacketEndpoint& endpoint, Protocol protocol) {
    PacketRule request{.action = Action::kQueue,
                       .protocol = protocol,
                       .source = {},
                       .destination = endpoint,
                       .user = {},
                       .group = {}};
    PacketRule reply{.action = Action::kQueue,
                     .protocol = protocol,
                     .source = endpoint,
                     .destination = {},
                     .user = {},
                     .group = {}};
    if (telling_.way == Telling::Way::kGroup) reply.group = telling_.group;
    if (!is_local(endpoint)) return add_far(reply, endpoint);
    if (telling_.way == Telling::Way::kSockets) {
      request.marked = reply.marked = true;
    } else if (telling_.way != Telling::Way::kAlone) {
      PacketRule sender = request;
      sender.chain = Chain::kMark;
      sender.action = Action::kMark;
      if (telling_.way == Telling::Way::kUser) sender.user = telling_.user;
      if (telling_.way == Telling::Way::kGroup) sender.group = telling_.group;
      rules_.push_back(sender);
      request.marked = true;
    }
    // Through the loopback interface both directions arrive here. What `to` answers to one of
    // several users cannot be told from its answers to others.
    request.chain = reply.chain = Chain::kArriving;
    request.loopback = reply.loopback = true;
    if (telling_.way == Telling::Way::kUser) {
      push(request, passes_of_one());
    } else {
      if (direction_ != "replies") push(request, 1);
      if (direction_ != "requests") push(reply, 1);
    }
    if (telling_.way == Telling::Way::kAlone) {
      request.chain = Chain::kIncoming;
      request.loopback = false;
      request.off_host = true;
      push(request, passes_of_one());
    }
    return {};
  }

  Json rules() const {
    Json list = Json::array();
    for (const PacketRule& rule : rules_) list.push_back(to_json(rule));
    return list;
  }
  Json profiles() const {
    Json list = Json::array();
    for (const PacketProfile& profile : profiles_) list.push_back(to_json(profile));
    return list;
  }

 private:
  int passes_of_one() const { return direction_ == "both" ? 2 : 1; }

  base::Status add_far(PacketRule reply, const PacketEndpoint& endpoint) {
    if (telling_.way == Telling::Way::kUser) {
      return base::Error{
          .code = base::ErrorCode::kUnsupported,
          .message =
              fmt::format("what arrives from {} cannot be told apart by user", endpoint.text()),
          .hint =
              "run the caller in a cgroup v2 of its own, or run the experiment on the host of "
              "the service"};
    }
    reply.chain = Chain::kIncoming;
    reply.off_host = true;
    push(reply, passes_of_one());
    return {};
  }

  // A queue each for what arrives from either side, and for what stands for both.
  void push(PacketRule rule, int passes) {
    PacketProfile profile = profile_;
    profile.passes = passes;
    const std::pair<bool, int> use{rule.source.has_value(), passes};
    const auto known = std::find(uses_.begin(), uses_.end(), use);
    rule.queue = static_cast<std::uint16_t>(known - uses_.begin());
    if (known == uses_.end()) {
      uses_.push_back(use);
      profiles_.push_back(profile);
    }
    rules_.push_back(std::move(rule));
  }

  PacketProfile profile_;
  std::string_view direction_;
  const Telling& telling_;
  std::vector<PacketRule> rules_;
  std::vector<std::pair<bool, int>> uses_;
  std::vector<PacketProfile> profiles_;
};

struct ScheduledDetails {
  std::string what;
  std::vector<PacketRule> rules;
  std::vector<PacketProfile> profiles;
  std::uint64_t seed = 0;
  std::string effect;
  Marking marked;
  std::optional<NetworkNamespace> place;
};

base::Result<ScheduledDetails> read_details(const model::FaultBinding& binding) {
  const Json& json = binding.details.json();
  ScheduledDetails details;
  details.what = text_field(json, "what");
  details.seed = unsigned_field(json, "seed");
  details.effect = text_field(json, "effect");
  for (const Json& item : field(json, "rules")) {
    SQUALL_ASSIGN(PacketRule rule, rule_from_json(item));
    details.rules.push_back(std::move(rule));
  }
  SQUALL_ASSIGN(details.marked, marking_from_json(field(json, "marked")));
  details.place = namespace_from_json(field(json, "network_namespace"));
  for (const Json& item : field(json, "profiles")) {
    SQUALL_ASSIGN(const PacketProfile profile, profile_from_json(item));
    details.profiles.push_back(profile);
  }
  bool good = !details.rules.empty() && !details.profiles.empty();
  for (const PacketRule& rule : details.rules)
    good = good && (rule.action == Action::kMark ||
                    (rule.action == Action::kQueue && rule.queue < details.profiles.size()));
  if (!good) {
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = "the binding holds no packet rules that fit its profiles"};
  }
  return details;
}

// Two UDP sockets of the loopback interface that talk to one another.
class ScratchTalk {
 public:
  static base::Result<ScratchTalk> create(bool six) {
    ScratchTalk talk;
    for (base::UniqueFd* fd : {&talk.server_, &talk.client_}) {
      fd->reset(::socket(six ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
      if (!*fd) return base::system_error("create a scratch socket", errno);
    }
    sockaddr_storage address{};
    socklen_t size = six ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
    address.ss_family = six ? AF_INET6 : AF_INET;
    auto* four_name = reinterpret_cast<sockaddr_in*>(&address);
    auto* six_name = reinterpret_cast<sockaddr_in6*>(&address);
    if (six)
      six_name->sin6_addr = in6addr_loopback;
    else
      four_name->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    auto* name = reinterpret_cast<sockaddr*>(&address);
    if (::bind(talk.server_.get(), name, size) != 0 ||
        ::getsockname(talk.server_.get(), name, &size) != 0 ||
        ::connect(talk.client_.get(), name, size) != 0)
      return base::system_error("open a scratch port", errno);
    talk.port_ = ntohs(six ? six_name->sin6_port : four_name->sin_port);
    return talk;
  }

  std::uint16_t port() const { return port_; }

  static void speak(void* self) {
    auto& talk = *static_cast<ScratchTalk*>(self);
    constexpr int kWords = 8;
    char byte = 0;
    for (int i = 0; i < kWords; ++i) {
      sockaddr_storage peer{};
      socklen_t size = sizeof peer;
      auto* name = reinterpret_cast<sockaddr*>(&peer);
      [[maybe_unused]] const ssize_t sent = ::send(talk.client_.get(), &byte, 1, 0);
      if (::recvfrom(talk.server_.get(), &byte, 1, 0, name, &size) == 1) [[maybe_unused]]
        const ssize_t answered = ::sendto(talk.server_.get(), &byte, 1, 0, name, size);
      [[maybe_unused]] const ssize_t got = ::recv(talk.client_.get(), &byte, 1, 0);
    }
  }

 private:
  base::UniqueFd server_;
  base::UniqueFd client_;
  std::uint16_t port_ = 0;
};

void make_short(PacketProfile& profile) {
  profile.delay = std::min(profile.delay, kRehearsedDelay);
  profile.jitter = std::min(profile.jitter, kRehearsedDelay);
  for (double* share : {&profile.delayed_share, &profile.loss_good, &profile.loss_bad,
                        &profile.to_bad, &profile.duplicated_share, &profile.corrupted_share}) {
    if (*share > 0) *share = std::max(*share, kRehearsedShare);
  }
}

}  // namespace

void describe_scheduled(const model::FaultSpecification& fault, const std::string& what,
                        const model::SystemMap& map, model::PlannedFault& planned) {
  const std::string from = fault.parameters.text("from");
  const std::string to = fault.parameters.text("to");
  const std::string direction = fault.parameters.text("direction");
  std::string packets = fmt::format("packets between {} and {}", from, to);
  if (direction == "requests") packets = fmt::format("packets from {} to {}", from, to);
  if (direction == "replies") packets = fmt::format("packets from {} to {}", to, from);
  planned.target = packets;
  planned.services = {to};
  const model::Service* caller = map.service(from);
  if (caller != nullptr && !caller->external) planned.services.push_back(from);
  planned.processes_max = 0;
  planned.changes = {
      {.change = fmt::format("an nftables table hands {} to a worker of Squall's, where they {}",
                             packets, what),
       .revert = "what is held passes, and the table is deleted; the kernel deletes it when its "
                 "owner dies",
       .lifetime = model::LifetimeClass::kKernelHeld}};
}

base::Result<model::FaultBinding> bind_scheduled(const BindRequest& request,
                                                 const PacketProfile& profile,
                                                 std::string_view effect) {
  const model::Parameters& parameters = request.fault.parameters;
  const std::string from_name = parameters.text("from");
  const std::string to_name = parameters.text("to");
  const std::string direction = parameters.text("direction");
  SQUALL_ASSIGN(const PacketPair pair, find_pair(request));
  model::FaultBinding binding =
      new_binding(request, kPacketScheduling, model::LifetimeClass::kKernelHeld);
  RuleMaker maker{profile, direction, pair.telling};
  Json resources = Json::array();
  std::vector<std::string> places;
  for (const PacketEndpoint& endpoint : pair.endpoints) {
    for (const Protocol protocol : {Protocol::kTcp, Protocol::kUdp})
      SQUALL_TRY(maker.add(endpoint, protocol));
    binding.targets.push_back(
        {.service = to_name,
         .member = {},
         .process = {},
         .description = fmt::format("{} to {} at {}", from_name, to_name, endpoint.text())});
    resources.push_back("network/" + endpoint.text());
    places.push_back(endpoint.text());
  }
  Json details{{"what", fmt::format("packets between {} and {}", from_name, to_name)},
               {"rules", maker.rules()},
               {"profiles", maker.profiles()},
               {"seed", request.seed},
               {"effect", effect},
               {"direction", direction},
               {"endpoints", places},
               {"told_apart", pair.telling.text},
               {"resources", resources}};
  if (const auto marking = marking_of(pair)) details["marked"] = to_json(*marking);
  binding.details = model::Parameters{details};
  return binding;
}

base::Result<std::unique_ptr<Fault>> create_scheduled(const model::FaultBinding& binding,
                                                      FaultContext& context) {
  SQUALL_ASSIGN(ScheduledDetails details, read_details(binding));
  return std::unique_ptr<Fault>{std::make_unique<ScheduledFault>(
      details.what, std::move(details.rules), std::move(details.profiles), details.seed,
      details.effect, std::move(details.marked), context, std::move(details.place))};
}

base::Result<std::string> rehearse_scheduled(const model::FaultBinding& binding,
                                             FaultContext& context) {
  SQUALL_ASSIGN(ScheduledDetails details, read_details(binding));
  bool six = false;
  for (const PacketRule& rule : details.rules) {
    for (const auto* endpoint : {&rule.source, &rule.destination})
      six = six || (*endpoint && (*endpoint)->address.size() == 16);
  }
  SQUALL_ASSIGN(ScratchTalk talk, ScratchTalk::create(six));
  for (PacketRule& rule : details.rules) {
    if (rule.user) rule.user = ::geteuid();
    rule.group.reset();     // we are in no group that could be named
    rule.off_host = false;  // our packets go through the loopback interface
    for (auto* endpoint : {&rule.source, &rule.destination}) {
      if (!*endpoint) continue;
      SQUALL_ASSIGN(**endpoint, PacketEndpoint::parse(six ? "::1" : "127.0.0.1", talk.port()));
    }
  }
  for (PacketProfile& profile : details.profiles) make_short(profile);
  SQUALL_ASSIGN(details.marked, scratch_marking(details.marked, talk.port()));
  ScheduledFault fault{"packets to a scratch port",
                       details.rules,
                       details.profiles,
                       details.seed,
                       details.effect,
                       details.marked,
                       context};
  return rehearse_life(fault, "held packets of a scratch port of the loopback interface",
                       ScratchTalk::speak, &talk);
}

}  // namespace squall::inject
