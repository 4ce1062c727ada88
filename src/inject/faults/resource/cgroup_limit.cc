#include "inject/faults/resource/cgroup_limit.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <optional>
#include <set>

#include "base/files.h"
#include "base/ids.h"
#include "base/text.h"
#include "base/units.h"
#include "inject/faults/process/successors.h"
#include "inject/json_fields.h"
#include "inject/registry.h"

namespace squall::inject {

namespace {

using base::Json;

constexpr base::Duration kLook = std::chrono::milliseconds(20);
constexpr base::Duration kPause = std::chrono::milliseconds(1);
constexpr base::Duration kWatch = std::chrono::milliseconds(200);

base::Error write_failure(const LimitChange& change, const std::string& text, int error) {
  base::Error result = base::system_error(fmt::format("write {} to {}", text, change.file), error);
  if (error == EBUSY) {
    result.code = base::ErrorCode::kConflict;
    result.hint = "more is in use than can be reclaimed: raise `limit`, or use `left`";
  } else if (error == EINVAL) {
    result.code = base::ErrorCode::kConflict;
    result.hint = "a group above or below it has a limit of its own that does not go with this one";
  } else if (error == EACCES || error == EPERM || error == EROFS) {
    result.hint = "run as root, with the cgroups mounted writable";
  }
  return result;
}

base::Status write_text(const LimitChange& change, const std::string& value) {
  const std::string text = change.key.empty() ? value : change.key + " " + value;
  const base::UniqueFd file{::open(change.file.c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC)};
  if (!file) return write_failure(change, text, errno);
  if (::write(file.get(), text.data(), text.size()) < 0) return write_failure(change, text, errno);
  return {};
}

bool gone(const base::Error& error) {
  return error.code == base::ErrorCode::kNotFound;
}

std::string shown(const std::string& value) {
  return value.empty() ? "no limit" : "`" + value + "`";
}

constexpr std::uint64_t kSmallestPiece = 64 * 1024 * 1024;
constexpr std::uint64_t kPieces = 32;       // each of them is journaled
constexpr std::uint64_t kPage = 64 * 1024;  // the largest that Linux has

struct Part {
  LimitChange change;
  std::set<std::string> ours;  // the values that were noted, each before it was written
  bool done = false;           // the last one was written
};

// What is written next: the value itself, or one on the way to it from what is used now.
std::string next_value(const Part& part) {
  const LimitChange& change = part.change;
  if (change.used.empty() || part.ours.size() > 2 * kPieces) return change.value;
  const std::uint64_t target = std::strtoull(change.value.c_str(), nullptr, 10);
  const std::uint64_t used = read_number({.file = change.used, .key = {}, .field = {}}).value_or(0);
  if (used < target + kSmallestPiece) return change.value;
  const std::uint64_t next = used - std::max(kSmallestPiece, (used - target) / kPieces);
  return fmt::format("{}", std::max(target, next - next % kPage));
}

std::string folder_of(const std::string& file) {
  return file.substr(0, file.rfind('/'));
}

class GroupLimitFault final : public Fault {
 public:
  // Without `plan` it is a rehearsal: nobody is awaited in the group.
  GroupLimitFault(std::optional<Successors::Plan> plan, const GroupLimit& limit, std::string what,
                  FaultContext& context)
      : limit_(limit), what_(std::move(what)), context_(context) {
    for (const LimitChange& change : limit.changes)
      parts_.push_back({.change = change, .ours = {}});
    if (plan) successors_.emplace(std::move(*plan), "ended while its cgroup was limited", context);
  }

  Step arm() override {
    if (!begun_) {
      if (successors_) {
        if (auto opened = successors_->open(); !opened.ok())
          return Step::failed(std::move(opened).error());
      }
      counted_ = sum(limit_.counters);
      died_ = sum(limit_.deaths);
      since_ = base::BootClock::now();
      begun_ = true;
    }
    for (Part& part : parts_) {
      if (part.done) continue;
      if (auto written = change(part); !written.ok())
        return Step::failed(std::move(written).error());
      if (!part.done) return Step::wait(kPause);
    }
    return Step::done("wrote " + values_text(&LimitChange::value));
  }

  Step effective() override {
    for (const Part& part : parts_) {
      const auto now = read_limit(part.change.file, part.change.key);
      if (now.ok() && *now == part.change.value) continue;
      // A supervisor may be making the group anew, with a member for it.
      Step members = watch_members();
      if (members.again > base::Duration::zero())
        return either(Step::wait(kLook), std::move(members));
      if (!now.ok()) return Step::failed(now.error());
      return Step::failed(
          base::Error{.code = base::ErrorCode::kConflict,
                      .message = fmt::format("{} shows {}, not {}", part.change.file, shown(*now),
                                             shown(part.change.value)),
                      .hint = "look who else writes to it (systemd, a container engine)"});
    }
    const std::uint64_t times = std::max(counted_, sum(limit_.counters)) - counted_;
    if (times == 0 && successors_) return either(Step::wait(kLook), watch_members());
    const base::Duration took = base::BootClock::now() - since_;
    return Step::done(
        fmt::format("{} is in force; {} {} within {}", values_text(&LimitChange::value), what_,
                    times, base::humanize(took)),
        Json{{"read", values_json()}, {"count", times}}.dump());
  }

  Step hold() override {
    if (limit_.deaths.empty()) return watch_members();
    Step step = Step::wait(kWatch);
    const std::uint64_t now = sum(limit_.deaths);
    if (now > died_) {
      step.text = fmt::format("the kernel killed {} processes of the group for want of memory",
                              now - std::exchange(died_, now));
    }
    return either(std::move(step), watch_members());
  }

  Step revert() override {
    given_back_.clear();
    for (auto part = parts_.rbegin(); part != parts_.rend(); ++part) {
      if (part->ours.empty()) continue;
      if (auto done = give_back(*part); !done.ok()) return Step::failed(std::move(done).error());
    }
    return Step::done(summary());
  }

  Step verify() override {
    for (const Part& part : parts_) {
      if (part.ours.empty()) continue;
      const auto now = read_limit(part.change.file, part.change.key);
      if (!now.ok() && !gone(now.error())) return Step::failed(now.error());
      if (!now.ok() || !part.ours.contains(*now)) continue;
      return Step::failed(base::Error{
          .code = base::ErrorCode::kRevertNotVerified,
          .message = fmt::format("{} still shows {}", part.change.file, shown(*now)),
          .hint = fmt::format("echo '{}' > {}", restoring_text(part.change), part.change.file)});
    }
    return Step::done(summary(), Json{{"read", values_json()}}.dump());
  }

  void recall(const Json& found) override {
    for (Part& part : parts_) {
      if (part.change.file == text_field(found, "file") &&
          part.change.key == text_field(found, "key"))
        part.ours.insert(text_field(found, "wrote"));
    }
  }

 private:
  Step watch_members() {
    if (!successors_) return Step::done({});
    return successors_->hold([this](const Target& fresh) { return join(fresh); });
  }

  // A new member is mostly started into the group of its predecessor, which is limited. Where the
  // group was made anew for it (systemd does), the values are written once more.
  Step join(const Target& fresh) {
    bool inside = false;
    for (Part& part : parts_) {
      const std::string folder = folder_of(part.change.file);
      if (!folder_holds(folder, fresh.identity.pid)) continue;
      inside = true;
      const auto now = read_limit(part.change.file, part.change.key);
      if (!now.ok()) return Step::failed(now.error());
      if (part.ours.contains(*now) && part.done) continue;
      if (auto only = check_folder_holds_only(folder, {fresh.identity}); !only.ok())
        return Step::failed(std::move(only).error());
      if (part.done) {  // of the group before
        part.ours.clear();
        part.done = false;
      }
      if (auto written = change(part); !written.ok())
        return Step::failed(std::move(written).error());
      if (!part.done) return Step::wait(kPause);
    }
    counted_ = std::min(counted_, sum(limit_.counters));  // a new group counts from zero
    died_ = std::min(died_, sum(limit_.deaths));
    if (inside) return Step::done("its cgroup is limited");
    return Step::failed(
        base::Error{.code = base::ErrorCode::kUnsupported, .message = "it is in another cgroup"});
  }

  base::Status change(Part& part) {
    const LimitChange& change = part.change;
    SQUALL_ASSIGN(const std::string now, read_limit(change.file, change.key));
    if (part.ours.empty() ? now != change.former : !part.ours.contains(now)) {
      return base::Error{.code = base::ErrorCode::kConflict,
                         .message = fmt::format("{} shows {}; when the fault was bound it was {}",
                                                change.file, shown(now), shown(change.former)),
                         .hint = "somebody else changes it; find out who, then run again"};
    }
    const std::string value = next_value(part);
    SQUALL_TRY(context_.note(
        {{"file", change.file}, {"key", change.key}, {"former", change.former}, {"wrote", value}}));
    part.ours.insert(value);
    part.done = value == change.value;
    return write_text(change, value);
  }

  static std::string restoring_text(const LimitChange& change) {
    const std::string value = change.former.empty() ? change.absent : change.former;
    return change.key.empty() ? value : change.key + " " + value;
  }

  base::Status give_back(const Part& part) {
    const LimitChange& change = part.change;
    const auto now = read_limit(change.file, change.key);
    if (!now.ok() && gone(now.error())) {
      given_back_.push_back(change.file + " is gone with its group");
      return {};
    }
    if (!now.ok()) return now.error();
    if (part.ours.contains(*now)) {
      SQUALL_TRY(write_text(change, change.former.empty() ? change.absent : change.former));
      given_back_.push_back(fmt::format("{} has {} again", change.file, shown(change.former)));
    } else if (*now == change.former) {
      given_back_.push_back(fmt::format("{} has {}", change.file, shown(change.former)));
    } else {
      given_back_.push_back(
          fmt::format("somebody else wrote {} to {}: left as it is", shown(*now), change.file));
    }
    return {};
  }

  std::string summary() const {
    return given_back_.empty() ? "nothing was written" : base::enumerate(given_back_);
  }

  std::uint64_t sum(const std::vector<LimitCounter>& counters) const {
    std::uint64_t total = 0;
    for (const LimitCounter& counter : counters) total += read_number(counter).value_or(0);
    return total;
  }

  std::string values_text(std::string LimitChange::*value) const {
    std::vector<std::string> texts;
    for (const Part& part : parts_) {
      const std::string key = part.change.key.empty() ? "" : part.change.key + " ";
      texts.push_back(fmt::format("{}{} in {}", key, part.change.*value, part.change.file));
    }
    return base::enumerate(texts);
  }

  Json values_json() const {
    Json values = Json::object();
    for (const Part& part : parts_) {
      const auto now = read_limit(part.change.file, part.change.key);
      values[part.change.file] = now.ok() ? Json(*now) : Json();
    }
    return values;
  }

  GroupLimit limit_;
  std::string what_;
  std::optional<Successors> successors_;
  FaultContext& context_;
  std::vector<Part> parts_;
  bool begun_ = false;
  std::uint64_t counted_ = 0;
  std::uint64_t died_ = 0;
  base::Instant since_;
  std::vector<std::string> given_back_;
};

Json to_json(const LimitCounter& counter) {
  return {{"file", counter.file}, {"key", counter.key}, {"field", counter.field}};
}

std::vector<LimitCounter> counters_from(const Json& array) {
  std::vector<LimitCounter> counters;
  if (!array.is_array()) return counters;
  for (const Json& item : array) {
    counters.push_back({.file = text_field(item, "file"),
                        .key = text_field(item, "key"),
                        .field = text_field(item, "field")});
  }
  return counters;
}

GroupLimit limit_from(const Json& details) {
  GroupLimit limit;
  const Json& changes = field(details, "changes");
  if (changes.is_array()) {
    for (const Json& item : changes) {
      limit.changes.push_back({.file = text_field(item, "file"),
                               .key = text_field(item, "key"),
                               .value = text_field(item, "value"),
                               .former = text_field(item, "former"),
                               .absent = text_field(item, "absent"),
                               .used = text_field(item, "used")});
    }
  }
  limit.counters = counters_from(field(details, "counters"));
  limit.deaths = counters_from(field(details, "deaths"));
  return limit;
}

// The files that kinds of this family write; a binding that names another one is not of theirs.
constexpr std::array<std::string_view, 10> kFiles{"cpu.max",
                                                  "cpu.cfs_quota_us",
                                                  "memory.max",
                                                  "memory.limit_in_bytes",
                                                  "pids.max",
                                                  "io.max",
                                                  "blkio.throttle.read_bps_device",
                                                  "blkio.throttle.write_bps_device",
                                                  "blkio.throttle.read_iops_device",
                                                  "blkio.throttle.write_iops_device"};

bool acceptable(const LimitChange& change) {
  const std::string_view name = std::string_view(change.file).substr(change.file.rfind('/') + 1);
  return change.file.starts_with('/') && change.file.find("/../") == std::string::npos &&
         std::find(kFiles.begin(), kFiles.end(), name) != kFiles.end() && !change.value.empty() &&
         !(change.former.empty() && change.absent.empty());
}

// An empty group; removed with the object.
class ScratchFolder {
 public:
  explicit ScratchFolder(const std::string& parent)
      : path_(parent + "/squall-scratch-" + base::LeaseId::generate().text()) {}
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  ~ScratchFolder() { ::rmdir(path_.c_str()); }
  base::Status create() const {
    if (::mkdir(path_.c_str(), 0755) == 0) return {};
    return base::system_error("create cgroup " + path_, errno);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace

base::Result<std::string> read_limit(const std::string& file, const std::string& key) {
  auto text = base::read_pseudo_file(file);
  if (!text.ok()) {
    // A group that is removed while its file is read gives ENODEV.
    if (::access(file.c_str(), F_OK) != 0)
      return base::Error{.code = base::ErrorCode::kNotFound, .message = file + " is gone"};
    return text;
  }
  if (key.empty()) return std::string(base::trim(*text));
  for (const std::string& line : base::split(*text, '\n')) {
    if (line.starts_with(key + " ")) return std::string(base::trim(line.substr(key.size() + 1)));
  }
  return std::string{};
}

base::Result<std::uint64_t> read_number(const LimitCounter& counter) {
  SQUALL_ASSIGN(const std::string text, read_limit(counter.file, counter.key));
  const std::size_t at = counter.field.empty() ? 0 : text.find(counter.field + "=");
  if (at == std::string::npos || text.empty()) return std::uint64_t{0};
  const std::size_t skip = counter.field.empty() ? 0 : counter.field.size() + 1;
  return static_cast<std::uint64_t>(std::strtoull(text.c_str() + at + skip, nullptr, 10));
}

base::Result<std::vector<ControllerGroup>> own_groups_of(const ChosenMembers& members,
                                                         const Controller& controller) {
  struct Shared {
    ControllerGroup group;
    std::vector<base::ProcessIdentity> roots;
  };
  std::vector<Shared> found;
  for (const host::Member& member : members.chosen) {
    const base::ProcessIdentity& root = member.process.identity;
    SQUALL_ASSIGN(ControllerGroup group,
                  controller_group_of(root.pid, controller.v1, controller.v2));
    auto same = std::find_if(found.begin(), found.end(), [&](const Shared& shared) {
      return shared.group.folder == group.folder;
    });
    if (same == found.end()) same = found.insert(same, {std::move(group), {}});
    same->roots.push_back(root);
  }
  std::vector<ControllerGroup> groups;
  for (Shared& shared : found) {
    auto only = check_folder_holds_only(shared.group.folder, shared.roots);
    if (!only.ok()) {
      base::Error error = std::move(only).error();
      error.hint = fmt::format(
          "a limit there would hit others, too, or miss some: give {} a cgroup of its own (a "
          "systemd unit, a container), or aim at all members that share it with `count`",
          members.service->name);
      return error;
    }
    groups.push_back(std::move(shared.group));
  }
  return groups;
}

base::Result<model::FaultBinding> bind_group_limits(
    const BindRequest& request, const Controller& controller, std::string_view what,
    const std::function<base::Result<GroupLimit>(const ControllerGroup&)>& limit_of) {
  SQUALL_ASSIGN(const ChosenMembers members, choose_members(request));
  SQUALL_ASSIGN(const auto groups, own_groups_of(members, controller));
  Json changes = Json::array();
  Json counters = Json::array();
  Json deaths = Json::array();
  Json resources = Json::array();
  for (const ControllerGroup& group : groups) {
    SQUALL_ASSIGN(const GroupLimit limit, limit_of(group));
    for (const LimitChange& change : limit.changes) {
      changes.push_back({{"file", change.file},
                         {"key", change.key},
                         {"value", change.value},
                         {"former", change.former},
                         {"absent", change.absent},
                         {"used", change.used}});
      resources.push_back("cgroup" + change.file);
    }
    for (const LimitCounter& counter : limit.counters) counters.push_back(to_json(counter));
    for (const LimitCounter& counter : limit.deaths) deaths.push_back(to_json(counter));
  }
  return process_binding(request, members, std::string(groups.front().v2 ? kCgroupV2 : kCgroupV1),
                         model::LifetimeClass::kJournaled,
                         {{"changes", changes},
                          {"counters", counters},
                          {"deaths", deaths},
                          {"what", what},
                          {"resources", resources}});
}

base::Result<std::unique_ptr<Fault>> create_group_limit(const model::FaultBinding& binding,
                                                        FaultContext& context) {
  const Json& details = binding.details.json();
  const GroupLimit limit = limit_from(details);
  const bool known = binding.mechanism == kCgroupV1 || binding.mechanism == kCgroupV2;
  if (!known || limit.changes.empty() ||
      !std::all_of(limit.changes.begin(), limit.changes.end(), acceptable)) {
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = "the binding names no values of cgroups"};
  }
  SQUALL_ASSIGN(Successors::Plan plan, Successors::plan_of(binding));
  plan.claims = false;
  return std::unique_ptr<Fault>{std::make_unique<GroupLimitFault>(
      std::move(plan), limit, text_field(details, "what"), context)};
}

base::Result<Reach> reach_group_limit(const model::FaultBinding& binding) {
  SQUALL_ASSIGN(Reach reach, reach_processes(binding));
  const Json& details = binding.details.json();
  const GroupLimit limit = limit_from(details);
  std::vector<std::string> locks;
  for (const LimitChange& change : limit.changes) {
    reach.cgroups.push_back(folder_of(change.file));
    locks.push_back("cgroup" + change.file);
  }
  SQUALL_TRY(check_locks(binding, locks));
  // What is only read is read with root's rights: nothing but files of those very groups.
  std::vector<std::string> read;
  for (const LimitChange& change : limit.changes) {
    if (!change.used.empty()) read.push_back(change.used);
  }
  for (const auto* counters : {&limit.counters, &limit.deaths}) {
    for (const LimitCounter& counter : *counters) read.push_back(counter.file);
  }
  for (const std::string& file : read) {
    if (std::find(reach.cgroups.begin(), reach.cgroups.end(), folder_of(file)) ==
        reach.cgroups.end()) {
      return base::Error{.code = base::ErrorCode::kCorrupt,
                         .message = "the binding reads files of other cgroups than it limits"};
    }
  }
  return reach;
}

base::Result<std::string> rehearse_group_limit(const model::FaultBinding& binding,
                                               FaultContext& context) {
  GroupLimit limit = limit_from(binding.details.json());
  if (limit.changes.empty() || !acceptable(limit.changes.front()))
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = "the binding names no values of cgroups"};
  const std::string group = folder_of(limit.changes.front().file);
  ScratchFolder scratch{folder_of(group)};
  SQUALL_TRY(scratch.create());
  // The other groups get the same values; one is enough.
  GroupLimit copy;
  for (LimitChange change : limit.changes) {
    if (folder_of(change.file) != group) continue;
    change.file = scratch.path() + change.file.substr(group.size());
    change.used.clear();
    SQUALL_ASSIGN(change.former, read_limit(change.file, change.key));
    copy.changes.push_back(std::move(change));
  }
  GroupLimitFault fault{std::nullopt, copy, text_field(binding.details.json(), "what"), context};
  return rehearse_life(fault, "limited an empty cgroup");
}

}  // namespace squall::inject
