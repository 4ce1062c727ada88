#include "inject/replay.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "base/log.h"
#include "inject/faults/kinds.h"
#include "inject/json_fields.h"
#include "inject/process_table.h"
#include "inject/registry.h"

namespace squall::inject {

namespace {

constexpr int kStarterLimitMilliseconds = 2000;
constexpr int kStarterAttempts = 5;
constexpr int kPauseMilliseconds = 10;

// A journal that was not finished: its holder died before it had changed anything.
void remove_unfinished(const std::string& folder) {
  for (const std::string& path : files_with_suffix(folder, ".lease.new")) {
    const base::UniqueFd file{::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW)};
    if (file && ::flock(file.get(), LOCK_EX | LOCK_NB) == 0) ::unlink(path.c_str());
  }
}

// The dead holder's starter ends with it, but a moment later. Until then it may still be killing a
// command, or starting a service that would be started a second time.
void wait_for_starter(const base::ProcessIdentity& starter,
                      const std::function<void()>& about_to_wait) {
  if (starter.pid <= 0) return;
  auto process = open_if_there(starter);
  for (int attempt = 1; !process.ok() && attempt < kStarterAttempts; ++attempt) {
    ::poll(nullptr, 0, kPauseMilliseconds);
    process = open_if_there(starter);
  }
  if (!process.ok()) {
    base::log_warning("nobody can tell whether a dead holder's starter runs",
                      {{"error", process.error().to_string()}});
    return;
  }
  if (!*process) return;
  pollfd request{.fd = (*process)->get(), .events = POLLIN, .revents = 0};
  if (::poll(&request, 1, 0) > 0) return;
  if (about_to_wait) about_to_wait();
  if (::poll(&request, 1, kStarterLimitMilliseconds) > 0) return;
  if (auto killed = (*process)->signal(SIGKILL); !killed.ok()) return;
  ::poll(&request, 1, kStarterLimitMilliseconds);
}

class Collector {
 public:
  Collector(const std::string& run, const Lease::Means& means,
            const std::function<void()>& about_to_wait)
      : run_(run), means_(means), about_to_wait_(about_to_wait) {}

  void take(const std::string& path) {
    auto journal = LeaseJournal::adopt(path);
    if (!journal.ok()) {
      // Gone: its owner finished. In use: its owner lives, and so it is not ours to undo.
      if (journal.error().code == base::ErrorCode::kNotFound) return;
      if (journal.error().code == base::ErrorCode::kConflict)
        return note_living(path, journal.error());
      return found_.left.push_back(journal.error().to_string());
    }
    auto content = read_journal(path);
    if (!content.ok()) return found_.left.push_back(content.error().to_string());
    if (!content->lease) return take_unreadable(std::move(*journal), content->damage);
    if (!run_.empty() && content->lease->run != run_) return;
    take_readable(std::move(*journal), std::move(*content));
  }

  void give_up(const base::Error& error) { found_.left.push_back(error.to_string()); }

  DeadLeases result() && { return std::move(found_); }

 private:
  void note_living(const std::string& path, const base::Error& error) {
    if (!run_.empty()) return;
    const auto content = read_journal(path);
    if (!content.ok() || !content->lease) return found_.left.push_back(error.to_string());
    found_.lines.push_back(describe_lease(
        *content->lease,
        "its holder lives and holds it; to end it: squall stop " + content->lease->run));
  }

  void take_unreadable(LeaseJournal journal, const std::string& damage) {
    const std::string path = journal.path();
    if (auto kept = journal.set_aside("damaged"); !kept.ok())
      return found_.left.push_back(kept.error().to_string());
    found_.left.push_back(fmt::format(
        "{} cannot be read ({}), so nobody knows which fault it was to undo. It is kept as "
        "{}.damaged; look for stopped processes (ps -eo pid,stat,cmd | grep ' T') and at the run's "
        "record, and remove it then",
        path, damage, path));
  }

  void take_readable(LeaseJournal journal, JournalContent content) {
    const LeaseRecord& record = *content.lease;
    const FaultKind* kind = find_kind(record.binding.kind);
    if (kind == nullptr) {
      return found_.left.push_back(describe_lease(
          record, fmt::format("this version of Squall does not know the kind; undo it with the "
                              "version that wrote {}",
                              journal.path())));
    }
    const std::string boot = boot_id();
    if (boot.empty() || record.boot_id.empty()) {
      return found_.left.push_back(describe_lease(
          record, "nobody can tell whether the machine was booted since: no boot id can be read"));
    }
    const bool rebooted = record.boot_id != boot;
    if ((rebooted && !kind->survives_reboot) || content.state == LeaseState::kVerified) {
      if (auto removed = journal.remove(); !removed.ok())
        return found_.left.push_back(removed.error().to_string());
      return found_.lines.push_back(
          describe_lease(record, rebooted ? "the machine was booted since; nothing is left of it"
                                          : "it was reverted and verified already"));
    }
    adopt(std::move(journal), std::move(content), *kind, rebooted);
  }

  void adopt(LeaseJournal journal, JournalContent content, const FaultKind& kind, bool rebooted) {
    const std::string path = journal.path();
    const LeaseRecord record = *content.lease;
    if (!rebooted) {
      wait_for_starter(record.starter, about_to_wait_);
      for (const std::string& note : content.notes) {  // of replays that died, too
        const auto json = base::parse_json(note);
        if (json.ok()) wait_for_starter(identity_field(*json, "starter"), about_to_wait_);
      }
    }
    std::optional<LeaseJournal> own;
    if (content.damage.empty()) {
      journal.continue_at(content.end);
      const base::Json mine = {{"starter", to_json(means_.programs.process())}};
      // Without room for it, only a replay of this replay could start a service twice.
      if (auto noted = journal.note(mine.dump()); !noted.ok())
        base::log_warning("a replay is not noted", {{"error", noted.error().to_string()}});
      own = std::move(journal);
    } else {
      found_.damaged.push_back({std::move(journal), describe_lease(record, content.damage)});
    }
    auto lease = std::make_unique<Lease>(record, kind, std::move(own), means_);
    if (auto recalled = lease->recall(content.notes); !recalled.ok()) {
      return found_.left.push_back(
          describe_lease(record, fmt::format("{} (in {})", recalled.error().to_string(), path)));
    }
    found_.leases.push_back(std::move(lease));
  }

  const std::string& run_;
  const Lease::Means& means_;
  const std::function<void()>& about_to_wait_;
  DeadLeases found_;
};

}  // namespace

DeadLeases take_up_dead_leases(const StateDirectory& directory, const std::string& run,
                               const Lease::Means& means,
                               const std::function<void()>& about_to_wait) {
  remove_unfinished(directory.leases());
  remove_unfinished(directory.durable_leases());
  Collector collector(run, means, about_to_wait);
  const auto files = directory.list_lease_files();
  if (!files.ok()) {
    collector.give_up(files.error());
  } else {
    for (const std::string& path : *files) collector.take(path);
  }
  return std::move(collector).result();
}

std::vector<std::string> set_aside(std::vector<DamagedJournal> damaged) {
  std::vector<std::string> lines;
  for (DamagedJournal& entry : damaged) {
    const std::string path = entry.journal.path();
    const auto kept = entry.journal.set_aside("damaged");
    lines.push_back(fmt::format(
        "{}. What could be read was undone; {} {}. Compare the targets with the run's record, and "
        "remove the file then",
        entry.text, kept.ok() ? "the journal is kept as" : "the journal could not be renamed:",
        kept.ok() ? path + ".damaged" : kept.error().to_string()));
  }
  return lines;
}

base::Result<std::vector<std::string>> forget_dead_leases(const StateDirectory& directory,
                                                          const std::string& run) {
  std::vector<std::string> lines;
  for (const std::string& path : directory.lease_files()) {
    const auto content = read_journal(path);
    if (!content.ok() || !content->lease || content->lease->run.find(run) == std::string::npos)
      continue;
    SQUALL_ASSIGN(auto journal, LeaseJournal::adopt(path));
    SQUALL_TRY(journal.set_aside("forgotten"));
    lines.push_back(describe_lease(
        *content->lease,
        fmt::format("forgotten, and not undone; its journal is kept as {}.forgotten", path)));
  }
  return lines;
}

void remove_dead_run_files(const StateDirectory& directory) {
  for (const RunFile& run : run_files(directory)) {
    if (alive(run.holder, run.boot_id)) continue;
    ::unlink(run.socket.c_str());
    ::unlink(run.path.c_str());
  }
}

std::string describe_lease(const LeaseRecord& record, std::string_view text) {
  return fmt::format("{} ({}) of run {}: {}", record.binding.fault, record.binding.kind, record.run,
                     text);
}

}  // namespace squall::inject
