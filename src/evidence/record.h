#pragma once
// The record of one run: an append-only file of checksummed frames, readable after kill -9 at any
// moment. It is the truth; everything else is derived from it. Format: docs/record.md.

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/frame.h"
#include "base/ids.h"
#include "base/json.h"
#include "base/result.h"
#include "evidence/event.h"
#include "evidence/sample.h"

namespace squall::evidence {

inline constexpr int kRecordVersion = 1;

// Written first. Wall time is a label; boot time is what everything else refers to.
struct RecordHeader {
  base::RunId run;
  std::string squall_version;
  base::WallTime wall_start;
  base::Instant boot_start;
  std::string experiment_name;
  std::string experiment_text;  // the files as they were, so that a record stands alone
  std::string experiment_file;
  std::string system_map_text;
  std::string system_map_file;
  std::string environment;  // name
  std::string plan;         // canonical JSON
  std::string plan_hash;
};

// A bucket of a request series on its way to the record.
struct SeriesBucket {
  SeriesId series = 0;
  const RequestBucket* bucket = nullptr;
};

// Appends to a record. Thread-safe; each call is at most one write(2), so that a killed engine
// loses at most the call in progress. Errors are sticky: once a write failed (disk full), every
// later append of samples returns the same error, failure() tells it, and the engine stops the run.
// The space of the reserve is kept for events, documents and finish(), which go on working until it
// is used up: also a run that filled the disk has its reverts and its end on record.
class RecordWriter {
 public:
  // Creates `path` (must not exist; symbolic links are not followed) and writes the header. From
  // then on at least `reserve` bytes beyond the samples are allocated for events, documents and the
  // end, on filesystems that can allocate ahead (ext4, xfs, btrfs, tmpfs). kExhausted when there is
  // no room; then nothing is left behind.
  static base::Result<std::unique_ptr<RecordWriter>> create(const std::string& path,
                                                            const RecordHeader& header,
                                                            std::uint64_t reserve);
  ~RecordWriter();

  base::Result<SeriesId> declare(const SeriesDeclaration& declaration);
  base::Status append(SeriesId series, const RequestBucket& bucket);
  base::Status append(std::span<const SeriesBucket> buckets);  // of many series, in one write(2)
  // Fastest when sorted by series.
  base::Status append(std::span<const std::pair<SeriesId, GaugeSample>> samples);
  base::Status append(const Event& event);
  base::Status append_writes(SeriesId series, std::span<const WriteRecord> writes);
  base::Status append_read_backs(SeriesId series, std::span<const ReadBack> read_backs);
  // A named JSON document: "binding", "preflight", "environment", "judgement", "proofs".
  base::Status append_document(std::string_view name, const base::Json& document);
  base::Status sync();  // fdatasync, and once fsync of the folder
  // Marks the record as finished, gives back unused space, syncs. Further appends fail.
  base::Status finish();
  base::Status failure() const;  // the sticky error, or ok
  const std::string& path() const { return path_; }
  std::uint64_t size() const;  // bytes written so far

 private:
  enum class Space { kSamples, kReserve };
  RecordWriter() = default;
  base::Status writable(Space space) const;  // these five: mutex_ held
  base::Status add_frame(std::uint16_t type, std::span<const std::byte> payload);
  base::Status write_frames(Space space);
  base::Status allocate(std::uint64_t end);
  base::Status sync_locked();

  mutable std::mutex mutex_;
  std::string path_;
  base::UniqueFd fd_;
  std::uint64_t offset_ = 0;
  std::uint64_t allocated_ = 0;
  std::uint64_t reserve_ = 0;
  std::uint64_t size_limit_ = 0;  // RLIMIT_FSIZE
  std::uint64_t frames_ = 0;
  std::uint64_t frames_waiting_ = 0;  // in buffer_
  std::uint32_t next_series_ = 0;
  bool can_allocate_ = true;
  bool folder_synced_ = false;
  bool finished_ = false;
  bool reserve_failed_ = false;
  std::optional<base::Error> failure_;
  std::vector<std::byte> buffer_;  // frames of the call in progress
  base::ByteWriter payload_;
  std::vector<std::pair<SeriesId, GaugeSample>> sorted_;
};

struct ReadOptions {
  // Which series to load; absent: all. Others are declared but stay empty, so that a judge of a few
  // predictions over a thousand signals needs little memory.
  std::function<bool(const SeriesDeclaration&)> wanted;
};

struct Series {
  SeriesDeclaration declaration;
  std::vector<RequestBucket> buckets;  // merged, sorted by start
  std::vector<GaugeSample> samples;    // sorted by time
  std::vector<WriteRecord> writes;     // sorted by sequence
  std::vector<ReadBack> read_backs;    // sorted by sequence
};

// Frames are missing between the one written at `after` and the one written at `before`.
struct RecordGap {
  base::Instant after;
  base::Instant before;
};

// A record as read. Immutable. Reading streams through a small buffer (never mmap: a record that is
// being finished is truncated under the reader), checks every checksum, and allocates only in
// proportion to the bytes that are there.
class Record {
 public:
  // Reads what is there. A torn tail is normal after a kill; damage in the middle is skipped to the
  // next valid frame. Both are told by damage(). Fails only when the header cannot be read.
  static base::Result<Record> read(const std::string& path, const ReadOptions& options = {});
  static base::Result<Record> parse(std::span<const std::byte> bytes,
                                    const ReadOptions& options = {});

  const RecordHeader& header() const { return header_; }
  bool finished() const { return finished_; }
  // One sentence a finding ("212 bytes at 41,234 are damaged; 1 frame may be missing"); empty:
  // none.
  const std::vector<std::string>& damage() const { return damage_; }
  // Where in time frames are missing in the middle; a torn tail is none. In order.
  const std::vector<RecordGap>& gaps() const { return gaps_; }
  const std::vector<Event>& events() const { return events_; }
  const std::vector<Series>& series() const { return series_; }
  const Series* find(std::string_view name) const;
  // The last document of that name as JSON text; null when there is none.
  const std::string* document(std::string_view name) const;
  base::Instant last_instant() const { return last_; }  // of the last frame
  // The wall-clock label of a moment, from the header's pair of times.
  base::WallTime wall_time(base::Instant at) const;

  // Events of a type, in order.
  std::vector<const Event*> events_of(std::string_view type) const;

  // For tests and simulations: a record made in memory.
  struct Content {
    RecordHeader header;
    std::vector<Event> events;
    std::vector<Series> series;
    std::map<std::string, std::string, std::less<>> documents;
    bool finished = true;
    std::vector<RecordGap> gaps = {};
  };
  static Record make(Content content);

 private:
  friend class RecordReader;
  RecordHeader header_;
  bool finished_ = false;
  std::vector<std::string> damage_;
  std::vector<RecordGap> gaps_;
  std::vector<Event> events_;
  std::vector<Series> series_;
  std::map<std::string, std::string, std::less<>> documents_;
  std::map<std::string, std::size_t, std::less<>> by_name_;
  base::Instant last_{};
};

// What checking a whole record found, without keeping its contents.
struct RecordCheck {
  base::RunId run;
  bool finished = false;
  std::uint64_t frames = 0;
  std::uint64_t bytes = 0;
  std::vector<std::string> damage;  // empty: every byte is accounted for
};
// Fails only when the file or its header cannot be read.
base::Result<RecordCheck> verify_record(const std::string& path);

// Copies the record at `from` to the new file `to` (kConflict when that exists): what `export` and
// `import` do. The copy holds whole frames only, is synced and checked before it gets its name, and
// `to` never shows a part of it. kCorrupt when `from` is damaged in the middle.
base::Result<RecordCheck> copy_record(const std::string& from, const std::string& to);

}  // namespace squall::evidence
