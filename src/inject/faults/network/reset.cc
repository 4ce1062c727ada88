// network.reset: the live TCP connections between two services are ended with a reset. Nothing
// brings a connection back; whoever wants one opens a new one, which `new` allows or refuses.

#include <arpa/inet.h>
#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>

#include "base/fd.h"
#include "base/text.h"
#include "base/units.h"
#include "inject/fault.h"
#include "inject/faults/network/connections.h"
#include "inject/faults/network/pair.h"
#include "inject/faults/network/table_fault.h"
#include "inject/json_fields.h"
#include "inject/network_namespace.h"

namespace squall::inject {

namespace {

using base::Json;
using model::LifetimeClass;
using model::ParameterDescriptor;
using model::ValueType;

constexpr std::string_view kMechanism = "sock_diag destroy";
constexpr std::array<std::string_view, 1> kMechanisms{kMechanism};
constexpr std::array<std::string_view, 1> kCapabilities{"CAP_NET_ADMIN"};
constexpr std::array<std::string_view, 2> kNewChoices{"allow", "refuse"};
constexpr std::array<ParameterDescriptor, 4> kParameters{{
    from_parameter(/*required=*/true),
    to_parameter(/*required=*/true),
    kPortParameter,
    {.name = "new",
     .type = ValueType::kChoice,
     .default_text = "allow",
     .summary = "What becomes of new connections while the fault lasts: `allow` lets them live, "
                "`refuse` answers them with a reset, too (an nftables table, kernel-held).",
     .choices = kNewChoices},
}};

constexpr model::FaultKindDescriptor kDescriptor{
    .name = "network.reset",
    .summary = "Resets the live TCP connections between two services.",
    .effect =
        "Each established connection breaks once: the caller's next read fails with ECONNRESET, "
        "the callee's with ECONNABORTED; where the callee is on another host, the other way "
        "round. What was under way is lost. Only connections that the processes of `from` and "
        "their children opened are hit, also where others share user and address.",
    .revert =
        "Nothing brings a connection back: callers must open new ones. The table of `new: refuse` "
        "is deleted, and the kernel does the same when the holder dies.",
    .proof =
        "Effect: the kernel's socket table shows the very sockets (by cookie) no longer "
        "established. Revert: the table, if any, is gone.",
    .weakest = LifetimeClass::kOneWay,
    .mechanisms = kMechanisms,
    .capabilities = kCapabilities,
    .parameters = kParameters,
    .can_be_effective = true,
    .example =
        "- network.reset: { from: api, to: db }\n"
        "  name: broken-connections\n"
        "  at: 5s\n"
        "  for: 10s\n",
};

// While no connection was there to reset.
constexpr base::Duration kLook = std::chrono::milliseconds(100);

class ResetFault final : public Fault {
 public:
  ResetFault(std::string what, ConnectionScope scope, std::vector<PacketRule> refusing,
             Marking marked, FaultContext& context, std::optional<NetworkNamespace> place = {})
      : what_(std::move(what)),
        scope_(std::move(scope)),
        context_(context),
        place_(std::move(place)) {
    if (!refusing.empty())
      table_.emplace("new connections " + what_, std::move(refusing), std::move(marked), context,
                     place_);
  }

  Step arm() override {
    Step refusing = Step::done("new ones are let through");
    // First, or what is reset would be open again before the table is there.
    if (table_) refusing = table_->arm();
    if (refusing.state != Step::State::kDone) return refusing;
    auto reset = reset_live();
    if (!reset.ok()) return Step::failed(std::move(reset).error());
    std::string text = hit_.empty() ? fmt::format(
                                          "no connection {} is open now; the next is "
                                          "reset",
                                          what_)
                                    : told();
    return Step::done(text + "; " + refusing.text, proof());
  }

  Step effective() override {
    if (hit_.empty()) {
      auto reset = reset_live();
      if (!reset.ok()) return Step::failed(std::move(reset).error());
    }
    if (hit_.empty() && table_) {
      Step refused = table_->effective();
      if (refused.state != Step::State::kWaiting) return refused;
    }
    if (hit_.empty()) return Step::wait(kLook);
    auto live = still_live();
    if (!live.ok()) return Step::failed(std::move(live).error());
    if (*live == 0) {
      return Step::done(fmt::format("{}, and none is established any more", told()), proof());
    }
    return Step::failed(base::Error{
        .code = base::ErrorCode::kUnsupported,
        .message = fmt::format("{} of {} connections are established in spite of the reset", *live,
                               hit_.size())});
  }

  Step revert() override {
    if (!table_) return Step::done(nothing_back());
    Step step = table_->revert();
    if (step.state == Step::State::kDone) step.text += "; " + nothing_back();
    return step;
  }

  Step verify() override { return table_ ? table_->verify() : Step::done(nothing_back()); }

  void recall(const Json& found) override {
    if (table_) table_->recall(found);
    for (const std::string& text : texts_field(found, "resetting")) told_.push_back(text);
  }

 private:
  base::Result<std::optional<InNamespace>> enter() const {
    if (!place_) return std::optional<InNamespace>{};
    SQUALL_ASSIGN(InNamespace inside, InNamespace::enter(*place_));
    return std::optional<InNamespace>{std::move(inside)};
  }

  base::Status reset_live() {
    SQUALL_ASSIGN(const auto inside, enter());
    SQUALL_ASSIGN(const auto sockets, find_connections(context_.host(), scope_));
    if (sockets.empty()) return {};
    std::vector<std::string> texts;
    for (const host::Socket& socket : sockets) texts.push_back(describe_connection(socket));
    SQUALL_TRY(context_.note({{"resetting", texts}}));
    for (std::size_t i = 0; i < sockets.size(); ++i) {
      auto destroyed = destroy_connection(sockets[i]);
      // Closed by its owners since we looked: not our doing.
      if (!destroyed.ok() && destroyed.error().code == base::ErrorCode::kNotFound) continue;
      SQUALL_TRY(std::move(destroyed));
      hit_.push_back(sockets[i].cookie);
      told_.push_back(texts[i]);
    }
    return {};
  }

  base::Result<std::size_t> still_live() {
    const auto inside = enter();
    // Its connections went with it.
    if (!inside.ok() && inside.error().code == base::ErrorCode::kNotFound) return std::size_t{0};
    if (!inside.ok()) return inside.error();
    SQUALL_ASSIGN(const auto sockets, context_.host().sockets(host::Host::Owners::kSkip));
    return static_cast<std::size_t>(
        std::count_if(sockets.begin(), sockets.end(), [&](const host::Socket& socket) {
          return socket.state == host::SocketState::kEstablished &&
                 std::find(hit_.begin(), hit_.end(), socket.cookie) != hit_.end();
        }));
  }

  std::string told() const {
    return fmt::format("reset {} connections {}: {}", told_.size(), what_, shown());
  }
  std::string shown() const {
    constexpr std::size_t kMost = 5;
    std::vector<std::string> first(
        told_.begin(), told_.begin() + static_cast<std::ptrdiff_t>(std::min(kMost, told_.size())));
    if (told_.size() > kMost) first.push_back(fmt::format("{} more", told_.size() - kMost));
    return base::enumerate(first);
  }
  std::string nothing_back() const {
    return told_.empty() ? "no connection was reset"
                         : fmt::format(
                               "nothing brings back the {} connections that were reset; "
                               "their callers open new ones",
                               told_.size());
  }
  std::string proof() const { return Json{{"connections", hit_.size()}, {"reset", told_}}.dump(); }

  std::string what_;
  ConnectionScope scope_;
  FaultContext& context_;
  std::optional<NetworkNamespace> place_;
  std::optional<TableFault> table_;
  std::vector<std::uint64_t> hit_;  // cookies
  std::vector<std::string> told_;
};

std::string between(const std::string& from, const std::string& to) {
  return fmt::format("from {} to {}", from, to);
}

void describe_reset(const model::SystemMap& map, const model::FaultSpecification& fault,
                    model::PlannedFault& planned) {
  describe_pair(map, fault, planned);
  const model::Parameters& parameters = fault.parameters;
  const std::string pair = between(parameters.text("from"), parameters.text("to"));
  planned.target = "the live connections " + pair;
  planned.changes = {
      {.change = fmt::format("the kernel ends each live TCP connection {} with a reset", pair),
       .revert = "nothing brings a connection back: callers must open new ones",
       .lifetime = LifetimeClass::kOneWay}};
  if (parameters.text("new") == "refuse") {
    planned.changes.push_back(
        {.change = fmt::format("an nftables table answers new connections {} with a reset", pair),
         .revert = "the table is deleted; the kernel deletes it when its owner dies",
         .lifetime = LifetimeClass::kKernelHeld});
  }
}

base::Result<model::FaultBinding> bind_reset(const BindRequest& request) {
  const model::Parameters& parameters = request.fault.parameters;
  const bool refuses = parameters.text("new") == "refuse";
  SQUALL_ASSIGN(PacketPair pair, find_pair_ends(request));
  std::vector<PacketRule> rules;
  // Live connections are told apart by the processes that opened them; packets of new ones, and
  // callers from outside, only by what tells packets apart.
  if (refuses || pair.from.external) {
    SQUALL_ASSIGN(pair.telling, tell_apart(request, pair.from, pair.to, pair.endpoints));
  } else {
    pair.telling.text = "by the processes that opened them";
  }
  if (refuses) {
    SQUALL_ASSIGN(rules, drop_rules(pair, {.direction = Direction::kRequests, .refuse = true}));
  }
  ConnectionScope scope{.endpoints = pair.endpoints, .callers = {}};
  for (const host::Process& process : pair.from.processes)
    scope.callers.push_back(process.identity);
  SQUALL_ASSIGN(const auto live, find_connections(request.host, scope));
  model::FaultBinding binding = pair_binding(request, pair, Direction::kBoth, rules);
  binding.mechanism = kMechanism;
  binding.lifetime = LifetimeClass::kOneWay;
  binding.targets.clear();
  for (const PacketEndpoint& endpoint : pair.endpoints) {
    const auto here = std::count_if(live.begin(), live.end(), [&](const host::Socket& socket) {
      return lies_at(socket.local, {endpoint}) || lies_at(socket.remote, {endpoint});
    });
    binding.targets.push_back(
        {.service = pair.to.service,
         .member = {},
         .process = {},
         .description = fmt::format("{} live connections {} at {}", here,
                                    between(pair.from.name, pair.to.name), endpoint.text())});
  }
  Json details = binding.details.json();
  details["what"] = between(pair.from.name, pair.to.name);
  details["at"] = Json::array();
  for (const PacketEndpoint& endpoint : pair.endpoints) details["at"].push_back(to_json(endpoint));
  details["callers"] = Json::array();
  for (const base::ProcessIdentity& caller : scope.callers)
    details["callers"].push_back(to_json(caller));
  // Without processes of its own an external service means every caller; nobody else does.
  details["everybody"] = pair.from.external;
  binding.details = model::Parameters{details};
  return binding;
}

base::Result<std::unique_ptr<Fault>> create_reset(const model::FaultBinding& binding,
                                                  FaultContext& context) {
  const Json& details = binding.details.json();
  ConnectionScope scope;
  for (const Json& item : field(details, "at")) {
    if (const auto endpoint = endpoint_from_json(item); endpoint && endpoint->port != 0)
      scope.endpoints.push_back(*endpoint);
  }
  for (const Json& item : field(details, "callers")) scope.callers.push_back(identity_of(item));
  if (scope.endpoints.empty() || scope.callers.empty() != boolean_field(details, "everybody")) {
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = "the binding does not say whose connections to reset"};
  }
  std::vector<PacketRule> rules;
  for (const Json& item : field(details, "rules")) {
    SQUALL_ASSIGN(PacketRule rule, rule_from_json(item));
    rules.push_back(std::move(rule));
  }
  SQUALL_ASSIGN(auto marked, marking_from_json(field(details, "marked")));
  return std::unique_ptr<Fault>{std::make_unique<ResetFault>(
      text_field(details, "what"), std::move(scope), std::move(rules), std::move(marked), context,
      namespace_from_json(field(details, "network_namespace")))};
}

base::Result<Reach> reach_reset(const model::FaultBinding& binding) {
  SQUALL_ASSIGN(Reach reach, reach_rules(binding));
  for (const Json& item : field(binding.details.json(), "at")) {
    if (const auto endpoint = endpoint_from_json(item)) reach.ports.push_back(endpoint->port);
  }
  return reach;
}

// Both ends of a loopback connection of our own.
struct ScratchConnection {
  base::UniqueFd listener;
  base::UniqueFd caller;
  base::UniqueFd called;
  PacketEndpoint endpoint;

  static base::Result<ScratchConnection> open() {
    ScratchConnection made;
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    auto* name = reinterpret_cast<sockaddr*>(&address);
    socklen_t size = sizeof address;
    made.listener.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    made.caller.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!made.listener || !made.caller || ::bind(made.listener.get(), name, size) != 0 ||
        ::listen(made.listener.get(), 1) != 0 ||
        ::getsockname(made.listener.get(), name, &size) != 0)
      return base::system_error("listen on a scratch port", errno);
    // On the loopback interface the handshake is over when this returns.
    if (::connect(made.caller.get(), name, size) != 0 && errno != EINPROGRESS)
      return base::system_error("connect to a scratch port", errno);
    made.called.reset(::accept4(made.listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!made.called) return base::system_error("accept a scratch connection", errno);
    made.endpoint = {.address = {127, 0, 0, 1}, .port = ntohs(address.sin_port)};
    return made;
  }
};

base::Result<std::string> rehearse_reset(const model::FaultBinding& binding,
                                         FaultContext& context) {
  SQUALL_ASSIGN(const ScratchConnection scratch, ScratchConnection::open());
  ResetFault fault{
      "to a scratch port", {.endpoints = {scratch.endpoint}, .callers = {}}, {}, {}, context};
  SQUALL_ASSIGN(std::string text,
                rehearse_life(fault, "reset a scratch connection of the loopback interface"));
  if (!field(binding.details.json(), "rules").empty()) {
    SQUALL_ASSIGN(const std::string refused, rehearse_table_fault(binding, context));
    text += "; " + refused;
  }
  return text;
}

}  // namespace

extern const FaultKind kNetworkReset;
const FaultKind kNetworkReset{.descriptor = &kDescriptor,
                              .describe = describe_reset,
                              .bind = bind_reset,
                              .create = create_reset,
                              .rehearse = rehearse_reset,
                              .reach = reach_reset};

}  // namespace squall::inject
