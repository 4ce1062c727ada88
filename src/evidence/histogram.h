#pragma once
// A mergeable log-linear histogram of durations: relative error at most 1 % of the value (0.5 % when
// the middle of the bucket is reported), from 1 us to about 1 h; shorter and longer values are
// counted in the end buckets, and the exact minimum, maximum and sum are kept beside.

#include <cstdint>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/frame.h"

namespace squall::evidence {

class Histogram {
 public:
  void add(base::Duration value, std::uint64_t count = 1);
  void merge(const Histogram& other);
  void clear();

  std::uint64_t count() const { return count_; }
  bool empty() const { return count_ == 0; }
  base::Duration minimum() const { return minimum_; }  // exact; 0 when empty
  base::Duration maximum() const { return maximum_; }  // exact
  double mean_seconds() const;                         // exact
  double sum_seconds() const { return sum_seconds_; }
  double sum_of_squares() const { return sum_of_squares_; }  // seconds squared, for variances
  // The value at rank ceil(q * count), 0 <= q <= 1; 0 when empty.
  base::Duration quantile(double q) const;
  // How many values are (surely or by bucket middle) above `value`.
  std::uint64_t count_above(base::Duration value) const;

  // Non-empty buckets in order: upper bound of the bucket and its count.
  struct Bucket {
    base::Duration lower;
    base::Duration upper;
    std::uint64_t count;
  };
  std::vector<Bucket> buckets() const;

  void encode(base::ByteWriter& out) const;  // sparse
  static base::Result<Histogram> decode(base::ByteReader& in);

 private:
  std::uint32_t first_ = 0;              // index of counts_[0]
  std::vector<std::uint32_t> counts_;    // contiguous range of buckets in use
  std::uint64_t count_ = 0;
  base::Duration minimum_{};
  base::Duration maximum_{};
  double sum_seconds_ = 0;
  double sum_of_squares_ = 0;
};

}  // namespace squall::evidence
