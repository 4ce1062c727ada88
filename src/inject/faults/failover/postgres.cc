// postgres.failover: takes the primary of a PostgreSQL service away, or hands its role to a standby
// as `pg_ctl promote` does. Roles are read from each member's own control file, through its
// process, so no password is needed and a member that hangs still shows what it is.

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "base/text.h"
#include "inject/faults/failover/failover.h"
#include "inject/freezer.h"
#include "inject/json_fields.h"
#include "inject/service_json.h"

namespace squall::inject {

namespace {

using base::Json;
using model::LifetimeClass;
using model::ParameterDescriptor;
using model::ValueType;

constexpr std::array<std::string_view, 3> kMechanisms{"pidfd signal", "cgroup v2 freezer",
                                                      "SIGSTOP"};
constexpr std::array<std::string_view, 2> kCapabilities{"CAP_KILL", "CAP_SYS_PTRACE"};
constexpr std::array<std::string_view, 3> kActions{"kill", "pause", "promote"};
constexpr std::array<ParameterDescriptor, 5> kParameters{{
    service_parameter("The PostgreSQL service; the map names its members."),
    {.name = "action",
     .type = ValueType::kChoice,
     .default_text = "kill",
     .summary = "`kill` (SIGKILL) and `pause` take the primary away and leave it to whoever "
                "manages failover to find another; `promote` shuts it down fast (SIGINT) and "
                "promotes the standby.",
     .choices = kActions},
    {.name = "heir",
     .type = ValueType::kMember,
     .summary = "The standby that `promote` promotes; without it, the only one."},
    {.name = "restore",
     .type = ValueType::kChoice,
     .summary = "Who brings the old primary back: `start` runs the map's start command (default "
                "of `kill`), `await` waits for its supervisor, `none` leaves it down (default of "
                "`promote`, after which it must be rebuilt before it may run again).",
     .choices = kFailoverRestoreChoices},
    kFailoverLimitParameter,
}};

constexpr model::FaultKindDescriptor kDescriptor{
    .name = "postgres.failover",
    .summary = "Takes the primary of a PostgreSQL service away, or promotes a standby.",
    .effect =
        "Writes fail until there is a new primary; commits that were not passed on are lost, and "
        "clients must find the new one.",
    .revert =
        "The role is not given back. `restore` says who brings the old primary back; a paused one "
        "runs on. At the end exactly one member must be primary: two are reported loudly.",
    .proof =
        "Effect: the kernel reports the end or stop of the very process that was bound; for "
        "`promote`, the standby's control file says that it is in production. The new primary is "
        "named when it appears. Revert: the control files of all members that run.",
    .weakest = LifetimeClass::kOneWay,
    .mechanisms = kMechanisms,
    .capabilities = kCapabilities,
    .parameters = kParameters,
    .can_be_effective = true,
    .example =
        "- postgres.failover: { service: db, action: promote }\n"
        "  name: switchover\n"
        "  at: 5s\n"
        "  for: 20s\n",
};

// DBState of PostgreSQL's control file, which has had this place since version 8.
constexpr std::size_t kStateOffset = 16;
constexpr std::uint32_t kInArchiveRecovery = 5;
constexpr std::uint32_t kInProduction = 6;

std::string data_folder(pid_t pid) {
  return fmt::format("/proc/{}/cwd", pid);
}

base::Result<std::uint32_t> control_state(pid_t pid) {
  const std::string path = data_folder(pid) + "/global/pg_control";
  const base::UniqueFd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (!file) return base::system_error("open " + path, errno);
  std::array<char, kStateOffset + 4> head{};
  if (::pread(file.get(), head.data(), head.size(), 0) != static_cast<ssize_t>(head.size()))
    return base::Error{.code = base::ErrorCode::kCorrupt, .message = path + " is too short"};
  std::uint32_t state = 0;
  std::memcpy(&state, head.data() + kStateOffset, sizeof state);
  return state;
}

bool stands_still(const host::Process& process) {
  if (process.state == 'T' || process.state == 't') return true;
  const auto freezer = freezer_of(process.identity.pid);
  if (!freezer.ok()) return false;
  const auto state = read_freezer(*freezer);
  return state.ok() && state->frozen;
}

MemberRole role_of(const host::Member& member) {
  MemberRole role{.member = member.name, .role = Role::kDown, .text = {}};
  if (member.process.state == 'Z') {
    role.text = "its process has ended";
    return role;
  }
  role.role = Role::kUnknown;
  if (stands_still(member.process)) {
    role.text = "its process stands still";
    return role;
  }
  const auto state = control_state(member.process.identity.pid);
  if (!state.ok())
    role.text = state.error().message;
  else if (*state == kInProduction)
    role.role = Role::kPrimary;
  else if (*state == kInArchiveRecovery)
    role.role = Role::kReplica;
  else
    role.text = fmt::format("it starts, stops or recovers: state {}", *state);
  return role;
}

class PostgresRoles final : public Roles {
 public:
  PostgresRoles(model::Service service, const host::Host& host)
      : service_(std::move(service)), host_(host) {}

  Found look() override {
    const auto members = host::find_members(host_, service_);
    if (!members.ok()) return base::Result<std::vector<MemberRole>>{members.error()};
    std::vector<MemberRole> roles;
    for (const model::MemberSelector& selector : service_.members) {
      MemberRole role{.member = selector.name, .role = Role::kDown, .text = {}};
      for (const host::Member& member : *members) {
        if (member.name == selector.name) role = role_of(member);
      }
      roles.push_back(std::move(role));
    }
    return base::Result<std::vector<MemberRole>>{std::move(roles)};
  }
  Step waiting() const override { return Step::wait(std::chrono::milliseconds(100)); }

 private:
  model::Service service_;
  const host::Host& host_;
};

// What pg_ctl and pg_promote() do: a file `promote` in the data folder, and SIGUSR1.
class Promotion final : public Handover {
 public:
  explicit Promotion(Target heir) : heir_(std::move(heir)) {}

  Step begin(FaultContext& context) override {
    auto process = base::PidFd::open(heir_.identity);
    if (!process.ok()) {
      return Step::failed(base::Error{
          .code = base::ErrorCode::kNotFound,
          .message = fmt::format("the standby {} ended before it was promoted", heir_.description),
          .hint = "the old primary is down: start one of them by hand"});
    }
    if (auto noted = context.note({{"promoting", heir_.member}}); !noted.ok())
      return Step::failed(noted.error());
    noted_ = true;
    if (auto made = make_file(); !made.ok()) return Step::failed(std::move(made).error());
    if (auto sent = process->signal(SIGUSR1); !sent.ok())
      return Step::failed(std::move(sent).error());
    return Step::done("asked " + heir_.description + " to promote itself");
  }

  void recall(const Json& found) override { noted_ = noted_ || found.contains("promoting"); }

  // A request that the standby has not taken up yet must not wait for its next signal.
  base::Status withdraw() override {
    const auto now = base::identify_process(heir_.identity.pid);
    if (!noted_ || !now.ok() || *now != heir_.identity) return {};
    SQUALL_ASSIGN(const base::UniqueFd folder, open_folder());
    if (::unlinkat(folder.get(), "promote", 0) == 0 || errno == ENOENT) return {};
    return base::system_error("remove the file `promote` of " + heir_.description, errno);
  }

 private:
  // Of the server's own user, as PostgreSQL wants it. Any process can have any folder as its own;
  // there a file of root's making would be more than the process itself could make.
  base::Result<base::UniqueFd> open_folder() const {
    const std::string path = data_folder(heir_.identity.pid);
    base::UniqueFd folder{::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    struct stat info {};
    struct stat process {};
    if (!folder || ::fstat(folder.get(), &info) != 0 ||
        ::stat(fmt::format("/proc/{}", heir_.identity.pid).c_str(), &process) != 0)
      return base::system_error("find the data folder of " + heir_.description, errno);
    if (info.st_uid == process.st_uid) return folder;
    return base::Error{
        .code = base::ErrorCode::kPermission,
        .message = fmt::format("the folder in which {} runs belongs to user {}, the server to user "
                               "{}: that is no data folder of its own",
                               heir_.description, info.st_uid, process.st_uid),
        .hint = "aim at a PostgreSQL server"};
  }

  base::Status make_file() const {
    SQUALL_ASSIGN(const base::UniqueFd folder, open_folder());
    struct stat info {};
    if (::fstat(folder.get(), &info) != 0)
      return base::system_error("look at the data folder of " + heir_.description, errno);
    const base::UniqueFd made{::openat(folder.get(), "promote",
                                       O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600)};
    if (!made) return base::system_error("create `promote` for " + heir_.description, errno);
    if (::fchown(made.get(), info.st_uid, info.st_gid) != 0)
      return base::system_error("give `promote` to " + heir_.description, errno);
    return {};
  }

  Target heir_;
  bool noted_ = false;
};

base::Result<Target> find_heir(const BindRequest& request, const model::Service& service,
                               const std::vector<MemberRole>& roles) {
  std::vector<std::string> replicas;
  for (const MemberRole& role : roles) {
    if (role.role == Role::kReplica) replicas.push_back(role.member);
  }
  std::string wanted = request.fault.parameters.optional_text("heir").value_or("");
  for (const model::MemberSelector& member : service.members) {
    if (!wanted.empty() && member.role == wanted) wanted = member.name;
  }
  if (wanted.empty() && replicas.size() == 1) wanted = replicas.front();
  if (std::find(replicas.begin(), replicas.end(), wanted) == replicas.end()) {
    return base::Error{
        .code = wanted.empty() ? base::ErrorCode::kUsage : base::ErrorCode::kConflict,
        .message = wanted.empty()
                       ? fmt::format("{} has {} standbys: {}", service.name, replicas.size(),
                                     base::enumerate(replicas))
                       : fmt::format("{} is no standby: {}", wanted, describe_roles(roles)),
        .hint = "say which one is to be promoted: `heir: MEMBER`"};
  }
  SQUALL_ASSIGN(const auto members, host::find_members(request.host, service));
  for (const host::Member& member : members) {
    if (member.name != wanted) continue;
    return Target{.member = member.name,
                  .identity = member.process.identity,
                  .description = describe_member(member)};
  }
  return base::Error{.code = base::ErrorCode::kNotFound,
                     .message = fmt::format("{} has just ended", wanted)};
}

std::string restore_of(const model::Parameters& parameters) {
  const bool promote = parameters.text("action") == "promote";
  return parameters.optional_text("restore").value_or(promote ? "none" : "start");
}

base::Result<model::FaultBinding> bind_postgres(const BindRequest& request) {
  const model::Parameters& parameters = request.fault.parameters;
  const std::string name = parameters.text("service");
  const std::string action = parameters.text("action");
  const std::string restore = restore_of(parameters);
  const model::Service* service = request.map.service(name);
  if (service == nullptr || service->members.size() < 2) {
    return base::Error{
        .code = base::ErrorCode::kUnsupported,
        .message = fmt::format("the map does not name the members of {}", name),
        .hint = "name them: `members: { a: { listens: ADDRESS:PORT }, b: { ... } }`"};
  }
  if (action == "promote" && restore == "start") {
    return base::Error{
        .code = base::ErrorCode::kUnsupported,
        .message = "started as it is after the promotion, the old primary would be a second one",
        .hint =
            "say `restore: none` and rebuild it (pg_rewind), or `restore: await` where a "
            "supervisor does that"};
  }
  PostgresRoles roles{*service, request.host};
  SQUALL_ASSIGN(const auto now, look_now(roles));
  SQUALL_ASSIGN(const std::string primary, only_primary(name, now));
  Json more = {{"primary", primary},
               {"action", action},
               {"failover_limit_ns", parameters.duration("limit").count()}};
  if (action == "promote") {
    SQUALL_ASSIGN(const Target heir, find_heir(request, *service, now));
    more["heir"] = to_json(heir);
  }
  const Json with = action == "pause" ? Json::object()
                                      : Json{{"signal", action == "promote" ? "SIGINT" : "SIGKILL"},
                                             {"restore", restore},
                                             {"limit", parameters.duration("limit").count()}};
  SQUALL_ASSIGN(
      model::FaultBinding binding,
      bind_outage(request, action == "pause" ? "process.pause" : "process.kill", primary, with));
  Json details = binding.details.json();
  details.update(more);
  binding.details = model::Parameters{std::move(details)};
  return binding;
}

base::Result<std::unique_ptr<Fault>> create_postgres(const model::FaultBinding& binding,
                                                     FaultContext& context) {
  const Json& details = binding.details.json();
  FailoverPlan plan = failover_plan_of(binding);
  SQUALL_ASSIGN(model::Service service, service_from_json(field(details, "service")));
  SQUALL_ASSIGN(auto outage, create_outage(binding, context));
  if (plan.primary.empty() || plan.limit <= base::Duration::zero() || !outage)
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = "the binding names no primary"};
  std::unique_ptr<Handover> handover;
  if (details.contains("heir"))
    handover = std::make_unique<Promotion>(target_from_json(field(details, "heir")));
  return make_failover(std::move(plan), std::move(outage), std::move(handover),
                       std::make_unique<PostgresRoles>(std::move(service), context.host()),
                       context);
}

base::Result<Reach> reach_postgres(const model::FaultBinding& binding) {
  const Json& details = binding.details.json();
  SQUALL_ASSIGN(Reach reach, reach_outage(binding));
  if (details.contains("heir"))
    reach.processes.push_back(target_from_json(field(details, "heir")).identity);
  return reach;
}

void describe_postgres(const model::SystemMap&, const model::FaultSpecification& fault,
                       model::PlannedFault& planned) {
  const model::Parameters& parameters = fault.parameters;
  const std::string service = parameters.text("service");
  const std::string action = parameters.text("action");
  planned.target = fmt::format("the primary of {}, whichever member it is", service);
  planned.services = {service};
  planned.processes_max = 1;
  std::string change = fmt::format("the primary of {} is sent SIGKILL", service);
  std::string revert =
      fmt::format("`restore: {}`; the role is not given back", restore_of(parameters));
  if (action == "pause") {
    change = fmt::format("the primary of {} stands still", service);
    revert = "it runs on; whoever was made primary meanwhile stays so";
  } else if (action == "promote") {
    change =
        fmt::format("the primary of {} is shut down (SIGINT) and a standby is promoted", service);
  }
  planned.changes = {{.change = change, .revert = revert, .lifetime = LifetimeClass::kOneWay}};
}

}  // namespace

extern const FaultKind kPostgresFailover;
const FaultKind kPostgresFailover{.descriptor = &kDescriptor,
                                  .describe = describe_postgres,
                                  .bind = bind_postgres,
                                  .create = create_postgres,
                                  .rehearse = rehearse_outage,
                                  .reach = reach_postgres,
                                  .restores = kRestoresService};

}  // namespace squall::inject
