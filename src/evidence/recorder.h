#pragma once
// Where probes put their samples: gathers requests into buckets, hands every sample to the live
// feed (abort rules, progress display), and flushes to the RecordWriter a few times a second.

#include <atomic>
#include <map>
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

// Thread-safe. Owns nothing but its buffers; writer and feed must outlive it. add() takes a mutex
// of its own series for tens of nanoseconds and allocates nothing in the steady state, so that a
// series that is slow to be written never holds up a probe.
class Recorder {
 public:
  // `feed` may be null.
  Recorder(RecordWriter& writer, LiveFeed* feed);
  ~Recorder();
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;

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
  void add(const Event& event);  // written at once; an error is told by the next flush()
  // Writes all that has been gathered: two write(2) at most, however many series there are, and
  // one more for each series with sequence-numbered writes. Called by the engine every 100 ms and
  // at the end. Returns the writer's sticky error.
  base::Status flush();
  const RecordWriter& writer() const { return writer_; }

 private:
  struct Pending;
  struct Block;
  struct Flush;
  Pending& pending(SeriesId series) const;

  RecordWriter& writer_;
  LiveFeed* feed_;
  mutable std::mutex declare_mutex_;
  std::map<std::string, SeriesId, std::less<>> names_;
  // Two levels of pointers that are set once, so that add() finds its series without a lock.
  std::unique_ptr<std::atomic<Block*>[]> blocks_;
  std::atomic<SeriesId> count_{0};
  std::mutex flush_mutex_;
  std::unique_ptr<Flush> flush_;
};

}  // namespace squall::evidence
