#pragma once
// Where probes put their samples: gathers requests into buckets, hands every sample to the live feed
// (abort rules, progress display), and flushes to the RecordWriter a few times a second.

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "evidence/record.h"
#include "evidence/sample.h"

namespace squall::evidence {

// One sample on its way to the engine's thread.
struct LiveSample {
  SeriesId series = 0;
  SeriesKind kind = SeriesKind::kGauge;
  RequestSample request;  // kRequests
  GaugeSample gauge;      // kGauge, kCounter
};

// A queue from many probe threads to the engine's thread. push() is cheap (a mutex held for tens of
// nanoseconds; the wake-up is signalled only when the queue was empty).
class LiveFeed {
 public:
  static base::Result<std::unique_ptr<LiveFeed>> create();
  int fd() const { return wake_up_.fd(); }  // readable when samples wait
  void push(const LiveSample& sample);
  void push(std::span<const LiveSample> samples);
  // Moves all waiting samples into `out` (cleared first). Engine's thread only.
  void drain(std::vector<LiveSample>& out);

 private:
  explicit LiveFeed(base::WakeUp wake_up) : wake_up_(std::move(wake_up)) {}
  base::WakeUp wake_up_;
  std::mutex mutex_;
  std::vector<LiveSample> waiting_;
};

// Thread-safe. Owns nothing but its buffers; writer and feed must outlive it.
class Recorder {
 public:
  Recorder(RecordWriter& writer, LiveFeed* feed);
  base::Result<SeriesId> declare(const SeriesDeclaration& declaration);
  // The id under which `name` was declared.
  std::optional<SeriesId> find(std::string_view name) const;
  // Feeds only series for which this was called (those that abort rules or the display read).
  void watch(SeriesId series);
  void add(SeriesId series, const RequestSample& sample);
  void add_dropped(SeriesId series, base::Instant intended);
  void add(SeriesId series, const GaugeSample& sample);
  void add_write(SeriesId series, const WriteRecord& write);
  void add_read_back(SeriesId series, const ReadBack& read_back);
  void add(const Event& event);  // written at once
  // Writes all that has been gathered. Called by the engine every 100 ms and at the end.
  base::Status flush();
  // The most recent values, for the progress display.
  const RecordWriter& writer() const { return writer_; }

 private:
  struct Pending;
  RecordWriter& writer_;
  LiveFeed* feed_;
  mutable std::mutex mutex_;
  std::vector<std::shared_ptr<Pending>> pending_;
};

}  // namespace squall::evidence
