#include "inject/registry.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "base/files.h"
#include "base/text.h"
#include "base/units.h"
#include "inject/faults/kinds.h"
#include "inject/json_fields.h"
#include "inject/process_table.h"

namespace squall::inject {

namespace {

using base::Json;

constexpr std::size_t kRunFileLimit = 64 * 1024;
constexpr std::size_t kRunIdLimit = 64;

// Our own processes, and the engines and holders of every run with what they descend from: a fault
// there could take away those who are to end it.
base::Status refuse_ourselves(const StateDirectory& directory, const LeaseRecord& record) {
  std::vector<pid_t> pillars{record.engine.pid};
  for (const RunFile& run : run_files(directory)) {
    if (!alive(run.holder, run.boot_id)) continue;
    pillars.push_back(run.holder.pid);
    pillars.push_back(run.engine.pid);
  }
  for (const model::BoundTarget& target : record.binding.targets) {
    if (target.process.pid == 0) continue;
    SQUALL_TRY(check_not_ourselves(target.process.pid));
    for (const pid_t pillar : pillars) {
      SQUALL_TRY(check_does_not_carry(target.process.pid, pillar));
      SQUALL_TRY(check_not_forked_by(target.process.pid, pillar));
    }
  }
  return {};
}

std::string resource_of(const base::ProcessIdentity& process) {
  return fmt::format("process/{}/{}", process.pid, process.start_time);
}

// Of processes that joined the fault while it lasted.
std::vector<std::string> claimed_in(const JournalContent& content) {
  std::vector<std::string> resources;
  for (const std::string& note : content.notes) {
    if (note.find("\"claimed\"") == std::string::npos) continue;
    const auto json = base::parse_json(note);
    if (!json.ok()) continue;
    for (const Json& item : field(*json, "claimed"))
      resources.push_back(resource_of(identity_of(item)));
  }
  return resources;
}

base::Error held_by(const LeaseRecord& theirs, const std::string& resource, bool holder_alive) {
  const auto& own = theirs.resources;
  std::string what = resource;
  if (std::find(own.begin(), own.end(), resource) != own.end()) {
    for (const auto& target : theirs.binding.targets) what = target.description;
  }
  base::Error error{
      .code = base::ErrorCode::kConflict,
      .message = fmt::format("{} is already under the fault {} ({}) of run {}, experiment {}, "
                             "started by {}",
                             what, theirs.binding.fault, theirs.binding.kind, theirs.run,
                             theirs.experiment, theirs.owner)};
  error.hint = holder_alive ? fmt::format("wait for its end, or end it: squall stop {}", theirs.run)
                            : "its holder is dead: run `squall cleanup`";
  return error;
}

// Values and states that a fault finds, changes and puts back: who came second would find those of
// the first, and put them back when the first has gone.
constexpr std::array<std::string_view, 7> kRestored{"cgroup",  "unit/", "container/", "instance/",
                                                    "queues/", "port/", "service/"};

// Do they tell their packets apart by the mark that all pair faults of this host share?
bool by_marks(const Json& details) {
  if (field(details, "marked").is_object()) return true;
  for (const Json& rule : field(details, "rules")) {
    if (boolean_field(rule, "marked")) return true;
  }
  return false;
}

// Why both must not have the resource, although their plans let them share targets; empty: they
// may.
std::string cannot_share(const LeaseRecord& ours, const LeaseRecord& theirs,
                         const std::string& resource) {
  if (std::any_of(kRestored.begin(), kRestored.end(),
                  [&](std::string_view prefix) { return resource.starts_with(prefix); }))
    return "each puts back what it found there, and the second would find what the first has made";
  const FaultKind* one = find_kind(ours.binding.kind);
  const FaultKind* other = find_kind(theirs.binding.kind);
  if (one == nullptr || other == nullptr) return "one of the kinds is unknown here";
  if (!one->restores.empty() && one->restores == other->restores)
    return fmt::format("each puts back {}, and the second would find what the first has made",
                       one->restores);
  if (by_marks(ours.binding.details.json()) && by_marks(theirs.binding.details.json()))
    return "both tell their packets apart by the same mark, so each would meet those of the other";
  return {};
}

base::Status check_conflicts(const StateDirectory& directory, const LeaseRecord& record) {
  SQUALL_ASSIGN(const std::vector<std::string> files, directory.list_lease_files());
  for (const std::string& file : files) {
    const auto content = read_journal(file);
    if (!content.ok() && content.error().code == base::ErrorCode::kNotFound) continue;  // removed
    if (!content.ok()) return content.error();
    if (!content->lease) {
      return base::Error{.code = base::ErrorCode::kConflict,
                         .message = fmt::format("{} is damaged ({}): nobody knows which fault is "
                                                "still active",
                                                file, content->damage),
                         .hint = "run `squall cleanup`"};
    }
    const LeaseRecord& theirs = *content->lease;
    std::vector<std::string> locked = claimed_in(*content);
    locked.insert(locked.end(), theirs.resources.begin(), theirs.resources.end());
    for (const std::string& resource : record.resources) {
      const bool taken = std::find(locked.begin(), locked.end(), resource) != locked.end();
      const bool shared = theirs.run == record.run && resource.starts_with("service/");
      if (!taken || shared) continue;
      base::Error held = held_by(theirs, resource, alive(theirs.holder, theirs.boot_id));
      const bool ours = record.binding.overlap;
      if (ours && theirs.binding.overlap) {
        const std::string why = cannot_share(record, theirs, resource);
        if (why.empty()) continue;
        held.message += fmt::format("; `overlap: true` does not help: {}", why);
      } else if (ours != theirs.binding.overlap) {
        held.message += fmt::format("; {} plan says `overlap: true`, {} does not",
                                    ours ? "this" : "its", ours ? "its" : "this");
      }
      return held;
    }
  }
  return {};
}

}  // namespace

std::vector<std::string> resources_of(const model::FaultBinding& binding) {
  std::vector<std::string> keys = texts_field(binding.details.json(), "resources");
  for (const model::BoundTarget& target : binding.targets) {
    keys.push_back(target.process.pid != 0 ? resource_of(target.process)
                                           : "target/" + target.description);
  }
  std::sort(keys.begin(), keys.end());
  keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
  return keys;
}

base::Status check_locks(const model::FaultBinding& binding, const std::vector<std::string>& keys) {
  const std::vector<std::string> locked = resources_of(binding);
  for (const std::string& key : keys) {
    if (std::find(locked.begin(), locked.end(), key) != locked.end()) continue;
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = "the binding does not lock " + base::printable(key)};
  }
  return {};
}

base::Result<LeaseJournal> acquire(const StateDirectory& directory, const LeaseRecord& record,
                                   const FaultKind& kind) {
  SQUALL_TRY(refuse_ourselves(directory, record));
  SQUALL_ASSIGN(const base::UniqueFd lock, directory.lock());
  SQUALL_ASSIGN(const KillSwitch stop, kill_switch(directory.path()));
  if (stop.engaged) {
    return base::Error{.code = base::ErrorCode::kBlocked,
                       .message = fmt::format("the kill switch is engaged since {} by {}: {}",
                                              stop.since, stop.who, stop.why),
                       .hint = "when it is safe again: squall release"};
  }
  SQUALL_TRY(check_conflicts(directory, record));
  return LeaseJournal::create(
      kind.survives_reboot ? directory.durable_leases() : directory.leases(), record);
}

base::Status claim(const StateDirectory& directory, const LeaseRecord& record,
                   const base::ProcessIdentity& process,
                   const std::function<base::Status()>& note) {
  LeaseRecord wanted = record;
  wanted.binding.targets = {{.service = {}, .member = {}, .process = process, .description = {}}};
  wanted.resources = {resource_of(process)};
  SQUALL_TRY(refuse_ourselves(directory, wanted));
  SQUALL_ASSIGN(const base::UniqueFd lock, directory.lock());
  SQUALL_TRY(check_conflicts(directory, wanted));
  return note();
}

base::Status check_free(const StateDirectory& directory, const LeaseRecord& record) {
  SQUALL_ASSIGN(const base::UniqueFd lock, directory.lock());
  return check_conflicts(directory, record);
}

bool alive(const base::ProcessIdentity& identity, const std::string& boot) {
  // In doubt it lives: what is done for the dead must not be done to the living.
  const std::string now = boot_id();
  if ((!now.empty() && boot != now) || identity.pid <= 0) return false;
  const auto process = open_if_there(identity);
  return !process.ok() || (*process && !(*process)->ended());
}

base::Status check_run_id(const std::string& run) {
  const bool fits = !run.empty() && run.size() <= kRunIdLimit && run.front() != '.' &&
                    std::all_of(run.begin(), run.end(), [](unsigned char c) {
                      return std::isalnum(c) != 0 || c == '-' || c == '_' || c == '.';
                    });
  if (fits) return {};
  return base::Error{
      .code = base::ErrorCode::kUsage,
      .message = "a run id is 1 to 64 letters, digits, dots, dashes and underscores"};
}

base::Status write_run_file(const StateDirectory& directory, const RunFile& run) {
  const Json json = {
      {"run", run.run},         {"experiment", run.experiment},  {"owner", run.owner},
      {"boot_id", run.boot_id}, {"holder", to_json(run.holder)}, {"engine", to_json(run.engine)}};
  return base::write_file_atomically(base::join_path(directory.runs(), run.run + ".json"),
                                     json.dump(-1, ' ', false, Json::error_handler_t::replace));
}

std::vector<RunFile> run_files(const StateDirectory& directory) {
  std::vector<RunFile> runs;
  for (const std::string& path : files_with_suffix(directory.runs(), ".json")) {
    const auto text = base::read_file(path, kRunFileLimit);
    const auto json = text.ok() ? base::parse_json(*text) : base::Result<Json>{text.error()};
    if (!json.ok()) continue;
    runs.push_back({.path = path,
                    .socket = path.substr(0, path.size() - 5) + ".sock",
                    .run = text_field(*json, "run"),
                    .experiment = text_field(*json, "experiment"),
                    .owner = text_field(*json, "owner"),
                    .boot_id = text_field(*json, "boot_id"),
                    .holder = identity_field(*json, "holder"),
                    .engine = identity_field(*json, "engine")});
  }
  return runs;
}

}  // namespace squall::inject
