#include "observe/member_tracker.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <set>
#include <string_view>

namespace squall::observe {
namespace {

// Descendants beyond this are not followed: a service that forks without limit must not make us
// read without limit.
constexpr std::size_t kDescendantsMax = 256;
// A process that appears this long after another one went is a new one, not its replacement.
constexpr base::Duration kReplacementMax = std::chrono::minutes(2);

// Descriptors of one process that are sockets; 0 when we may not see them.
double count_sockets(pid_t pid) {
  constexpr int kLooked = 4096;
  const std::string path = "/proc/" + std::to_string(pid) + "/fd";
  DIR* folder = opendir(path.c_str());
  if (folder == nullptr) return 0;
  double count = 0;
  int looked = 0;
  while (const dirent* entry = readdir(folder)) {
    if (entry->d_name[0] == '.') continue;
    std::array<char, 8> target{};
    const ssize_t length = readlinkat(dirfd(folder), entry->d_name, target.data(), target.size());
    if (length >= 7 && std::string_view(target.data(), 7) == "socket:") ++count;
    if (++looked >= kLooked) break;
  }
  closedir(folder);
  return count;
}

}  // namespace

bool MemberTracker::knows(const base::ProcessIdentity& identity) const {
  return std::any_of(members_.begin(), members_.end(),
                     [&](const Known& known) { return known.identity == identity; });
}

void MemberTracker::lose(std::size_t index, base::Instant now, std::vector<MemberChange>& changes) {
  const Known gone = members_[index];
  members_.erase(members_.begin() + static_cast<std::ptrdiff_t>(index));
  missing_.push_back({.member = gone.member, .pid = gone.identity.pid, .since = now});
  changes.push_back(
      {.kind = MemberChange::Kind::kGone, .member = gone.member, .pid = gone.identity.pid});
}

void MemberTracker::join(const host::Member& member, base::Instant now,
                         std::vector<MemberChange>& changes) {
  members_.push_back({.identity = member.process.identity, .member = member.name});
  if (!looked_) return;
  std::erase_if(missing_, [now](const Missing& m) { return now - m.since > kReplacementMax; });
  MemberChange change{.kind = MemberChange::Kind::kJoined,
                      .member = member.name,
                      .pid = member.process.identity.pid};
  if (!missing_.empty()) {
    // The one of the same name, else whoever went first.
    auto replaced = std::find_if(missing_.begin(), missing_.end(),
                                 [&](const Missing& m) { return m.member == member.name; });
    if (replaced == missing_.end()) replaced = missing_.begin();
    change.kind = MemberChange::Kind::kRestarted;
    change.old_pid = replaced->pid;
    missing_.erase(replaced);
    ++restarts_;
  }
  changes.push_back(std::move(change));
}

void MemberTracker::take_members(const std::vector<host::Member>& found, base::Instant now,
                                 std::vector<MemberChange>& changes) {
  for (std::size_t i = members_.size(); i-- > 0;) {
    const bool still = std::any_of(found.begin(), found.end(), [&](const host::Member& member) {
      return member.process.identity == members_[i].identity;
    });
    if (!still) lose(i, now, changes);
  }
  for (const host::Member& member : found) {
    if (!knows(member.process.identity)) join(member, now, changes);
  }
}

void MemberTracker::take_descendants(const std::vector<host::Process>& all) {
  std::set<pid_t> family;
  for (const Known& member : members_) family.insert(member.identity.pid);
  std::vector<Known> found;
  // Children mostly have higher numbers than their parents, but numbers wrap: until nothing is new.
  for (bool grown = true; grown && found.size() < kDescendantsMax;) {
    grown = false;
    for (const host::Process& process : all) {
      if (found.size() >= kDescendantsMax || !family.contains(process.parent) ||
          !family.insert(process.identity.pid).second) {
        continue;
      }
      Known known{.identity = process.identity, .member = {}};
      const auto before =
          std::find_if(descendants_.begin(), descendants_.end(),
                       [&](const Known& other) { return other.identity == process.identity; });
      if (before != descendants_.end()) known = *before;
      found.push_back(std::move(known));
      grown = true;
    }
  }
  descendants_ = std::move(found);
}

base::Status MemberTracker::look(const host::Host& host, base::Instant now,
                                 std::vector<MemberChange>& changes) {
  SQUALL_ASSIGN(const std::vector<host::Member> found, host::find_members(host, service_));
  take_members(found, now, changes);
  looked_ = true;
  SQUALL_ASSIGN(const std::vector<host::Process> all, host.processes());
  take_descendants(all);
  sockets_ = 0;
  for (const Known& member : members_) sockets_ += count_sockets(member.identity.pid);
  for (const Known& descendant : descendants_) sockets_ += count_sockets(descendant.identity.pid);
  return {};
}

ServiceUsage MemberTracker::sample(const host::Host& host, base::Instant now,
                                   std::vector<MemberChange>& changes) {
  ServiceUsage usage;
  double used_seconds = 0;
  // False when the process has ended.
  const auto take = [&](Known& known) {
    const auto read = host.usage(known.identity);
    if (!read.ok() || read->state == 'Z' || read->state == 'X') return false;
    if (known.processor_seconds >= 0) {
      used_seconds += std::max(0.0, read->processor_seconds - known.processor_seconds);
    }
    known.processor_seconds = read->processor_seconds;
    usage.memory += static_cast<double>(read->resident_bytes);
    usage.descriptors += static_cast<double>(read->descriptors);
    usage.threads += static_cast<double>(read->threads);
    return true;
  };
  for (std::size_t i = members_.size(); i-- > 0;) {
    if (!take(members_[i])) lose(i, now, changes);
  }
  std::erase_if(descendants_, [&](Known& known) { return !take(known); });
  const double elapsed = base::to_seconds(now - last_sample_);
  if (last_sample_ != base::Instant{} && elapsed > 0) usage.cpu = used_seconds / elapsed;
  last_sample_ = now;
  usage.processes = static_cast<double>(members_.size());
  usage.sockets = members_.empty() ? 0 : sockets_;
  usage.restarts = restarts_;
  return usage;
}

bool MemberTracker::incomplete() const {
  return !missing_.empty() || static_cast<int>(members_.size()) < service_.expected_members;
}

base::Result<std::vector<host::Process>> WalkCache::processes() const {
  if (!processes_) processes_.emplace(host_.processes());
  return *processes_;
}

base::Result<std::vector<host::Socket>> WalkCache::sockets(Owners owners) const {
  auto found = sockets_.find(owners);
  if (found == sockets_.end()) found = sockets_.emplace(owners, host_.sockets(owners)).first;
  return found->second;
}

base::Result<std::vector<host::Container>> WalkCache::containers() const {
  if (!containers_) containers_.emplace(host_.containers());
  return *containers_;
}

}  // namespace squall::observe
