// redis.failover: takes the primary of a Redis service away, or has Sentinel move its role. Which
// member it is, is asked of the servers themselves (ROLE), never taken from the map's names.

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <map>

#include "base/files.h"
#include "base/text.h"
#include "inject/faults/failover/failover.h"
#include "inject/faults/failover/redis_exchange.h"
#include "inject/json_fields.h"

namespace squall::inject {

namespace {

using base::Json;
using model::LifetimeClass;
using model::ParameterDescriptor;
using model::ValueType;

constexpr std::string_view kSentinel = "Sentinel";
constexpr std::array<std::string_view, 4> kMechanisms{kSentinel, "pidfd signal",
                                                      "cgroup v2 freezer", "SIGSTOP"};
constexpr std::array<std::string_view, 1> kCapabilities{"CAP_KILL"};
constexpr std::array<std::string_view, 3> kActions{"kill", "pause", "sentinel-failover"};
constexpr std::array<ParameterDescriptor, 8> kParameters{{
    service_parameter("The Redis service; the map names its members, each with `listens`."),
    {.name = "action",
     .type = ValueType::kChoice,
     .default_text = "kill",
     .summary = "`kill` (SIGKILL) and `pause` take the primary away and leave it to Sentinel to "
                "find another; `sentinel-failover` asks Sentinel to move the role at once.",
     .choices = kActions},
    {.name = "sentinel",
     .type = ValueType::kService,
     .summary = "The service of the Sentinel to ask; required for `sentinel-failover`."},
    {.name = "master",
     .type = ValueType::kText,
     .minimum = 1,
     .maximum = 200,
     .summary = "Sentinel's name for the primary; without it, the one at the primary's address."},
    {.name = "user", .type = ValueType::kText, .summary = "User name, where there is one."},
    {.name = "password_file",
     .type = ValueType::kPath,
     .summary = "A file that holds the password of servers and Sentinel and nothing else."},
    {.name = "restore",
     .type = ValueType::kChoice,
     .default_text = "start",
     .summary = "Who brings a killed primary back: `start` runs the map's start command, `await` "
                "waits for its supervisor, `none` leaves it down.",
     .choices = kFailoverRestoreChoices},
    kFailoverLimitParameter,
}};

constexpr model::FaultKindDescriptor kDescriptor{
    .name = "redis.failover",
    .summary = "Takes the primary of a Redis service away, or has Sentinel move its role.",
    .effect =
        "Writes fail until there is a new primary; then clients must find it, and what the old "
        "one had not passed on is lost.",
    .revert =
        "The role is not given back. `restore` says who brings a killed primary back; a paused "
        "one runs on. At the end exactly one member must be primary.",
    .proof =
        "Effect: the kernel reports the end or stop of the very process that was bound, or, for "
        "`sentinel-failover`, another member says that it is the primary. The new primary is "
        "named when it appears. Revert: the roles that all members report.",
    .weakest = LifetimeClass::kOneWay,
    .mechanisms = kMechanisms,
    .capabilities = kCapabilities,
    .parameters = kParameters,
    .can_be_effective = true,
    .example =
        "- redis.failover: { service: queue, action: kill, password_file: queue.password }\n"
        "  name: failover\n"
        "  at: 5s\n"
        "  for: 20s\n",
};

constexpr base::Duration kAskLimit = std::chrono::seconds(1);

struct Server {
  std::string member;
  RedisExchange::Server server;
};

class RedisRoles final : public Roles {
 public:
  explicit RedisRoles(std::vector<Server> servers) : servers_(std::move(servers)) {}

  Found look() override {
    if (asks_.empty()) {
      for (const Server& each : servers_)
        asks_.push_back({RedisExchange{each.server, {"ROLE"}, kAskLimit}, {}});
    }
    bool all = true;
    for (Ask& ask : asks_) {
      if (!ask.outcome) ask.outcome = ask.exchange.advance();
      all = all && ask.outcome.has_value();
    }
    if (!all) return std::nullopt;
    std::vector<MemberRole> roles;
    std::optional<base::Error> refusal;
    for (std::size_t i = 0; i < asks_.size(); ++i) {
      const RedisExchange::Outcome& outcome = *asks_[i].outcome;
      if (!outcome.ok() && outcome.error().code == base::ErrorCode::kPermission)
        refusal = outcome.error();
      roles.push_back(role_of(servers_[i].member, outcome));
    }
    asks_.clear();
    if (refusal) return base::Result<std::vector<MemberRole>>{*std::move(refusal)};
    return base::Result<std::vector<MemberRole>>{std::move(roles)};
  }

  void forget() override { asks_.clear(); }

  Step waiting() const override {
    std::vector<int> descriptors;
    base::Duration again = kAskLimit;
    for (const Ask& ask : asks_) {
      if (ask.outcome) continue;
      descriptors.push_back(ask.exchange.fd());
      again = std::min(again, ask.exchange.again());
    }
    return Step::wait_for(std::move(descriptors), again);
  }

 private:
  struct Ask {
    RedisExchange exchange;
    std::optional<RedisExchange::Outcome> outcome;
  };

  static MemberRole role_of(const std::string& member, const RedisExchange::Outcome& outcome) {
    MemberRole role{.member = member, .role = Role::kDown, .text = {}};
    if (!outcome.ok()) {
      // A server that is silent, or that is busy loading, runs all the same.
      const base::ErrorCode code = outcome.error().code;
      if (code == base::ErrorCode::kTimeout || code == base::ErrorCode::kConflict)
        role.role = Role::kUnknown;
      role.text = outcome.error().message;
      return role;
    }
    const std::string word = outcome->items.empty() ? std::string{} : outcome->items.front().text;
    if (word == "master")
      role.role = Role::kPrimary;
    else if (word == "slave")
      role.role = Role::kReplica;
    else {
      role.role = Role::kUnknown;
      role.text = "it answers ROLE with something else";
    }
    return role;
  }

  std::vector<Server> servers_;
  std::vector<Ask> asks_;
};

// SENTINEL FAILOVER: the Sentinel promotes a replica without asking the others.
class SentinelHandover final : public Handover {
 public:
  SentinelHandover(RedisExchange::Server sentinel, std::string master)
      : sentinel_(std::move(sentinel)), master_(std::move(master)) {}

  Step begin(FaultContext& context) override {
    if (!exchange_) {
      if (auto noted = context.note({{"failing_over", master_}}); !noted.ok())
        return Step::failed(noted.error());
      exchange_.emplace(sentinel_, std::vector<std::string>{"SENTINEL", "FAILOVER", master_},
                        kAskLimit);
    }
    auto outcome = exchange_->advance();
    if (!outcome) return Step::wait_for({exchange_->fd()}, exchange_->again());
    exchange_.reset();
    if (!outcome->ok()) {
      base::Error error = std::move(*outcome).error();
      if (error.hint.empty()) error.hint = "look at Sentinel's log";
      return Step::failed(std::move(error));
    }
    return Step::done(fmt::format("Sentinel accepted the failover of {}", master_));
  }
  void recall(const Json&) override {}
  base::Status withdraw() override { return {}; }

 private:
  RedisExchange::Server sentinel_;
  std::string master_;
  std::optional<RedisExchange> exchange_;
};

base::Result<std::string> read_password(const std::string& path) {
  if (path.empty()) return std::string{};
  SQUALL_ASSIGN(const std::string text, base::read_file(path, 4096));
  return std::string(base::trim(text));
}

Json place_of(const std::string& member, const model::ListenAddress& listens) {
  const bool any = listens.address == "0.0.0.0" || listens.address == "::";
  return {{"member", member},
          {"address", any ? std::string("127.0.0.1") : listens.address},
          {"port", listens.port}};
}

base::Result<std::vector<Server>> servers_of(const Json& details) {
  SQUALL_ASSIGN(const std::string password, read_password(text_field(details, "password_file")));
  std::vector<Server> servers;
  for (const Json& item : field(details, "servers")) {
    servers.push_back({.member = text_field(item, "member"),
                       .server = {.address = text_field(item, "address"),
                                  .port = static_cast<std::uint16_t>(unsigned_field(item, "port")),
                                  .user = text_field(details, "user"),
                                  .password = password}});
  }
  if (servers.empty())
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = "the binding names no Redis server"};
  return servers;
}

base::Result<Json> server_details(const BindRequest& request) {
  const model::Parameters& parameters = request.fault.parameters;
  const std::string name = parameters.text("service");
  const model::Service* service = request.map.service(name);
  if (service == nullptr)
    return base::Error{.code = base::ErrorCode::kNotFound,
                       .message = fmt::format("the system map has no service {}", name)};
  Json servers = Json::array();
  for (const model::MemberSelector& member : service->members) {
    if (member.listens && member.listens->port != 0)
      servers.push_back(place_of(member.name, *member.listens));
  }
  if (servers.size() < 2) {
    return base::Error{
        .code = base::ErrorCode::kUnsupported,
        .message = fmt::format("the map does not say where the members of {} listen", name),
        .hint = "name them: `members: { a: { listens: ADDRESS:PORT }, b: { ... } }`"};
  }
  return Json{{"servers", servers},
              {"user", parameters.optional_text("user").value_or("")},
              {"password_file", parameters.optional_text("password_file").value_or("")},
              {"action", parameters.text("action")},
              {"failover_limit_ns", parameters.duration("limit").count()}};
}

// Sentinel's name for the primary at this place.
base::Result<std::string> master_at(const RedisExchange::Server& sentinel, const Json& place) {
  RedisExchange exchange{sentinel, {"SENTINEL", "MASTERS"}, kAskLimit};
  std::optional<RedisExchange::Outcome> outcome;
  while (!(outcome = exchange.advance())) ::usleep(1000);
  if (!outcome->ok()) return std::move(*outcome).error();
  std::vector<std::string> names;
  for (const RedisReply& item : (*outcome)->items) {
    std::map<std::string, std::string> fields;
    for (std::size_t i = 0; i + 1 < item.items.size(); i += 2)
      fields[item.items[i].text] = item.items[i + 1].text;
    if (fields["port"] == fmt::format("{}", unsigned_field(place, "port")) &&
        fields["ip"] == text_field(place, "address"))
      return fields["name"];
    names.push_back(base::printable(fields["name"]));
  }
  return base::Error{
      .code = base::ErrorCode::kNotFound,
      .message = fmt::format("Sentinel knows no primary at {}:{}; it knows {}",
                             text_field(place, "address"), unsigned_field(place, "port"),
                             names.empty() ? std::string("none") : base::enumerate(names)),
      .hint = "name it: `master: NAME`"};
}

base::Result<model::FaultBinding> bind_sentinel(const BindRequest& request,
                                                const std::string& primary, Json details) {
  const model::Parameters& parameters = request.fault.parameters;
  const std::string name = parameters.optional_text("sentinel").value_or("");
  const model::Service* sentinel = request.map.service(name);
  if (sentinel == nullptr || !sentinel->listens || sentinel->listens->port == 0) {
    return base::Error{.code = base::ErrorCode::kUsage,
                       .message = "`action: sentinel-failover` needs a Sentinel",
                       .hint = "name its service, which says where it listens: `sentinel: NAME`"};
  }
  details["sentinel"] = place_of(name, *sentinel->listens);
  SQUALL_ASSIGN(const auto servers, servers_of(details));
  RedisExchange::Server asked = servers.front().server;
  asked.address = text_field(details["sentinel"], "address");
  asked.port = sentinel->listens->port;
  std::string master = parameters.optional_text("master").value_or("");
  if (master.empty()) {
    for (const Json& place : details["servers"]) {
      if (text_field(place, "member") != primary) continue;
      SQUALL_ASSIGN(master, master_at(asked, place));
    }
  }
  details["master"] = master;
  const std::string service = parameters.text("service");
  details["service"] = {{"name", service}};
  details["resources"] =
      Json::array({fmt::format("service/{}/{}", request.map.directory, service)});
  model::FaultBinding binding = new_binding(request, kSentinel, LifetimeClass::kOneWay);
  binding.targets = {{.service = service,
                      .member = primary,
                      .process = {},
                      .description = fmt::format("the role of {}, primary of {} ({} in Sentinel)",
                                                 primary, service, master)}};
  binding.details = model::Parameters{std::move(details)};
  return binding;
}

base::Result<model::FaultBinding> bind_redis(const BindRequest& request) {
  const model::Parameters& parameters = request.fault.parameters;
  SQUALL_ASSIGN(Json details, server_details(request));
  SQUALL_ASSIGN(auto servers, servers_of(details));
  RedisRoles roles{std::move(servers)};
  SQUALL_ASSIGN(const auto now, look_now(roles));
  SQUALL_ASSIGN(const std::string primary, only_primary(parameters.text("service"), now));
  details["primary"] = primary;
  const std::string action = parameters.text("action");
  if (action == "sentinel-failover") return bind_sentinel(request, primary, std::move(details));
  const Json with = action == "pause" ? Json::object()
                                      : Json{{"signal", "SIGKILL"},
                                             {"restore", parameters.text("restore")},
                                             {"limit", parameters.duration("limit").count()}};
  SQUALL_ASSIGN(
      model::FaultBinding binding,
      bind_outage(request, action == "pause" ? "process.pause" : "process.kill", primary, with));
  Json all = binding.details.json();
  all.update(details);
  binding.details = model::Parameters{std::move(all)};
  return binding;
}

base::Result<std::unique_ptr<Fault>> create_redis(const model::FaultBinding& binding,
                                                  FaultContext& context) {
  const Json& details = binding.details.json();
  FailoverPlan plan = failover_plan_of(binding);
  if (plan.primary.empty() || plan.limit <= base::Duration::zero())
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = "the binding names no primary"};
  SQUALL_ASSIGN(auto servers, servers_of(details));
  SQUALL_ASSIGN(auto outage, create_outage(binding, context));
  std::unique_ptr<Handover> handover;
  if (!outage) {
    RedisExchange::Server sentinel = servers.front().server;
    const Json& place = field(details, "sentinel");
    sentinel.address = text_field(place, "address");
    sentinel.port = static_cast<std::uint16_t>(unsigned_field(place, "port"));
    handover =
        std::make_unique<SentinelHandover>(std::move(sentinel), text_field(details, "master"));
  }
  return make_failover(std::move(plan), std::move(outage), std::move(handover),
                       std::make_unique<RedisRoles>(std::move(servers)), context);
}

base::Result<Reach> reach_redis(const model::FaultBinding& binding) {
  const Json& details = binding.details.json();
  if (!text_field(details, "password_file").empty()) {
    return base::Error{.code = base::ErrorCode::kPermission,
                       .message =
                           "`password_file` would be read with root's rights and told to a "
                           "server of the caller's choice",
                       .hint = "give the servers a user without a password for SENTINEL and ROLE"};
  }
  SQUALL_ASSIGN(Reach reach, reach_outage(binding));
  // They are asked; without an outage Sentinel is told to move the role, and that is all.
  for (const Json& item : field(details, "servers"))
    reach.ports.push_back(static_cast<std::uint16_t>(unsigned_field(item, "port")));
  const Json& sentinel = field(details, "sentinel");
  if (text_field(details, "outage").empty())
    reach.ports.push_back(static_cast<std::uint16_t>(unsigned_field(sentinel, "port")));
  return reach;
}

void describe_redis(const model::SystemMap&, const model::FaultSpecification& fault,
                    model::PlannedFault& planned) {
  const model::Parameters& parameters = fault.parameters;
  const std::string service = parameters.text("service");
  const std::string action = parameters.text("action");
  planned.target = fmt::format("the primary of {}, whichever member it is", service);
  planned.services = {service};
  planned.processes_max = 1;
  std::string change = fmt::format("the primary of {} is sent SIGKILL", service);
  std::string revert = "`restore` says who brings it back; the role is not given back";
  if (action == "pause") {
    change = fmt::format("the primary of {} stands still", service);
    revert = "it runs on; whoever was made primary meanwhile stays so";
  } else if (action == "sentinel-failover") {
    change = fmt::format("Sentinel moves the primary's role of {} to a replica", service);
    revert = "nothing: the new primary stays";
  }
  planned.changes = {{.change = change, .revert = revert, .lifetime = LifetimeClass::kOneWay}};
}

}  // namespace

extern const FaultKind kRedisFailover;
const FaultKind kRedisFailover{.descriptor = &kDescriptor,
                               .describe = describe_redis,
                               .bind = bind_redis,
                               .create = create_redis,
                               .rehearse = rehearse_outage,
                               .reach = reach_redis,
                               .restores = kRestoresService};

}  // namespace squall::inject
