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
  std::string experiment_text;   // the files as they were, so that a record stands alone
  std::string experiment_file;
  std::string system_map_text;
  std::string system_map_file;
  std::string environment;       // name
  std::string plan;              // canonical JSON
  std::string plan_hash;
};

// Appends to a record. Thread-safe; each call is at most one write(2), so that a killed engine loses
// at most the call in progress. Errors are sticky: once a write failed (disk full), every later call
// returns the same error and the engine stops the run.
class RecordWriter {
 public:
  // Creates `path` (must not exist), preallocates `reserve` bytes so that finishing never needs
  // space, and writes the header.
  static base::Result<std::unique_ptr<RecordWriter>> create(const std::string& path,
                                                            const RecordHeader& header,
                                                            std::uint64_t reserve);
  ~RecordWriter();

  base::Result<SeriesId> declare(const SeriesDeclaration& declaration);
  base::Status append(SeriesId series, const RequestBucket& bucket);
  base::Status append(std::span<const std::pair<SeriesId, GaugeSample>> samples);
  base::Status append(const Event& event);
  base::Status append_writes(SeriesId series, std::span<const WriteRecord> writes);
  base::Status append_read_backs(SeriesId series, std::span<const ReadBack> read_backs);
  // A named JSON document: "binding", "preflight", "environment", "judgement", "proofs".
  base::Status append_document(std::string_view name, const base::Json& document);
  base::Status sync();  // fdatasync
  // Marks the record as finished, gives back unused space, syncs. Further appends fail.
  base::Status finish();
  base::Status failure() const;  // the sticky error, or ok
  const std::string& path() const { return path_; }

 private:
  RecordWriter() = default;
  base::Status append_frame(std::uint16_t type, std::span<const std::byte> payload);
  mutable std::mutex mutex_;
  std::string path_;
  base::UniqueFd fd_;
  std::uint64_t offset_ = 0;
  std::uint64_t reserved_ = 0;
  std::uint32_t next_series_ = 0;
  bool finished_ = false;
  std::optional<base::Error> failure_;
  std::vector<std::byte> buffer_;
};

struct ReadOptions {
  // Which series to load; absent: all. Others are declared but stay empty, so that a judge of a few
  // predictions over a thousand signals needs little memory.
  std::function<bool(const SeriesDeclaration&)> wanted;
};

struct Series {
  SeriesDeclaration declaration;
  std::vector<RequestBucket> buckets;   // merged, sorted by start
  std::vector<GaugeSample> samples;     // sorted by time
  std::vector<WriteRecord> writes;
  std::vector<ReadBack> read_backs;
};

// A record as read. Immutable.
class Record {
 public:
  // Reads what is there. A torn tail is normal after a kill; damage in the middle is skipped to the
  // next valid frame. Both are told by damage(). Fails only when the header cannot be read.
  static base::Result<Record> read(const std::string& path, const ReadOptions& options = {});
  static base::Result<Record> parse(std::span<const std::byte> bytes,
                                    const ReadOptions& options = {});

  const RecordHeader& header() const { return header_; }
  bool finished() const { return finished_; }
  // One sentence a finding ("212 bytes at 41,234 are damaged; 1 frame may be missing"); empty: none.
  const std::vector<std::string>& damage() const { return damage_; }
  const std::vector<Event>& events() const { return events_; }
  const std::vector<Series>& series() const { return series_; }
  const Series* find(std::string_view name) const;
  // The last document of that name as JSON text; null when there is none.
  const std::string* document(std::string_view name) const;
  base::Instant last_instant() const { return last_; }  // of the last frame

  // Events of a type, in order.
  std::vector<const Event*> events_of(std::string_view type) const;

  // For tests and simulations: a record made in memory.
  struct Content {
    RecordHeader header;
    std::vector<Event> events;
    std::vector<Series> series;
    std::map<std::string, std::string, std::less<>> documents;
    bool finished = true;
  };
  static Record make(Content content);

 private:
  friend class RecordReader;
  RecordHeader header_;
  bool finished_ = false;
  std::vector<std::string> damage_;
  std::vector<Event> events_;
  std::vector<Series> series_;
  std::map<std::string, std::string, std::less<>> documents_;
  std::map<std::string, std::size_t, std::less<>> by_name_;
  base::Instant last_{};
};

}  // namespace squall::evidence
