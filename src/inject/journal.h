#pragma once
// The revert journal: one file a lease, written before the first change and removed when the revert
// was verified. A file that lies there without its holder is a fault to undo; it holds all that is
// needed for that. See docs/safety-of-injection.md for what happens to damaged ones.
//
//   frame 1        the lease: who, why, which binding, which processes hold it (LeaseRecord)
//   frames 2..n    notes: what a fault found and is about to change, by kind (JSON)
//                  states: armed, effective, reverting, reverted, verified
//   zeros          up to the preallocated size, so that finishing needs no space

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/ids.h"
#include "base/result.h"
#include "inject/caller.h"
#include "inject/client.h"
#include "model/plan.h"

namespace squall::inject {

struct LeaseRecord {
  base::LeaseId lease;
  std::string run;
  std::string experiment;
  std::string reason;
  std::string owner;  // who, in words
  Grant grant;        // and what he may
  std::string system_directory;
  std::string boot_id;  // /proc/sys/kernel/random/boot_id when it was written
  base::ProcessIdentity holder;
  base::ProcessIdentity engine;
  base::ProcessIdentity starter;  // of the holder's programs
  model::FaultBinding binding;
  base::Duration duration{};
  base::Instant requested;
  std::vector<std::string> resources;  // what no other lease may touch: lock keys
};

struct JournalContent {
  std::optional<LeaseRecord> lease;  // absent: the first frame is damaged or of another version
  std::vector<std::string> notes;
  LeaseState state = LeaseState::kArming;
  base::Instant ends;   // deadline; the request's moment plus duration until armed
  std::string damage;   // empty: whole. Else what is wrong, and where
  std::size_t end = 0;  // where the frames end and the zeros begin
};

// Reads whatever can be read. Never fails: damage is part of the answer.
JournalContent parse_journal(std::span<const std::byte> bytes);
base::Result<JournalContent> read_journal(const std::string& path);

// The writing side. Not thread-safe.
class LeaseJournal {
 public:
  static constexpr std::size_t kSize = 128 * 1024;

  // Creates `<folder>/<lease>.lease`, locked (flock) for as long as this object lives, so that a
  // replay cannot mistake it for a dead holder's. kExhausted or kPermission when there is no room;
  // then nothing is left there.
  static base::Result<LeaseJournal> create(const std::string& folder, const LeaseRecord& record);

  // A dead holder's journal, for whoever undoes its fault: locked, to be removed at the end.
  // Nothing can be written to it before continue_at(). kConflict when its holder lives or somebody
  // else undoes it.
  static base::Result<LeaseJournal> adopt(const std::string& path);
  // `end` as JournalContent has it, of an undamaged journal.
  void continue_at(std::size_t end) { end_ = end; }

  // On disk when it returns. kExhausted when the space set aside is used up.
  base::Status note(std::string_view json);
  // Best effort: needed by people and `status`, not by the revert.
  void state(LeaseState state, base::Instant ends, std::string_view text);
  // Removes the file: the revert was verified.
  base::Status remove();
  // Renames it to `<path>.<why>`, where no replay looks: "damaged" (what could be read of it was
  // undone, the rest is for people), "forgotten" (somebody said that nothing is to be undone).
  base::Status set_aside(std::string_view why);
  const std::string& path() const { return path_; }

 private:
  base::Status append(std::uint16_t type, std::string_view payload, std::size_t reserve);

  base::UniqueFd file_;
  std::string path_;
  std::size_t end_ = 0;
};

}  // namespace squall::inject
