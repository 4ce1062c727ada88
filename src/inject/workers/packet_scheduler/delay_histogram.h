#pragma once
// Durations counted in buckets no wider than 1/16 of their value, from 1 us to a day, in little
// memory and without allocation.

#include <array>
#include <bit>
#include <cstdint>

#include "base/clock.h"

namespace squall::inject {

class DelayHistogram {
 public:
  void add(base::Duration duration) {
    const std::int64_t microseconds = duration.count() < 0 ? 0 : duration.count() / 1000;
    ++buckets_[index_of(static_cast<std::uint64_t>(microseconds))];
    ++count_;
    if (duration > longest_) longest_ = duration;
  }

  std::uint64_t count() const { return count_; }
  base::Duration longest() const { return longest_; }

  // The middle of the bucket in which the quantile lies, q from 0 to 1; zero when empty.
  base::Duration quantile(double q) const {
    if (count_ == 0) return {};
    auto rank = static_cast<std::uint64_t>(q * static_cast<double>(count_));
    if (rank >= count_) rank = count_ - 1;
    for (std::size_t i = 0; i < kBuckets; ++i) {
      if (rank < buckets_[i]) {
        const std::uint64_t low = lowest_of(i);
        const std::uint64_t high = lowest_of(i + 1);
        return base::Duration{static_cast<std::int64_t>((low + high) * 500)};
      }
      rank -= buckets_[i];
    }
    return longest_;
  }

 private:
  static constexpr std::size_t kBuckets = 16 * 34;
  static std::size_t index_of(std::uint64_t value) {
    if (value < 16) return value;
    const auto power = static_cast<std::size_t>(std::bit_width(value)) - 5;  // 0 for 16 to 31
    const std::size_t index = 16 * (power + 1) + ((value >> power) & 15);
    return index < kBuckets ? index : kBuckets - 1;
  }
  static std::uint64_t lowest_of(std::size_t index) {
    if (index < 16) return index;
    return (16 + index % 16) << (index / 16 - 1);
  }

  std::array<std::uint64_t, kBuckets> buckets_{};
  std::uint64_t count_ = 0;
  base::Duration longest_{};
};

}  // namespace squall::inject
