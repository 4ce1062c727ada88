// network.dns: a service gets wrong, late or no answers about names. Its questions (UDP to port 53,
// told apart by its user or cgroup) go into a packet queue; a worker answers those that the pattern
// names and lets the others pass as they are.

#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <set>

#include "base/text.h"
#include "base/units.h"
#include "inject/cgroup.h"
#include "inject/fault.h"
#include "inject/faults/network/scheduled_fault.h"
#include "inject/faults/network/scope.h"
#include "inject/json_fields.h"
#include "inject/network_namespace.h"
#include "inject/workers/dns_answers/dns_message.h"

namespace squall::inject {

namespace {

using base::Json;
using model::LifetimeClass;
using model::ParameterDescriptor;
using model::ValueType;

constexpr std::uint16_t kDomain = 53;
constexpr std::string_view kMechanism = "packet queue with DNS answers";
constexpr std::array<std::string_view, 1> kMechanisms{kMechanism};
constexpr std::array<std::string_view, 2> kCapabilities{"CAP_NET_ADMIN", "CAP_NET_RAW"};
constexpr std::array<std::string_view, 5> kAnswers{"nxdomain", "servfail", "timeout", "delay",
                                                   "spoof"};
constexpr std::array<ParameterDescriptor, 5> kParameters{{
    {.name = "service",
     .type = ValueType::kService,
     .required = true,
     .summary = "The service that asks. It needs a user, a cgroup v2 or a network (a container's) "
                "of its own."},
    {.name = "name",
     .type = ValueType::kText,
     .required = true,
     .minimum = 1,
     .maximum = 253,
     .summary = "The name that is asked for; `*.internal` for all names below, `*` for all."},
    {.name = "answer",
     .type = ValueType::kChoice,
     .required = true,
     .summary = "`nxdomain`: there is no such name. `servfail`: the server failed. `timeout`: no "
                "answer. `delay`: the true answer, later. `spoof`: other addresses.",
     .choices = kAnswers},
    {.name = "delay",
     .type = ValueType::kDuration,
     .minimum = 1e6,
     .maximum = 6e10,
     .summary = "How much later; for `answer: delay`."},
    {.name = "addresses",
     .type = ValueType::kArgv,
     .minimum = 1,
     .maximum = 16,
     .summary = "The IPv4 and IPv6 addresses that are told; for `answer: spoof`. Who asks for the "
                "other kind hears that there is none."},
}};

constexpr model::FaultKindDescriptor kDescriptor{
    .name = "network.dns",
    .summary = "Gives a service wrong, late or no answers about names.",
    .effect =
        "The service's questions by UDP to port 53 of any server are answered as said, as if by "
        "that server; names that the pattern does not name pass untouched. Answers may not be kept "
        "(time to live 0). Not touched: questions by TCP, by TLS or HTTPS, names from /etc/hosts, "
        "what the service has in a cache of its own, and what another program asks for it (nscd, "
        "nss-resolve).",
    .revert =
        "The rules are taken away, questions that are still held pass, and the table is deleted. "
        "If the holder dies, the kernel deletes the table; if the worker dies, questions pass.",
    .proof =
        "Effect: the worker's count of questions that it answered, dropped or held. Revert: table "
        "and worker are gone.",
    .weakest = LifetimeClass::kKernelHeld,
    .mechanisms = kMechanisms,
    .capabilities = kCapabilities,
    .parameters = kParameters,
    .can_be_effective = true,
    .example =
        "- network.dns: { service: api, name: db.internal, answer: servfail }\n"
        "  name: no-names\n"
        "  at: 5s\n"
        "  for: 10s\n",
};

std::string answer_text(const model::Parameters& parameters) {
  const std::string answer = parameters.text("answer");
  if (answer == "nxdomain") return "told that there is no such name";
  if (answer == "servfail") return "told that the server failed";
  if (answer == "timeout") return "not answered";
  if (answer == "delay") {
    const auto delay = parameters.optional_duration("delay");
    return "answered " + (delay ? base::format_duration(*delay) : "?") + " later";
  }
  return "answered with " + (parameters.has("addresses")
                                 ? base::enumerate(parameters.texts("addresses"))
                                 : std::string("?"));
}

void describe_dns(const model::SystemMap&, const model::FaultSpecification& fault,
                  model::PlannedFault& planned) {
  const std::string service = fault.parameters.text("service");
  planned.target = fmt::format("what {} asks about {}", service, fault.parameters.text("name"));
  planned.services = {service};
  planned.processes_max = 0;
  planned.changes = {
      {.change = fmt::format("an nftables table hands the DNS questions of {} to a worker; those "
                             "about {} are {}",
                             service, fault.parameters.text("name"), answer_text(fault.parameters)),
       .revert = "the table is deleted; the kernel deletes it when its owner dies",
       .lifetime = LifetimeClass::kKernelHeld}};
}

base::Status check_parameters(const model::Parameters& parameters) {
  SQUALL_ASSIGN(const DnsPattern pattern, DnsPattern::parse(parameters.text("name")));
  const std::string answer = parameters.text("answer");
  struct Need {
    std::string_view parameter;
    std::string_view answer;
  };
  for (const Need& need : {Need{"delay", "delay"}, Need{"addresses", "spoof"}}) {
    if (parameters.has(need.parameter) == (answer == need.answer)) continue;
    return base::Error{.code = base::ErrorCode::kBadFile,
                       .message = fmt::format("`{}` belongs to `answer: {}`, and here the answer "
                                              "is {}",
                                              need.parameter, need.answer, answer),
                       .hint = answer == need.answer ? fmt::format("write `{}:`", need.parameter)
                                                     : "take it away"};
  }
  if (answer != "spoof") return {};
  for (const std::string& text : parameters.texts("addresses")) {
    const auto address = PacketEndpoint::parse(text, 0);
    if (address.ok() && !address->address.empty()) continue;
    return base::Error{.code = base::ErrorCode::kBadFile,
                       .message = fmt::format("`{}` is not an IP address that can be told", text),
                       .hint = "write `addresses: [192.0.2.1, \"2001:db8::1\"]`"};
  }
  return {};
}

// The members and what descends from them, among `all`.
std::set<pid_t> tree_of(const Party& party, const std::vector<host::Process>& all) {
  std::set<pid_t> tree;
  for (const host::Process& process : party.processes) tree.insert(process.identity.pid);
  for (std::size_t before = 0; before != tree.size();) {
    before = tree.size();
    for (const host::Process& process : all) {
      if (tree.contains(process.parent)) tree.insert(process.identity.pid);
    }
  }
  return tree;
}

// Servers of names are asked by everybody, so only what belongs to nobody else tells the sender: in
// a container's network that may be the network itself.
base::Result<Telling> tell_sender(const BindRequest& request, const Party& party) {
  SQUALL_ASSIGN(const auto all, request.host.processes());
  const std::set<pid_t> tree = tree_of(party, all);
  const host::Process& first = party.processes.front();
  std::string stranger;
  bool alone = InNamespace::entered();
  for (const host::Process& process : all) {
    const bool own = tree.contains(process.identity.pid);
    if (InNamespace::entered()) {
      const bool resident = process.network_namespace == first.network_namespace;
      if (!resident || process.identity.pid == request.host.self()) continue;  // we are on a visit
      alone = alone && own;
    }
    if (own != (process.user == first.user))
      stranger =
          own ? fmt::format("its processes have different users")
              : fmt::format("{} (pid {}) has its user, too", process.name, process.identity.pid);
  }
  Telling telling;
  if (alone) {
    telling.way = Telling::Way::kAlone;
    telling.text = "it alone is in its network";
    return telling;
  }
  if (stranger.empty()) {
    telling.way = Telling::Way::kUser;
    telling.user = first.user;
    telling.text = fmt::format("it alone runs as user {}", first.user);
    return telling;
  }
  const bool together =
      std::all_of(party.processes.begin(), party.processes.end(),
                  [&](const host::Process& process) { return process.cgroup == first.cgroup; });
  std::vector<base::ProcessIdentity> roots;
  for (const host::Process& process : party.processes) roots.push_back(process.identity);
  const auto mount = v2_mount();
  struct stat info {};
  if (together && first.cgroup.size() > 1 && mount.ok() &&
      check_folder_holds_only(*mount + first.cgroup, roots).ok() &&
      ::stat((*mount + first.cgroup).c_str(), &info) == 0) {
    telling.way = Telling::Way::kGroup;
    telling.group = {.id = info.st_ino,
                     .level = static_cast<std::uint32_t>(
                         std::count(first.cgroup.begin(), first.cgroup.end(), '/'))};
    telling.text = fmt::format("it alone is in cgroup {}", first.cgroup);
    return telling;
  }
  return base::Error{
      .code = base::ErrorCode::kUnsupported,
      .message = fmt::format("the questions of {} cannot be told apart on this host from those of "
                             "others: {}, and it has no cgroup v2 of its own",
                             party.name, stranger),
      .hint = fmt::format("run {} under a user of its own, or in a cgroup v2 of its own (a systemd "
                          "unit)",
                          party.name)};
}

base::Status check_namespace(const Party& party) {
  SQUALL_ASSIGN(const std::uint64_t here, current_network_namespace());
  for (const host::Process& process : party.processes) {
    if (process.network_namespace == here) continue;
    return base::Error{
        .code = base::ErrorCode::kUnsupported,
        .message = fmt::format("{} (pid {}) is in a network namespace of its own, where rules of "
                               "this one do not reach it",
                               process.name, process.identity.pid),
        .hint = "run Squall in that namespace: nsenter --net=/proc/PID/ns/net squall run ..."};
  }
  return {};
}

base::Result<model::FaultBinding> bind_dns(const BindRequest& request) {
  const model::Parameters& parameters = request.fault.parameters;
  SQUALL_TRY(check_parameters(parameters));
  const std::string name = parameters.text("service");
  const model::Service* service = request.map.service(name);
  if (service == nullptr)
    return base::Error{.code = base::ErrorCode::kNotFound,
                       .message = fmt::format("the system map has no service {}", name)};
  if (service->external) {
    return base::Error{.code = base::ErrorCode::kUnsupported,
                       .message = fmt::format("{} is not on this host", name),
                       .hint = "run the experiment where it asks"};
  }
  SQUALL_ASSIGN(const Party party, calling_party(request, *service));
  SQUALL_TRY(check_namespace(party));
  SQUALL_ASSIGN(const Telling telling, tell_sender(request, party));
  PacketRule rule{.source = {},
                  .destination = PacketEndpoint{.address = {}, .port = kDomain},
                  .user = {},
                  .group = {}};
  rule.chain = PacketRule::Chain::kOutgoing;
  rule.action = PacketRule::Action::kQueue;
  rule.protocol = PacketRule::Protocol::kUdp;
  if (telling.way == Telling::Way::kUser) rule.user = telling.user;
  if (telling.way == Telling::Way::kGroup) {
    rule.group = telling.group;
    // Where they all have one user: what somebody else starts in the group keeps its names.
    const std::uint32_t user = party.processes.front().user;
    if (std::all_of(party.processes.begin(), party.processes.end(),
                    [&](const host::Process& process) { return process.user == user; }))
      rule.user = user;
  }
  model::FaultBinding binding = new_binding(request, kMechanism, LifetimeClass::kKernelHeld);
  binding.targets.push_back({.service = name,
                             .member = {},
                             .process = {},
                             .description = fmt::format("DNS questions of {} about {}: {}", name,
                                                        parameters.text("name"), telling.text)});
  Json details = {{"what", fmt::format("DNS questions of {}", name)},
                  {"rules", Json::array({to_json(rule)})},
                  {"name", parameters.text("name")},
                  {"answer", parameters.text("answer")},
                  {"resources", Json::array({"dns/" + name})}};
  if (const auto delay = parameters.optional_duration("delay"))
    details["delay_ns"] = delay->count();
  if (parameters.has("addresses")) details["addresses"] = parameters.texts("addresses");
  binding.details = model::Parameters{details};
  return binding;
}

base::Result<std::unique_ptr<Fault>> create_dns(const model::FaultBinding& binding,
                                                FaultContext& context) {
  const Json& details = binding.details.json();
  std::vector<PacketRule> rules;
  for (const Json& item : field(details, "rules")) {
    SQUALL_ASSIGN(PacketRule rule, rule_from_json(item));
    rules.push_back(std::move(rule));
  }
  const std::string answer = text_field(details, "answer");
  if (rules.empty() || std::find(kAnswers.begin(), kAnswers.end(), answer) == kAnswers.end()) {
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = "the binding names no questions and no answer"};
  }
  SQUALL_ASSIGN(const DnsPattern pattern, DnsPattern::parse(text_field(details, "name")));
  const Json configuration = {{"name", text_field(details, "name")},
                              {"answer", answer},
                              {"delay_ns", integer_field(details, "delay_ns")},
                              {"addresses", texts_field(details, "addresses")}};
  return std::unique_ptr<Fault>{std::make_unique<ScheduledFault>(
      text_field(details, "what"), std::move(rules),
      ScheduledFault::QueueWorker{
          .name = "dns_answers", .what = "the worker that answers", .configuration = configuration},
      "matched", Marking{}, context, namespace_from_json(field(details, "network_namespace")))};
}

// The user of the sending socket must be told: a cgroup's questions may be anybody's.
base::Result<Reach> reach_dns(const model::FaultBinding& binding) {
  Reach reach;
  // The rules are made in the network of this process.
  if (const auto place = namespace_from_json(field(binding.details.json(), "network_namespace")))
    reach.processes.push_back(place->process);
  for (const Json& item : field(binding.details.json(), "rules")) {
    SQUALL_ASSIGN(const PacketRule rule, rule_from_json(item));
    PacketRule expected{.source = {},
                        .destination = PacketEndpoint{.address = {}, .port = kDomain},
                        .user = rule.user,
                        .group = rule.group};
    expected.chain = PacketRule::Chain::kOutgoing;
    expected.action = PacketRule::Action::kQueue;
    expected.protocol = PacketRule::Protocol::kUdp;
    expected.queue = rule.queue;
    if (rule != expected) {
      return base::Error{.code = base::ErrorCode::kCorrupt,
                         .message = "the binding's rules meet more than questions about names"};
    }
    if (!rule.user) {
      return base::Error{
          .code = base::ErrorCode::kPermission,
          .message =
              "questions that only a cgroup or a network tells apart are met for root only: a "
              "program with other rights may be started in it",
          .hint = "run the service under a user of its own"};
    }
    reach.users.push_back(*rule.user);
    reach.ports.push_back(kDomain);
  }
  return reach;
}

// Asks a port of our own, at which nobody answers, about a name.
class ScratchResolver {
 public:
  static base::Result<ScratchResolver> create() {
    ScratchResolver resolver;
    resolver.server_.reset(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    resolver.client_.reset(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof name;
    auto* address = reinterpret_cast<sockaddr*>(&name);
    if (::bind(resolver.server_.get(), address, sizeof name) != 0 ||
        ::getsockname(resolver.server_.get(), address, &size) != 0 ||
        ::connect(resolver.client_.get(), address, sizeof name) != 0)
      return base::system_error("make a scratch socket", errno);
    resolver.port_ = ntohs(name.sin_port);
    return resolver;
  }
  std::uint16_t port() const { return port_; }

  static void ask(void* self) {
    // One question about the address of `a`.
    constexpr std::array<std::uint8_t, 19> kQuestion{0, 1, 1, 0,   0, 1, 0, 0, 0, 0,
                                                     0, 0, 1, 'a', 0, 0, 1, 0, 1};
    auto& resolver = *static_cast<ScratchResolver*>(self);
    [[maybe_unused]] const ssize_t sent =
        ::send(resolver.client_.get(), kQuestion.data(), kQuestion.size(), 0);
  }

 private:
  base::UniqueFd server_;
  base::UniqueFd client_;
  std::uint16_t port_ = 0;
};

base::Result<std::string> rehearse_dns(const model::FaultBinding& binding, FaultContext& context) {
  SQUALL_ASSIGN(ScratchResolver resolver, ScratchResolver::create());
  Json details = binding.details.json();
  Json rules = Json::array();
  for (const Json& item : field(details, "rules")) {
    SQUALL_ASSIGN(PacketRule rule, rule_from_json(item));
    rule.group.reset();  // we are in none that could be named
    if (rule.user) rule.user = ::geteuid();
    SQUALL_ASSIGN(rule.destination, PacketEndpoint::parse("127.0.0.1", resolver.port()));
    rules.push_back(to_json(rule));
  }
  details["rules"] = rules;
  details.erase("network_namespace");  // ours, where the scratch port is
  details["name"] = "*";
  details["what"] = "questions to a scratch port";
  if (details.contains("delay_ns")) details["delay_ns"] = 20'000'000;
  model::FaultBinding copy = binding;
  copy.details = model::Parameters{details};
  SQUALL_ASSIGN(const auto fault, create_dns(copy, context));
  return rehearse_life(*fault, "met questions to a scratch port of the loopback interface",
                       ScratchResolver::ask, &resolver);
}

}  // namespace

extern const FaultKind kNetworkDns;
const FaultKind kNetworkDns{.descriptor = &kDescriptor,
                            .describe = describe_dns,
                            .bind = bind_dns,
                            .create = create_dns,
                            .rehearse = rehearse_dns,
                            .reach = reach_dns};

}  // namespace squall::inject
