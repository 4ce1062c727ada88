#include "inject/gate.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "base/files.h"
#include "base/text.h"
#include "base/units.h"
#include "inject/faults/network/scope.h"
#include "inject/faults/resource/shared_space.h"

namespace squall::inject {

namespace {

base::Error blocked(std::string message) {
  return base::Error{.code = base::ErrorCode::kBlocked, .message = std::move(message)};
}

bool is_below(const std::string& path, const std::string& folder) {
  if (folder == "/") return true;
  return path == folder || (path.starts_with(folder) && path[folder.size()] == '/');
}

// The files of the folder are the kernel's: nobody but root can make a folder look like this.
base::Status check_is_cgroup(const std::string& folder) {
  struct statfs info {};
  const base::UniqueFd opened{
      ::open(folder.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)};
  const bool cgroup = opened && ::fstatfs(opened.get(), &info) == 0 &&
                      (info.f_type == CGROUP_SUPER_MAGIC || info.f_type == CGROUP2_SUPER_MAGIC);
  std::error_code error;
  if (cgroup && std::filesystem::canonical(folder, error).string() == folder) return {};
  return blocked(fmt::format("{} is no cgroup", base::printable(folder)));
}

// Every process in the group and below it.
base::Status check_members(const Grant& grant, const std::string& folder, int depth = 0) {
  SQUALL_ASSIGN(const std::string text, base::read_pseudo_file(folder + "/cgroup.procs"));
  for (const std::string& line : base::split(text, '\n')) {
    const auto pid = static_cast<pid_t>(std::strtol(line.c_str(), nullptr, 10));
    if (pid <= 0) continue;
    const auto identity = base::identify_process(pid);
    if (!identity.ok()) continue;  // ended since
    auto checked = check_process(grant, *identity);
    if (!checked.ok() && checked.error().code == base::ErrorCode::kNotFound) continue;
    SQUALL_TRY(std::move(checked));
  }
  if (depth > 32) return blocked("the cgroups are nested too deeply");
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (entry.is_directory(error))
      SQUALL_TRY(check_members(grant, entry.path().string(), depth + 1));
  }
  return {};
}

// Real, and on or below a folder of the rule.
base::Status check_path(const std::string& path, const PolicyRule& rule, std::string_view what) {
  std::error_code error;
  const std::string real = std::filesystem::canonical(path, error).string();
  if (error || real != path)
    return blocked(fmt::format("{} is not the real path of a {}", base::printable(path), what));
  if (std::none_of(rule.paths.begin(), rule.paths.end(),
                   [&](const std::string& folder) { return is_below(path, folder); }))
    return blocked(fmt::format("{} lies below none of its `paths`", path));
  return {};
}

// What the end of a fault needs must not wait for a worker of that fault.
base::Status check_holds_nothing_of_ours(const std::string& path, const StateDirectory& state) {
  std::vector<std::string> ours{state.path(), state.leases(), state.durable_leases(), state.runs(),
                                std::string(kPolicyFile)};
  const auto maps = base::read_pseudo_file("/proc/self/maps");  // the program and its libraries
  if (!maps.ok()) return blocked("which files Squall itself needs cannot be read");
  for (const std::string& line : base::split(*maps, '\n')) {
    const std::size_t at = line.find('/');
    if (at != std::string::npos) ours.push_back(line.substr(at));
  }
  for (const std::string& file : ours) {
    std::error_code error;
    const std::string real = std::filesystem::weakly_canonical(file, error).string();
    if (is_below(error ? file : real, path) || is_below(path, error ? file : real))
      return blocked(fmt::format("{} and {}, which Squall itself needs, hold one another", path,
                                 base::printable(file)));
  }
  return {};
}

}  // namespace

struct Gate::Request {
  const FaultKind& kind;
  Reach reach;
  base::Duration duration;
  const StateDirectory& state;
  const host::Host& host;
};

base::Result<Gate> Gate::open(const Account& caller, const std::string& policy_file) {
  Gate gate;
  gate.caller_ = caller;
  if (caller.is_root()) return gate;
  SQUALL_ASSIGN(gate.policy_, read_policy(policy_file));
  return gate;
}

// What everybody may who is let in at all: what he could do to his own processes by himself.
PolicyRule Gate::own_rule() const {
  PolicyRule rule;
  rule.users = {caller_.user};
  rule.kinds = {"process", "clock", "syscall", "command"};
  rule.start = true;  // with his own rights
  rule.longest_fault = policy_.longest_fault;
  return rule;
}

base::Result<Grant> Gate::check(const FaultKind& kind, const model::FaultBinding& binding,
                                base::Duration duration, const StateDirectory& state,
                                const host::Host& host) const {
  if (caller_.is_root()) return Grant{.caller = caller_};
  Request request{.kind = kind, .reach = {}, .duration = duration, .state = state, .host = host};
  if (kind.reach == nullptr) {
    return base::Error{.code = base::ErrorCode::kBlocked,
                       .message = fmt::format("{} is for root only: {}", kind.descriptor->name,
                                              kind.descriptor->root_only),
                       .hint = "run it with sudo"};
  }
  SQUALL_ASSIGN(request.reach, kind.reach(binding));
  auto own = by_rule(request, own_rule());
  if (own.ok()) return own;
  std::string why = own.error().message;
  for (const PolicyRule& rule : policy_.rules) {
    if (!rule.is_for(caller_)) continue;
    auto granted = by_rule(request, rule);
    if (granted.ok()) return granted;
    // What the rules that are meant for such a fault say is the news.
    if (rule.names(kind.descriptor->name))
      why = fmt::format("{} (rule at line {} of {})", granted.error().message, rule.line,
                        policy_.file);
  }
  return refused(request, why);
}

base::Error Gate::refused(const Request& request, const std::string& why) const {
  return base::Error{
      .code = base::ErrorCode::kBlocked,
      .message = fmt::format("the policy of this host does not let {} do {}: {}",
                             user_text(caller_.user), request.kind.descriptor->name, why),
      .hint = fmt::format("ask root for a rule in {} (docs/files.md), or run it with sudo",
                          policy_.file)};
}

// May a service that belongs to `owner` be started again?
base::Status Gate::grant_start(const PolicyRule& rule, const Account& owner, Grant& grant) const {
  const bool others = owner.user != caller_.user;
  grant.start_as = others ? owner : caller_;
  if (others && !rule.start) {
    return blocked(
        fmt::format("`restore: start` would run the caller's program as {}; that "
                    "needs `start: true`, `restore: await` does not",
                    user_text(owner.user)));
  }
  // A program of the caller's choice never runs as root, whatever a rule says.
  if (grant.start_as->is_root() || (others && grant.start_as->in_group(0)))
    return blocked("`restore: start` would run the caller's program with root's rights");
  return {};
}

// One rule must cover all of it: two half permissions are not a whole one.
base::Result<Grant> Gate::by_rule(const Request& request, const PolicyRule& rule) const {
  const Reach& reach = request.reach;
  const std::string_view kind = request.kind.descriptor->name;
  if (!rule.names(kind)) return blocked(fmt::format("no rule for {}", kind));
  if (request.duration > rule.longest_fault) {
    return blocked(fmt::format("{} is longer than {}", base::format_duration(request.duration),
                               base::format_duration(rule.longest_fault)));
  }
  Grant grant{.caller = caller_, .targets = rule.targets};
  std::optional<Account> owner;
  for (const base::ProcessIdentity& process : reach.processes) {
    SQUALL_TRY(check_process(grant, process));
    SQUALL_ASSIGN(Account account, account_of(process));
    if (owner && owner->user != account.user && (reach.starts || reach.traces))
      return blocked("its targets belong to several users, and one program is to act for all");
    owner = std::move(account);
  }
  if (reach.starts && owner) SQUALL_TRY(grant_start(rule, *owner, grant));
  if (reach.traces) {
    // With the rights of the traced, the kernel gives setuid programs that they start no rights.
    if (!owner || owner->is_root()) return blocked("processes of root are traced for root only");
    grant.trace_as = owner;
  }
  for (const std::string& folder : reach.cgroups) {
    SQUALL_TRY(check_is_cgroup(folder));
    SQUALL_TRY(check_members(grant, folder));
  }
  for (const std::string& path : reach.filesystems) {
    SQUALL_TRY(check_path(path, rule, "folder"));
    for (const std::string& own : {request.state.leases(), request.state.durable_leases()}) {
      if (share_space(path, own))
        return blocked(fmt::format("{} shares its space with {}, the journals", path, own));
    }
  }
  for (const std::string& path : reach.files) {
    SQUALL_TRY(check_path(path, rule, "file or folder"));
    SQUALL_TRY(check_holds_nothing_of_ours(path, request.state));
  }
  for (const uid_t user : reach.users) {
    if (user != caller_.user &&
        std::find(rule.targets.begin(), rule.targets.end(), user) == rule.targets.end())
      return blocked(fmt::format("{} is none of its `targets`", user_text(user)));
  }
  for (const std::string& unit : reach.units) {
    if (std::find(rule.units.begin(), rule.units.end(), unit) == rule.units.end())
      return blocked(fmt::format("{} is none of its `units`", base::printable(unit)));
  }
  if (reach.memory > rule.memory) {
    return blocked(fmt::format(
        "{} of memory are more than {}", base::format_size(reach.memory),
        rule.memory == 0 ? "nothing, as no `memory` is said" : base::format_size(rule.memory)));
  }
  for (const std::uint16_t port : reach.ports) {
    if (port == 0) return blocked("it names no port, so that it would hit SSH, too");
    SQUALL_TRY(check_ssh(request.host, {PacketEndpoint{.address = {}, .port = port}}));
    if (!rule.ports.empty() &&
        std::find(rule.ports.begin(), rule.ports.end(), port) == rule.ports.end())
      return blocked(fmt::format("port {} is none of its `ports`", port));
  }
  return grant;
}

}  // namespace squall::inject
