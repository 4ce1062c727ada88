#pragma once
// A mergeable log-linear histogram of durations: relative error at most 1 % of the value (0.5 %
// when the middle of the bucket is reported), from 1 us to about 1 h; shorter and longer values are
// counted in the end buckets, and the exact minimum, maximum and sum are kept beside.
//
// Each power of two of nanoseconds from 2^9 to 2^42 is cut into 128 buckets of equal width, so that
// a bucket is at most 1/128 = 0.78 % of its lower bound wide. A histogram that is being filled
// keeps a contiguous range of counts; one that was decoded keeps the bytes it came from, so that a
// record with a hundred thousand of them needs no more memory than file.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/frame.h"

namespace squall::evidence {

// Not thread-safe.
class Histogram {
 public:
  // Negative values count as 0.
  void add(base::Duration value, std::uint64_t count = 1);
  void merge(const Histogram& other);
  void clear();    // keeps the memory of an ordinary range, to be refilled without allocation
  void compact();  // the smallest form; a later add or merge unfolds it again

  std::uint64_t count() const { return count_; }
  bool empty() const { return count_ == 0; }
  base::Duration minimum() const { return minimum_; }  // exact; 0 when empty
  base::Duration maximum() const { return maximum_; }  // exact
  double mean_seconds() const;                         // exact
  double sum_seconds() const { return sum_seconds_; }
  double sum_of_squares() const { return sum_of_squares_; }  // seconds squared, for variances
  // The value at rank ceil(q * count), 0 <= q <= 1; 0 when empty. The first and the last rank are
  // exact, those between are the middle of their bucket.
  base::Duration quantile(double q) const;
  // How many values are (surely or by bucket middle) above `value`.
  std::uint64_t count_above(base::Duration value) const;

  // Non-empty buckets in order: bounds of the bucket (lower inclusive) and its count. The last
  // bucket has no upper bound of its own; the largest Duration stands for it.
  struct Bucket {
    base::Duration lower;
    base::Duration upper;
    std::uint64_t count;
    bool operator==(const Bucket&) const = default;
  };
  std::vector<Bucket> buckets() const;

  void encode(base::ByteWriter& out) const;  // sparse
  // kCorrupt when the bytes are not a histogram. Allocates no more than it reads.
  static base::Result<Histogram> decode(base::ByteReader& in);

 private:
  // Calls visit(index, count) for each non-empty bucket, ascending; stops when it returns false.
  template <typename Visit>
  void visit_buckets(Visit&& visit) const;
  void add_at(std::uint32_t index, std::uint64_t count);
  void make_room(std::uint32_t first, std::uint32_t last);
  void unfold();
  std::string packed() const;

  std::uint32_t first_ = 0;            // index of counts_[0]
  std::vector<std::uint64_t> counts_;  // contiguous range of buckets in use; empty when packed
  std::string packed_;                 // pairs of varints: distance to the bucket before, count
  std::uint64_t count_ = 0;
  base::Duration minimum_{};
  base::Duration maximum_{};
  double sum_seconds_ = 0;
  double sum_of_squares_ = 0;
};

}  // namespace squall::evidence
