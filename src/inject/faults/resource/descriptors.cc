// resource.descriptors: lowers the soft limit of open descriptors (RLIMIT_NOFILE) of members of a
// service and of all that descends from them, so that open, accept and socket fail with EMFILE.

#include <dirent.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <map>
#include <set>

#include "base/files.h"
#include "base/text.h"
#include "inject/fault.h"
#include "inject/faults/process/successors.h"
#include "inject/faults/process/targets.h"
#include "inject/faults/resource/parameters.h"
#include "inject/json_fields.h"
#include "inject/process_table.h"

namespace squall::inject {

namespace {

using base::Json;
using model::LifetimeClass;
using model::ParameterDescriptor;
using model::ValueType;

constexpr std::string_view kMechanism = "prlimit";
constexpr std::array<std::string_view, 1> kMechanisms{kMechanism};
constexpr std::array<std::string_view, 3> kCapabilities{"CAP_KILL", "CAP_SETUID", "CAP_SETGID"};
constexpr std::array<ParameterDescriptor, 7> kParameters{{
    service_parameter("The service whose members may open fewer descriptors."),
    member_parameter("The member that is limited, by name or role; without it, `count` decides."),
    count_parameter("How many members are limited."),
    kRandomParameter,
    {.name = "limit",
     .type = ValueType::kInteger,
     .minimum = 1,
     .maximum = 1e9,
     .summary = "The limit for each process; either this or `left`. What is open stays open."},
    {.name = "left",
     .type = ValueType::kInteger,
     .minimum = 0,
     .maximum = 1e9,
     .summary = "How many more descriptors each process may open than it has open when the fault "
                "begins."},
    kJoinsParameter,
}};

constexpr model::FaultKindDescriptor kDescriptor{
    .name = "resource.descriptors",
    .summary = "Lets members of a service run out of file descriptors.",
    .effect =
        "open, accept, socket and pipe fail with EMFILE when the limit is reached. Children born "
        "meanwhile inherit it. poll(2) on more entries than the limit fails with EINVAL.",
    .revert =
        "Each process gets its former soft limit back, also children born meanwhile. A limit that "
        "somebody else changed is left as it is, and told.",
    .proof = "Effect and revert: the limit that prlimit(2) reads back from each process.",
    .weakest = LifetimeClass::kJournaled,
    .mechanisms = kMechanisms,
    .capabilities = kCapabilities,
    .parameters = kParameters,
    .can_be_effective = true,
    .example =
        "- resource.descriptors: { service: api, left: 5 }\n"
        "  name: out-of-descriptors\n"
        "  at: 5s\n"
        "  for: 20s\n",
};

// Reads the limit, and changes it when `wanted` is given. The kernel asks for CAP_SYS_RESOURCE, or
// for the real user and group of the target, which is how `prlimit` works where root has not that
// capability (containers). Only the real ids of this thread change, and only for this one call.
class Limits {
 public:
  static base::Result<rlimit> exchange(pid_t pid, const rlimit* wanted) {
    rlimit former{};
    if (::prlimit(pid, RLIMIT_NOFILE, wanted, &former) == 0) return former;
    if (errno != EPERM) return failure(pid, errno);
    const auto ids = real_ids(pid);
    if (!ids.ok()) return ids.error();
    const uid_t user = ::getuid();
    const gid_t group = ::getgid();
    int error = EPERM;
    // By the bare system calls: the library's change all threads.
    if (::syscall(SYS_setresgid, ids->second, -1, -1) == 0) {
      if (::syscall(SYS_setresuid, ids->first, -1, -1) == 0) {
        error = ::prlimit(pid, RLIMIT_NOFILE, wanted, &former) == 0 ? 0 : errno;
        SQUALL_CHECK(::syscall(SYS_setresuid, user, -1, -1) == 0);
      }
      SQUALL_CHECK(::syscall(SYS_setresgid, group, -1, -1) == 0);
    }
    if (error != 0) return failure(pid, error);
    return former;
  }

 private:
  static base::Error failure(pid_t pid, int error) {
    if (error == ESRCH)
      return {.code = base::ErrorCode::kNotFound,
              .message = fmt::format("process {} has ended", pid)};
    base::Error result = base::system_error(fmt::format("prlimit of process {}", pid), error);
    if (error == EPERM)
      result.hint = "run as root with CAP_SYS_RESOURCE, or with CAP_SETUID and CAP_SETGID";
    return result;
  }

  static base::Result<std::pair<uid_t, gid_t>> real_ids(pid_t pid) {
    SQUALL_ASSIGN(const std::string text,
                  base::read_pseudo_file(fmt::format("/proc/{}/status", pid)));
    const auto number = [&](std::string_view key) {
      const std::size_t at = text.find(key);
      return at == std::string::npos ? 0ul
                                     : std::strtoul(text.c_str() + at + key.size(), nullptr, 10);
    };
    return std::pair{static_cast<uid_t>(number("\nUid:")), static_cast<gid_t>(number("\nGid:"))};
  }
};

// The limit with which `left` more descriptors can be opened: their numbers are given from the
// lowest free one, so gaps between those in use count.
base::Result<rlim_t> limit_leaving(pid_t pid, std::uint64_t left) {
  const std::string path = fmt::format("/proc/{}/fd", pid);
  DIR* folder = ::opendir(path.c_str());
  if (folder == nullptr) return base::system_error("read " + path, errno);
  std::set<rlim_t> used;
  while (const dirent* entry = ::readdir(folder)) {
    rlim_t number = 0;
    const std::string_view name = entry->d_name;
    if (std::from_chars(name.data(), name.data() + name.size(), number).ec == std::errc{})
      used.insert(number);
  }
  ::closedir(folder);
  rlim_t limit = 0;
  for (const rlim_t number : used) {
    if (number - limit > left) break;  // that many numbers are free below it
    left -= number - limit;
    limit = number + 1;
  }
  return limit + left;
}

struct Limited {
  base::ProcessIdentity process;
  rlim_t former = 0;
  rlim_t set = 0;
  bool main = false;
};

class DescriptorLimit final : public Fault {
 public:
  DescriptorLimit(Successors::Plan plan, const Json& details, FaultContext& context)
      : targets_(plan.targets),
        successors_(std::move(plan), "ended while its limit was lowered", context),
        context_(context) {
    if (details.contains("limit")) limit_ = unsigned_field(details, "limit");
    left_ = unsigned_field(details, "left");
  }

  Step arm() override {
    if (auto opened = successors_.open(); !opened.ok())
      return Step::failed(std::move(opened).error());
    if (auto done = limit_trees(); !done.ok()) return Step::failed(std::move(done).error());
    return Step::done(fmt::format("lowered the limit of {} processes: {} and what descends from it",
                                  limited_.size(), describe_targets(targets_)));
  }

  // A child may have been born of a process that was not yet limited: looks once more.
  Step effective() override {
    if (auto done = limit_trees(); !done.ok()) return Step::failed(std::move(done).error());
    Json read = Json::object();
    for (const Limited& entry : limited_) {
      const auto now = read_limit(entry.process);
      if (!now.ok()) continue;  // ended; hold() says so
      if (now->rlim_cur != entry.set) {
        return Step::failed(
            base::Error{.code = base::ErrorCode::kConflict,
                        .message = fmt::format("the limit of process {} is {}, not {}: somebody "
                                               "else changed it",
                                               entry.process.pid, now->rlim_cur, entry.set),
                        .hint = "look who sets it"});
      }
      read[fmt::format("{}", entry.process.pid)] = now->rlim_cur;
    }
    if (read.empty()) {
      return Step::failed(base::Error{.code = base::ErrorCode::kNotFound,
                                      .message = "every target has ended",
                                      .hint = "find out why, then run again"});
    }
    return Step::done(
        fmt::format("the limit is in force for {} processes: {}", read.size(), limits_text()),
        Json{{"limits", read}}.dump());
  }

  Step hold() override {
    return successors_.hold([this](const Target& fresh) { return join(fresh); });
  }

  Step revert() override {
    restored_ = 0;
    ended_ = 0;
    foreign_.clear();
    // Those born meanwhile first: known by their parents, which must not have been changed yet.
    if (auto adopted = adopt_children(); !adopted.ok())
      return Step::failed(std::move(adopted).error());
    for (const Limited& entry : limited_) {
      if (auto done = restore(entry); !done.ok()) return Step::failed(std::move(done).error());
    }
    return Step::done(summary());
  }

  Step verify() override {
    std::vector<std::string> still;
    Json read = Json::object();
    for (const Limited& entry : limited_) {
      const auto now = read_limit(entry.process);
      if (!now.ok() && now.error().code != base::ErrorCode::kNotFound)
        return Step::failed(now.error());
      if (!now.ok()) continue;
      read[fmt::format("{}", entry.process.pid)] = now->rlim_cur;
      if (now->rlim_cur == entry.set && now->rlim_cur < std::min(entry.former, now->rlim_max))
        still.push_back(fmt::format("{}", entry.process.pid));
    }
    if (still.empty()) return Step::done(summary(), Json{{"limits", read}}.dump());
    return Step::failed(base::Error{
        .code = base::ErrorCode::kRevertNotVerified,
        .message = fmt::format("still limited: process {}", base::enumerate(still)),
        .hint =
            fmt::format("prlimit --pid {} --nofile={}:", still.front(), limited_.front().former)});
  }

  void recall(const Json& found) override {
    for (const Json& item : field(found, "limiting")) {
      limited_.push_back({.process = identity_of(item),
                          .former = unsigned_field(item, "former"),
                          .set = unsigned_field(item, "set")});
    }
  }

 private:
  Step join(const Target& fresh) {
    targets_.push_back(fresh);
    if (auto done = limit_trees(); !done.ok()) return Step::failed(std::move(done).error());
    const auto limited = std::find_if(limited_.begin(), limited_.end(), [&](const Limited& entry) {
      return entry.process == fresh.identity;
    });
    const auto now = read_limit(fresh.identity);
    if (!now.ok()) return Step::failed(now.error());
    if (limited != limited_.end() && now->rlim_cur == limited->set)
      return Step::done(fmt::format("is limited, too: it may have {} open", now->rlim_cur));
    return Step::failed(
        base::Error{.code = base::ErrorCode::kConflict,
                    .message = fmt::format("its limit is {}, and not ours", now->rlim_cur)});
  }

  static base::Result<rlimit> read_limit(const base::ProcessIdentity& process) {
    // The number may be another process's by now.
    SQUALL_ASSIGN(const char state, look_at_state(process));
    if (state == 'Z' || state == 'X') {
      return base::Error{.code = base::ErrorCode::kNotFound,
                         .message = fmt::format("process {} has ended", process.pid)};
    }
    return Limits::exchange(process.pid, nullptr);
  }

  bool known(const base::ProcessIdentity& process) const {
    return std::any_of(limited_.begin(), limited_.end(),
                       [&](const Limited& entry) { return entry.process == process; });
  }

  base::Status limit_trees() {
    SQUALL_ASSIGN(const std::vector<ProcessEntry> table, read_process_table());
    std::vector<Limited> fresh;
    Json list = Json::array();
    for (const Target& target : targets_) {
      for (const ProcessEntry& entry : tree_of(table, target.identity)) {
        if (entry.state == 'Z' || entry.state == 'X' || known(entry.identity)) continue;
        SQUALL_TRY(check_not_ourselves(entry.identity.pid));
        auto permitted = context_.check_process(entry.identity);
        if (!permitted.ok() && permitted.error().code == base::ErrorCode::kNotFound) continue;
        SQUALL_TRY(std::move(permitted));
        SQUALL_ASSIGN(const std::optional<Limited> limited, plan_one(entry, target, table));
        if (!limited) continue;
        Json item = to_json(limited->process);
        item["former"] = limited->former;
        item["set"] = limited->set;
        list.push_back(item);
        fresh.push_back(*limited);
      }
    }
    if (fresh.empty()) return {};
    SQUALL_TRY(context_.note({{"limiting", list}}));
    limited_.insert(limited_.end(), fresh.begin(), fresh.end());
    for (const Limited& entry : fresh) SQUALL_TRY(lower(entry));
    return {};
  }

  // Absent: it ended meanwhile, or has less already.
  base::Result<std::optional<Limited>> plan_one(const ProcessEntry& entry, const Target& target,
                                                const std::vector<ProcessEntry>& table) {
    auto now = read_limit(entry.identity);
    if (!now.ok() && now.error().code == base::ErrorCode::kNotFound)
      return std::optional<Limited>{};
    if (!now.ok()) return std::move(now).error();
    // Born of a process that is limited: it has inherited the limit, and gets back the former one.
    const Limited* parent = parent_of(entry.identity, table);
    if (parent != nullptr && now->rlim_cur == parent->set) {
      return std::optional<Limited>{
          Limited{.process = entry.identity, .former = parent->former, .set = parent->set}};
    }
    Limited limited{.process = entry.identity, .former = now->rlim_cur};
    limited.main = entry.identity == target.identity;
    limited.set = limit_.value_or(0);
    if (!limit_) {
      auto needed = limit_leaving(entry.identity.pid, left_);
      if (!needed.ok()) return std::optional<Limited>{};  // ended meanwhile
      limited.set = *needed;
    }
    if (limited.set < limited.former) return std::optional<Limited>{limited};
    if (!limited.main) return std::optional<Limited>{};
    return base::Error{
        .code = base::ErrorCode::kConflict,
        .message = fmt::format("{} may open {} descriptors as it is: a limit of {} would change "
                               "nothing",
                               target.description, limited.former, limited.set),
        .hint = "lower `limit` or `left`"};
  }

  const Limited* parent_of(const base::ProcessIdentity& process,
                           const std::vector<ProcessEntry>& table) const {
    pid_t parent = 0;
    for (const ProcessEntry& entry : table) {
      if (entry.identity == process) parent = entry.parent;
    }
    for (const Limited& entry : limited_) {
      if (entry.process.pid == parent) return &entry;
    }
    return nullptr;
  }

  static base::Status lower(const Limited& entry) {
    auto now = read_limit(entry.process);
    if (!now.ok() && now.error().code == base::ErrorCode::kNotFound) return {};
    if (!now.ok()) return std::move(now).error();
    if (now->rlim_cur == entry.set) return {};  // inherited
    const rlimit wanted{.rlim_cur = entry.set, .rlim_max = now->rlim_max};
    auto former = Limits::exchange(entry.process.pid, &wanted);
    if (former.ok() && former->rlim_cur == entry.former) return {};
    if (!former.ok() && former.error().code == base::ErrorCode::kNotFound) return {};
    if (!former.ok()) return std::move(former).error();
    // Somebody changed it between our look and our change: theirs stands.
    SQUALL_TRY(Limits::exchange(entry.process.pid, &*former));
    return base::Error{.code = base::ErrorCode::kConflict,
                       .message = fmt::format("somebody else changes the limit of process {} at "
                                              "this moment",
                                              entry.process.pid),
                       .hint = "find out who, then try again"};
  }

  base::Status adopt_children() {
    SQUALL_ASSIGN(const std::vector<ProcessEntry> table, read_process_table());
    const std::size_t noted = limited_.size();
    for (std::size_t i = 0; i < noted; ++i) {
      const Limited parent = limited_[i];  // a copy: the list grows
      for (const ProcessEntry& entry : tree_of(table, parent.process)) {
        if (known(entry.identity) || entry.state == 'Z') continue;
        const auto now = read_limit(entry.identity);
        if (!now.ok() && now.error().code != base::ErrorCode::kNotFound) return now.error();
        if (!now.ok() || now->rlim_cur != parent.set) continue;
        limited_.push_back({.process = entry.identity, .former = parent.former, .set = parent.set});
      }
    }
    return {};
  }

  base::Status restore(const Limited& entry) {
    auto now = read_limit(entry.process);
    if (!now.ok()) {
      if (now.error().code != base::ErrorCode::kNotFound) return std::move(now).error();
      ++ended_;
      return {};
    }
    if (now->rlim_cur == entry.former) {
      ++restored_;
      return {};
    }
    if (now->rlim_cur != entry.set) {
      foreign_.push_back(fmt::format("process {} ({})", entry.process.pid, now->rlim_cur));
      return {};
    }
    const rlimit wanted{.rlim_cur = std::min(entry.former, now->rlim_max),
                        .rlim_max = now->rlim_max};
    auto done = Limits::exchange(entry.process.pid, &wanted);
    if (!done.ok() && done.error().code != base::ErrorCode::kNotFound)
      return std::move(done).error();
    ++restored_;
    return {};
  }

  std::string limits_text() const {
    std::map<rlim_t, int> counts;
    for (const Limited& entry : limited_) ++counts[entry.set];
    std::vector<std::string> parts;
    for (const auto& [limit, count] : counts) {
      if (parts.size() == 5) break;
      parts.push_back(fmt::format("{} may have {} open", count, limit));
    }
    return base::enumerate(parts);
  }

  std::string summary() const {
    std::string text = fmt::format("{} processes have their former limit", restored_);
    if (ended_ > 0) text += fmt::format("; {} ended meanwhile", ended_);
    if (!foreign_.empty()) {
      text += fmt::format("; somebody else changed the limit of {}: left as it is",
                          base::enumerate(foreign_));
    }
    return text;
  }

  std::vector<Target> targets_;
  Successors successors_;
  FaultContext& context_;
  std::optional<rlim_t> limit_;
  std::uint64_t left_ = 0;
  std::vector<Limited> limited_;
  std::size_t restored_ = 0;
  std::size_t ended_ = 0;
  std::vector<std::string> foreign_;
};

std::string limit_text(const model::Parameters& parameters) {
  if (const auto limit = parameters.optional_integer("limit"))
    return fmt::format("lowered to {}", *limit);
  return fmt::format("lowered to {} above what is open",
                     parameters.optional_integer("left").value_or(0));
}

void describe_descriptors(const model::SystemMap&, const model::FaultSpecification& fault,
                          model::PlannedFault& planned) {
  planned.target = describe_selection(fault.parameters);
  planned.services = {fault.parameters.text("service")};
  planned.processes_max = planned_count(fault.parameters);
  planned.changes = {
      {.change = fmt::format("the soft limit of open descriptors of {}{} and its child processes "
                             "is {}",
                             planned.target, joining_text(fault.parameters),
                             limit_text(fault.parameters)),
       .revert = "each gets its former limit back, unless somebody else changed it meanwhile",
       .lifetime = LifetimeClass::kJournaled}};
}

base::Result<model::FaultBinding> bind_descriptors(const BindRequest& request) {
  const model::Parameters& parameters = request.fault.parameters;
  SQUALL_TRY(check_exactly_one(parameters, "limit", "left"));
  SQUALL_ASSIGN(const ChosenMembers members, choose_members(request));
  Json extra = {{"joins", joins(parameters)}};
  if (const auto limit = parameters.optional_integer("limit")) extra["limit"] = *limit;
  if (const auto left = parameters.optional_integer("left")) extra["left"] = *left;
  return process_binding(request, members, std::string(kMechanism), LifetimeClass::kJournaled,
                         extra);
}

base::Result<std::unique_ptr<Fault>> create_descriptors(const model::FaultBinding& binding,
                                                        FaultContext& context) {
  const Json& details = binding.details.json();
  if (binding.mechanism != kMechanism || details.contains("limit") == details.contains("left"))
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = "the binding names no limit of descriptors"};
  SQUALL_ASSIGN(Successors::Plan plan, Successors::plan_of(binding));
  return std::unique_ptr<Fault>{
      std::make_unique<DescriptorLimit>(std::move(plan), details, context)};
}

base::Result<std::string> rehearse_descriptors(const model::FaultBinding& binding,
                                               FaultContext& context) {
  return rehearse_on_scratch(
      binding, context, [&](model::FaultBinding scratch) -> base::Result<std::string> {
        Json details = scratch.details.json();
        details.erase("left");
        details["limit"] = 8;
        scratch.details = model::Parameters{details};
        SQUALL_ASSIGN(auto fault, create_descriptors(scratch, context));
        return rehearse_life(*fault, "lowered the limit of a scratch process");
      });
}

}  // namespace

extern const FaultKind kResourceDescriptors;
const FaultKind kResourceDescriptors{.descriptor = &kDescriptor,
                                     .describe = describe_descriptors,
                                     .bind = bind_descriptors,
                                     .create = create_descriptors,
                                     .rehearse = rehearse_descriptors,
                                     .reach = reach_processes,
                                     .restores = "its limit of descriptors"};

}  // namespace squall::inject
