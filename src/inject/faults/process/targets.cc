#include "inject/faults/process/targets.h"

#include <fmt/format.h>
#include <linux/capability.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>

#include "base/files.h"
#include "base/random.h"
#include "base/text.h"
#include "inject/fault.h"
#include "inject/json_fields.h"
#include "inject/process_table.h"
#include "inject/programs.h"
#include "inject/service_json.h"

namespace squall::inject {

namespace {

using base::Json;

std::string list_members(const std::vector<host::Member>& members) {
  std::vector<std::string> parts;
  for (const host::Member& member : members) parts.push_back(describe_member(member));
  return base::enumerate(parts);
}

base::Status check_number(const model::Service& service, const std::vector<host::Member>& found) {
  if (found.empty()) {
    return base::Error{
        .code = base::ErrorCode::kNotFound,
        .message = fmt::format("service {} matches no process", service.name),
        .hint = "is it running? `squall doctor` shows what its selector in squall.yaml finds"};
  }
  const std::size_t named = service.members.size();
  const std::size_t stated = static_cast<std::size_t>(std::max(0, service.expected_members));
  const std::size_t expected = std::max({std::size_t{1}, stated, named});
  if (found.size() <= expected) return {};
  return base::Error{
      .code = base::ErrorCode::kConflict,
      .message = fmt::format("service {} matches {} processes, and the map says {}: {}",
                             service.name, found.size(), expected, list_members(found)),
      .hint = fmt::format("narrow its selector, or say `members: {}` if they all belong to it",
                          found.size())};
}

base::Result<std::vector<host::Member>> pick(const BindRequest& request,
                                             const model::Service& service,
                                             const std::vector<host::Member>& all) {
  const model::Parameters& parameters = request.fault.parameters;
  const auto wanted = parameters.optional_text("member");
  if (wanted && !wanted->empty()) {
    std::string name = *wanted;
    for (const model::MemberSelector& member : service.members) {
      if (member.role == *wanted) name = member.name;
    }
    for (const host::Member& member : all) {
      if (member.name == name || member.name == *wanted) return std::vector<host::Member>{member};
    }
    return base::Error{.code = base::ErrorCode::kNotFound,
                       .message = fmt::format("member {} of service {} is not running; there is {}",
                                              *wanted, service.name, list_members(all))};
  }
  const auto count = static_cast<std::size_t>(parameters.integer("count"));
  if (count > all.size()) {
    return base::Error{
        .code = base::ErrorCode::kNotFound,
        .message = fmt::format("the fault wants {} members of service {}; there is {}", count,
                               service.name, list_members(all)),
        .hint = "lower `count`, or start the missing ones"};
  }
  return choose(all, count, parameters.boolean("random"), seed_of(request));
}

base::Status check_permitted(const std::vector<host::Member>& chosen) {
  for (const host::Member& member : chosen) {
    SQUALL_TRY(check_not_ourselves(member.process.identity.pid));
    // Others than root have the warden inject, which asks the host's policy when it is time.
    if (::geteuid() != 0 || has_capability(CAP_KILL)) continue;
    if (member.process.user == ::geteuid()) continue;
    return base::Error{
        .code = base::ErrorCode::kPermission,
        .message = fmt::format("{} belongs to user {}; to signal it CAP_KILL is needed",
                               describe_member(member), member.process.user),
        .hint =
            "run as root with CAP_KILL: sudo squall run ..., and in a container --cap-add KILL"};
  }
  return {};
}

}  // namespace

std::vector<std::size_t> choose_indices(std::size_t members, std::size_t count, bool random,
                                        std::uint64_t seed) {
  std::vector<std::size_t> order(members);
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  count = std::min(count, order.size());
  if (random) {
    base::Random generator{seed};
    for (std::size_t i = 0; i < count; ++i)  // the first steps of a Fisher-Yates shuffle
      std::swap(order[i], order[i + generator.below(order.size() - i)]);
  }
  order.resize(count);
  std::sort(order.begin(), order.end());
  return order;
}

std::vector<host::Member> choose(const std::vector<host::Member>& members, std::size_t count,
                                 bool random, std::uint64_t seed) {
  std::vector<host::Member> chosen;
  for (const std::size_t i : choose_indices(members.size(), count, random, seed))
    chosen.push_back(members[i]);
  return chosen;
}

base::Result<ChosenMembers> choose_members(const BindRequest& request) {
  ChosenMembers members;
  const std::string name = request.fault.parameters.text("service");
  members.service = request.map.service(name);
  if (members.service == nullptr) {
    return base::Error{.code = base::ErrorCode::kNotFound,
                       .message = fmt::format("the system map has no service {}", name)};
  }
  SQUALL_ASSIGN(members.all, host::find_members(request.host, *members.service));
  SQUALL_TRY(check_number(*members.service, members.all));
  SQUALL_ASSIGN(members.chosen, pick(request, *members.service, members.all));
  SQUALL_TRY(check_permitted(members.chosen));
  if (request.planned.processes_max > 0 &&
      members.chosen.size() > static_cast<std::size_t>(request.planned.processes_max)) {
    return base::Error{
        .code = base::ErrorCode::kBlocked,
        .message = fmt::format("{} processes would be hit; the plan allows {}",
                               members.chosen.size(), request.planned.processes_max)};
  }
  return members;
}

std::string describe_member(const host::Member& member) {
  // The kernel cuts the command name at 15 bytes; the executable's name says it whole.
  const std::string& executable = member.process.executable;
  const std::string name =
      executable.empty() ? member.process.name : executable.substr(executable.rfind('/') + 1);
  return fmt::format("{} ({} pid {})", member.name, name, member.process.identity.pid);
}

model::FaultBinding process_binding(const BindRequest& request, const ChosenMembers& members,
                                    std::string mechanism, model::LifetimeClass lifetime,
                                    const Json& extra) {
  model::FaultBinding binding = new_binding(request, std::move(mechanism), lifetime);
  for (const host::Member& member : members.chosen) {
    binding.targets.push_back({.service = member.service,
                               .member = member.name,
                               .process = member.process.identity,
                               .description = describe_member(member)});
  }
  Json before = Json::array();
  for (const host::Member& member : members.all) {
    before.push_back(to_json(Target{.member = member.name,
                                    .identity = member.process.identity,
                                    .description = describe_member(member)}));
  }
  Json details = {{"service", to_json(*members.service)},
                  {"directory", request.map.directory},
                  {"members_before", before}};
  details.update(extra);
  binding.details = model::Parameters{details};
  return binding;
}

int planned_count(const model::Parameters& parameters) {
  const auto member = parameters.optional_text("member");
  return member && !member->empty() ? 1 : static_cast<int>(parameters.integer("count"));
}

void describe_members(const model::Parameters& parameters, model::PlannedFault& planned) {
  planned.target = describe_selection(parameters);
  planned.services = {parameters.text("service")};
  planned.processes_max = planned_count(parameters);
}

std::string describe_selection(const model::Parameters& parameters) {
  const std::string service = parameters.text("service");
  const auto member = parameters.optional_text("member");
  if (member && !member->empty()) return fmt::format("member {} of service {}", *member, service);
  const int count = planned_count(parameters);
  const std::string many = count == 1 ? "one member" : fmt::format("{} members", count);
  return fmt::format("{} of service {}, {}", many, service,
                     parameters.boolean("random") ? "chosen by seed" : "the oldest");
}

Json to_json(const Target& target) {
  Json json = to_json(target.identity);
  json["member"] = target.member;
  json["description"] = target.description;
  return json;
}

Target target_from_json(const Json& json) {
  return {.member = text_field(json, "member"),
          .identity = identity_of(json),
          .description = text_field(json, "description")};
}

std::vector<Target> targets_of(const model::FaultBinding& binding) {
  std::vector<Target> targets;
  for (const model::BoundTarget& target : binding.targets) {
    targets.push_back(
        {.member = target.member, .identity = target.process, .description = target.description});
  }
  return targets;
}

base::Result<Reach> reach_processes(const model::FaultBinding& binding) {
  Reach reach;
  for (const model::BoundTarget& target : binding.targets)
    reach.processes.push_back(target.process);
  const bool all = std::all_of(reach.processes.begin(), reach.processes.end(),
                               [](const base::ProcessIdentity& each) { return each.pid > 0; });
  if (!all || reach.processes.empty()) {
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = "the binding names no processes"};
  }
  reach.starts = text_field(binding.details.json(), "restore") == "start";
  return reach;
}

base::Result<std::vector<base::PidFd>> open_targets(const std::vector<Target>& targets) {
  std::vector<base::PidFd> opened;
  for (const Target& target : targets) {
    auto process = base::PidFd::open(target.identity);
    if (process.ok() && !process->ended()) {
      opened.push_back(std::move(*process));
      continue;
    }
    if (!process.ok() && process.error().code != base::ErrorCode::kNotFound)
      return std::move(process).error();
    return base::Error{.code = base::ErrorCode::kNotFound,
                       .message = fmt::format("{} ended between bind and arm", target.description),
                       .hint = "find out why it ends by itself, then run again"};
  }
  return opened;
}

base::Result<Signalled> note_and_signal(FaultContext& context, const std::vector<Target>& targets,
                                        int signal) {
  Signalled result;
  Json list = Json::array();
  for (const Target& target : targets) {
    SQUALL_TRY(check_not_ourselves(target.identity.pid));
    auto process = base::PidFd::open(target.identity);
    if (!process.ok() && process.error().code != base::ErrorCode::kNotFound)
      return std::move(process).error();
    if (!process.ok() || process->ended()) continue;
    auto permitted = context.check_process(target.identity);
    if (!permitted.ok() && permitted.error().code == base::ErrorCode::kNotFound) continue;
    SQUALL_TRY(std::move(permitted));
    list.push_back(to_json(target));
    result.targets.push_back(target);
    result.processes.push_back(std::move(*process));
  }
  if (result.targets.empty()) return result;
  SQUALL_TRY(context.note({{"killing", list}}));
  for (std::size_t i = 0; i < result.processes.size(); ++i) {
    auto sent = result.processes[i].signal(signal);
    if (sent.ok() || sent.error().code == base::ErrorCode::kNotFound) continue;
    base::Error error = std::move(sent).error();
    if (error.code == base::ErrorCode::kPermission)
      error.hint = "CAP_KILL is needed: run as root with it";
    return error;
  }
  return result;
}

base::Result<std::vector<Target>> running_members(const host::Host& host,
                                                  const model::Service& service) {
  SQUALL_ASSIGN(const auto members, host::find_members(host, service));
  std::vector<Target> targets;
  for (const host::Member& member : members) {
    if (member.process.state == 'Z' || member.process.state == 'X') continue;
    targets.push_back({.member = member.name,
                       .identity = member.process.identity,
                       .description = describe_member(member)});
  }
  return targets;
}

base::Status check_startable(const ChosenMembers& members) {
  if (!members.service->start.empty()) return {};
  const auto& named = members.service->members;
  for (const host::Member& member : members.chosen) {
    const bool own = std::any_of(named.begin(), named.end(), [&](const model::MemberSelector& m) {
      return m.name == member.name && !m.start.empty();
    });
    if (own) continue;
    return base::Error{
        .code = base::ErrorCode::kUnsupported,
        .message =
            fmt::format("`restore: start` needs to know how {} is started", members.service->name),
        .hint =
            "give the service a `start:` in the map, or say `restore: await` (a supervisor "
            "restarts it) or `restore: none`"};
  }
  return {};
}

std::string describe_targets(const std::vector<Target>& targets) {
  std::vector<std::string> parts;
  for (const Target& target : targets) parts.push_back(target.description);
  return base::enumerate(parts);
}

int signal_number(const std::string& name) {
  for (int number = 1; number < SIGRTMIN; ++number) {
    const char* abbreviation = ::sigabbrev_np(number);
    if (abbreviation != nullptr && name == fmt::format("SIG{}", abbreviation)) return number;
  }
  return 0;
}

bool has_capability(int number) {
  const auto status = base::read_pseudo_file("/proc/self/status");
  if (!status.ok()) return false;
  const std::size_t at = status->find("CapEff:");
  if (at == std::string::npos) return false;
  const std::uint64_t set = std::strtoull(status->c_str() + at + 7, nullptr, 16);
  return (set >> number & 1) != 0;
}

namespace {

model::FaultBinding scratch_binding(const model::FaultBinding& binding,
                                    const base::ProcessIdentity& scratch) {
  model::FaultBinding copy = binding;
  copy.targets = {{.service = {},
                   .member = "scratch",
                   .process = scratch,
                   .description = fmt::format("scratch process {}", scratch.pid)}};
  Json details = binding.details.json();
  details["restore"] = "none";
  copy.details = model::Parameters{details};
  return copy;
}

base::Result<std::pair<std::uint64_t, base::ProcessIdentity>> start_scratch(Programs& programs) {
  const std::uint64_t id = programs.start({.purpose = ProgramRequest::Purpose::kScratch,
                                           .argv = {},
                                           .directory = {},
                                           .limit = {},
                                           .account = {}});
  const base::Instant deadline = base::BootClock::now() + std::chrono::seconds(2);
  while (base::BootClock::now() < deadline) {
    const ProgramOutcome outcome = programs.outcome(id);
    if (outcome.error) return *outcome.error;
    if (outcome.started) return std::pair{id, *outcome.started};
    pollfd request{.fd = programs.fd(), .events = POLLIN, .revents = 0};
    ::poll(&request, 1, 100);
  }
  return base::Error{.code = base::ErrorCode::kTimeout,
                     .message = "the scratch process for the rehearsal did not start"};
}

}  // namespace

base::Result<std::string> rehearse_on_scratch(
    const model::FaultBinding& binding, FaultContext& context,
    const std::function<base::Result<std::string>(const model::FaultBinding& scratch)>& rehearsal) {
  SQUALL_ASSIGN(const auto scratch, start_scratch(context.programs()));
  auto result = rehearsal(scratch_binding(binding, scratch.second));
  context.programs().end(scratch.first);
  return result;
}

}  // namespace squall::inject
