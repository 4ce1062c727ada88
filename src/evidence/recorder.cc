#include "evidence/recorder.h"

#include <algorithm>
#include <array>

#include "base/check.h"
#include "evidence/record_format.h"

namespace squall::evidence {

base::Result<std::unique_ptr<LiveFeed>> LiveFeed::create() {
  SQUALL_ASSIGN(base::WakeUp wake_up, base::WakeUp::create());
  return std::unique_ptr<LiveFeed>(new LiveFeed(std::move(wake_up)));
}

void LiveFeed::push(const LiveSample& sample) {
  push(std::span(&sample, 1));
}

void LiveFeed::push(std::span<const LiveSample> samples) {
  if (samples.empty()) return;
  bool was_empty = false;
  {
    const std::lock_guard lock(mutex_);
    was_empty = waiting_.empty();
    waiting_.insert(waiting_.end(), samples.begin(), samples.end());
  }
  if (was_empty) wake_up_.signal();
}

void LiveFeed::drain(std::vector<LiveSample>& out) {
  out.clear();
  // Cleared before the samples are taken: a push in between signals again, and at worst the next
  // drain finds nothing.
  wake_up_.clear();
  const std::lock_guard lock(mutex_);
  out.swap(waiting_);
}

namespace {

constexpr SeriesId kPerBlock = 1024;
constexpr std::size_t kBlocks = format::kSeriesLimit / kPerBlock;
// Buckets whose memory a series keeps between flushes: those of an ordinary flush. More would only
// grow for minutes, as each of them meets its own rare slow request.
constexpr std::size_t kSpareBuckets = 4;

// The pieces of buckets that one series has gathered since the last flush. Slots behind `used` keep
// the memory of their histograms.
struct Pieces {
  std::vector<RequestBucket> slots;
  std::size_t used = 0;

  RequestBucket& at(base::Instant start) {
    // Nearly always the newest one.
    for (std::size_t i = used; i > 0; --i)
      if (slots[i - 1].start == start) return slots[i - 1];
    if (used == slots.size()) slots.emplace_back();
    RequestBucket& piece = slots[used++];
    piece.start = start;
    return piece;
  }
  void clear() {
    for (std::size_t i = 0; i < used; ++i) slots[i].clear();
    used = 0;
    if (slots.size() > kSpareBuckets) slots.resize(kSpareBuckets);
  }
};

}  // namespace

struct Recorder::Pending {
  std::atomic<bool> watched{false};
  SeriesKind kind = SeriesKind::kGauge;
  std::mutex mutex;
  Pieces pieces;
  std::vector<GaugeSample> samples;
  std::vector<WriteRecord> writes;
  std::vector<ReadBack> read_backs;
  // The other half of each pair, swapped in by flush(); flush_mutex_ guards it.
  Pieces flushing;
  std::vector<GaugeSample> flushing_samples;
  std::vector<WriteRecord> flushing_writes;
  std::vector<ReadBack> flushing_read_backs;

  void swap() {
    const std::lock_guard lock(mutex);
    std::swap(pieces, flushing);
    samples.swap(flushing_samples);
    writes.swap(flushing_writes);
    read_backs.swap(flushing_read_backs);
  }
};

struct Recorder::Block {
  std::array<std::unique_ptr<Pending>, kPerBlock> series;
};

// What one flush gathers over all series; kept for its memory.
struct Recorder::Flush {
  std::vector<SeriesBucket> buckets;
  std::vector<std::pair<SeriesId, GaugeSample>> samples;
};

Recorder::Recorder(RecordWriter& writer, LiveFeed* feed)
    : writer_(writer),
      feed_(feed),
      blocks_(std::make_unique<std::atomic<Block*>[]>(kBlocks)),
      flush_(std::make_unique<Flush>()) {}

Recorder::~Recorder() {
  for (std::size_t i = 0; i < kBlocks; ++i) delete blocks_[i].load();
}

Recorder::Pending& Recorder::pending(SeriesId series) const {
  SQUALL_CHECK(series < count_.load(std::memory_order_acquire));
  return *blocks_[series / kPerBlock].load(std::memory_order_relaxed)->series[series % kPerBlock];
}

base::Result<SeriesId> Recorder::declare(const SeriesDeclaration& declaration) {
  const std::lock_guard lock(declare_mutex_);
  SQUALL_ASSIGN(const SeriesId id, writer_.declare(declaration));
  // A writer serves one recorder, so that its ids come without gaps.
  SQUALL_CHECK(id == count_.load());
  std::atomic<Block*>& block = blocks_[id / kPerBlock];
  if (block.load() == nullptr) block.store(new Block());
  auto pending = std::make_unique<Pending>();
  pending->kind = declaration.kind;
  block.load()->series[id % kPerBlock] = std::move(pending);
  count_.store(id + 1, std::memory_order_release);
  names_.emplace(declaration.name, id);
  return id;
}

std::optional<SeriesId> Recorder::find(std::string_view name) const {
  const std::lock_guard lock(declare_mutex_);
  const auto found = names_.find(name);
  if (found == names_.end()) return std::nullopt;
  return found->second;
}

void Recorder::watch(SeriesId series) {
  pending(series).watched.store(true, std::memory_order_relaxed);
}

void Recorder::add(SeriesId series, const RequestSample& sample) {
  Pending& pending = this->pending(series);
  {
    const std::lock_guard lock(pending.mutex);
    RequestBucket& bucket = pending.pieces.at(bucket_start(sample.intended));
    ++bucket.outcomes[static_cast<std::size_t>(sample.outcome)];
    bucket.response_time.add(sample.done - sample.intended);
    bucket.service_time.add(sample.done - sample.sent);
    bucket.lag.add(sample.sent - sample.intended);
  }
  if (feed_ != nullptr && pending.watched.load(std::memory_order_relaxed))
    feed_->push({.series = series, .kind = pending.kind, .request = sample, .gauge = {}});
}

void Recorder::add_dropped(SeriesId series, base::Instant intended) {
  Pending& pending = this->pending(series);
  const std::lock_guard lock(pending.mutex);
  ++pending.pieces.at(bucket_start(intended)).dropped;
}

void Recorder::add(SeriesId series, const GaugeSample& sample) {
  Pending& pending = this->pending(series);
  {
    const std::lock_guard lock(pending.mutex);
    pending.samples.push_back(sample);
  }
  if (feed_ != nullptr && pending.watched.load(std::memory_order_relaxed))
    feed_->push({.series = series, .kind = pending.kind, .request = {}, .gauge = sample});
}

void Recorder::add_write(SeriesId series, const WriteRecord& write) {
  Pending& pending = this->pending(series);
  const std::lock_guard lock(pending.mutex);
  pending.writes.push_back(write);
}

void Recorder::add_read_back(SeriesId series, const ReadBack& read_back) {
  Pending& pending = this->pending(series);
  const std::lock_guard lock(pending.mutex);
  pending.read_backs.push_back(read_back);
}

void Recorder::add(const Event& event) {
  // The writer keeps the error and flush() returns it.
  static_cast<void>(writer_.append(event));
}

base::Status Recorder::flush() {
  const std::lock_guard lock(flush_mutex_);
  flush_->buckets.clear();
  flush_->samples.clear();
  const SeriesId count = count_.load(std::memory_order_acquire);
  for (SeriesId id = 0; id < count; ++id) {
    Pending& series = pending(id);
    series.swap();
    for (std::size_t i = 0; i < series.flushing.used; ++i)
      flush_->buckets.push_back({id, &series.flushing.slots[i]});
    for (const GaugeSample& sample : series.flushing_samples)
      flush_->samples.emplace_back(id, sample);
  }
  base::Status status = writer_.append(flush_->buckets);
  if (status.ok()) status = writer_.append(flush_->samples);
  for (SeriesId id = 0; id < count; ++id) {
    Pending& series = pending(id);
    if (status.ok()) status = writer_.append_writes(id, series.flushing_writes);
    if (status.ok()) status = writer_.append_read_backs(id, series.flushing_read_backs);
    series.flushing.clear();
    series.flushing_samples.clear();
    series.flushing_writes.clear();
    series.flushing_read_backs.clear();
  }
  if (!status.ok()) return status;
  return writer_.failure();
}

}  // namespace squall::evidence
