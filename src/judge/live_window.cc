#include "judge/live_window.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace squall::judge {
namespace {

// 64 cells to a power of two, from 1 us to 73 min.
constexpr std::uint32_t kSubBits = 6;
constexpr std::uint32_t kSubCells = 1u << kSubBits;
constexpr std::uint32_t kLowest = 10;
constexpr std::uint32_t kHighest = 42;
constexpr std::uint32_t kCells = 1 + (kHighest - kLowest) * kSubCells;

std::uint16_t cell_of(std::int64_t nanoseconds) {
  if (nanoseconds < (1LL << kLowest)) return 0;
  const auto value = static_cast<std::uint64_t>(nanoseconds);
  const auto exponent = static_cast<std::uint32_t>(std::bit_width(value)) - 1;
  if (exponent >= kHighest) return kCells - 1;
  const auto sub = static_cast<std::uint32_t>(value >> (exponent - kSubBits)) - kSubCells;
  return static_cast<std::uint16_t>(1 + (exponent - kLowest) * kSubCells + sub);
}

double seconds_of(std::uint32_t cell) {
  if (cell == 0) return 0;
  const std::uint32_t exponent = kLowest + (cell - 1) / kSubCells;
  const double lower = static_cast<double>(kSubCells + (cell - 1) % kSubCells) + 0.5;
  return std::ldexp(lower, static_cast<int>(exponent - kSubBits)) * 1e-9;
}

std::int64_t slot_number(base::Instant at) {
  return base::to_nanoseconds(at) / evidence::kBucketWidth.count();
}

}  // namespace

void RequestWindow::Slot::add(const Slot& other) {
  count += other.count;
  ok += other.ok;
  above += other.above;
  sum += other.sum;
  maximum = std::max(maximum, other.maximum);
  minimum = std::min(minimum, other.minimum);
}

RequestWindow::RequestWindow(base::Duration window, Keep keep)
    : slots_(static_cast<std::size_t>(std::max<std::int64_t>(1, window / evidence::kBucketWidth))) {
  if (keep == Keep::kQuantiles) cells_.assign(kCells, 0);
}

void RequestWindow::add(const evidence::RequestSample& sample, base::Instant now) {
  advance(now);
  const base::Duration latency = sample.done - sample.intended;
  Slot one;
  one.count = 1;
  one.ok = sample.outcome == evidence::Outcome::kOk ? 1 : 0;
  one.sum = one.maximum = one.minimum = base::to_seconds(latency);
  one.above = one.sum > threshold_ ? 1 : 0;
  slots_[static_cast<std::size_t>(newest_) % slots_.size()].add(one);
  total_.add(one);
  if (!cells_.empty()) remember(cell_of(latency.count()));
}

void RequestWindow::advance(base::Instant now) {
  const std::int64_t slot = std::max<std::int64_t>(0, slot_number(now));
  if (slot <= newest_) return;
  const auto size = static_cast<std::int64_t>(slots_.size());
  // The oldest first, so that the ring gives up its requests in the order in which they came.
  for (std::int64_t next = std::max(newest_ + 1, slot - size + 1); next <= slot; ++next) {
    forget_slot(slots_[static_cast<std::size_t>(next % size)]);
  }
  newest_ = slot;
  total_ = {};
  for (const Slot& each : slots_) total_.add(each);
}

void RequestWindow::forget_slot(Slot& slot) {
  if (!cells_.empty()) {
    for (std::uint64_t i = 0; i < slot.count; ++i) {
      --cells_[ring_[first_]];
      first_ = (first_ + 1) % ring_.size();
      --used_;
    }
  }
  slot = {};
}

void RequestWindow::remember(std::uint16_t cell) {
  if (used_ == ring_.size()) {
    std::rotate(ring_.begin(), ring_.begin() + static_cast<std::ptrdiff_t>(first_), ring_.end());
    first_ = 0;
    ring_.resize(std::max<std::size_t>(1024, ring_.size() * 2));
  }
  ring_[(first_ + used_) % ring_.size()] = cell;
  ++used_;
  ++cells_[cell];
}

double RequestWindow::quantile(double q) const {
  const auto wanted =
      static_cast<std::uint64_t>(std::max(1.0, std::ceil(q * static_cast<double>(count()))));
  std::uint64_t seen = 0;
  for (std::uint32_t cell = 0; cell < cells_.size(); ++cell) {
    seen += cells_[cell];
    if (seen >= wanted) return seconds_of(cell);
  }
  return maximum();
}

void NumberWindow::add(const evidence::GaugeSample& sample) {
  if (used_ == ring_.size()) {
    std::rotate(ring_.begin(), ring_.begin() + static_cast<std::ptrdiff_t>(first_), ring_.end());
    first_ = 0;
    ring_.resize(std::max<std::size_t>(64, ring_.size() * 2));
  }
  ring_[(first_ + used_) % ring_.size()] = sample;
  ++used_;
}

void NumberWindow::advance(base::Instant now) {
  while (used_ > 0 && at(0).at + window_ <= now) {
    before_ = at(0);
    first_ = (first_ + 1) % ring_.size();
    --used_;
  }
}

std::optional<double> NumberWindow::latest() const {
  if (used_ > 0) return at(used_ - 1).value;
  return before_ ? std::optional(before_->value) : std::nullopt;
}

}  // namespace squall::judge
