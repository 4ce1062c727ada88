#include "evidence/histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace squall::evidence {
namespace {

constexpr std::uint32_t kSubBits = 7;  // 128 buckets to a power of two
constexpr std::uint32_t kSubBuckets = 1u << kSubBits;
constexpr std::uint32_t kLowestExponent = 9;    // below 512 ns: the first bucket
constexpr std::uint32_t kHighestExponent = 42;  // from 2^42 ns = 73 min on: the last bucket
constexpr std::uint32_t kBuckets = 2 + (kHighestExponent - kLowestExponent) * kSubBuckets;

// What a cleared histogram keeps the memory of: values within a factor of sixteen. More would let
// every histogram grow to the widest range that it ever met.
constexpr std::size_t kKeptBuckets = 4 * kSubBuckets;

std::uint32_t index_of(std::uint64_t nanoseconds) {
  if (nanoseconds < (1ull << kLowestExponent)) return 0;
  const std::uint32_t exponent = static_cast<std::uint32_t>(std::bit_width(nanoseconds)) - 1;
  if (exponent >= kHighestExponent) return kBuckets - 1;
  const auto sub = static_cast<std::uint32_t>(nanoseconds >> (exponent - kSubBits)) - kSubBuckets;
  return 1 + (exponent - kLowestExponent) * kSubBuckets + sub;
}

std::uint64_t lower_bound_of(std::uint32_t index) {
  if (index == 0) return 0;
  const std::uint32_t exponent = kLowestExponent + (index - 1) / kSubBuckets;
  const std::uint64_t sub = (index - 1) % kSubBuckets;
  return (kSubBuckets + sub) << (exponent - kSubBits);
}

std::uint64_t upper_bound_of(std::uint32_t index) {
  if (index + 1 >= kBuckets) return std::numeric_limits<std::int64_t>::max();
  return lower_bound_of(index + 1);
}

std::uint64_t middle_of(std::uint32_t index) {
  return lower_bound_of(index) + (upper_bound_of(index) - lower_bound_of(index)) / 2;
}

void append_varint(std::string& out, std::uint64_t value) {
  while (value >= 0x80) {
    out.push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  out.push_back(static_cast<char>(value));
}

// For bytes that decode() has checked or packed() has made.
std::uint64_t take_varint(const char*& position) {
  std::uint64_t value = 0;
  int shift = 0;
  while (true) {
    const auto byte = static_cast<std::uint8_t>(*position++);
    value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return value;
    shift += 7;
  }
}

base::Error corrupt() {
  return {.code = base::ErrorCode::kCorrupt, .message = "a histogram that is not one of ours"};
}

// Whether `packed` is ascending buckets whose counts add up to `count`.
bool is_valid(std::string_view packed, std::uint64_t count) {
  base::ByteReader reader(std::as_bytes(std::span(packed)));
  std::uint64_t index = 0;
  std::uint64_t total = 0;
  for (bool first = true; !reader.at_end(); first = false) {
    const std::uint64_t distance = reader.varint();
    const std::uint64_t here = reader.varint();
    if (reader.failed() || (distance == 0 && !first) || distance >= kBuckets || here == 0)
      return false;
    index += distance;
    if (index >= kBuckets || here > count - total) return false;
    total += here;
  }
  return total == count;
}

}  // namespace

template <typename Visit>
void Histogram::visit_buckets(Visit&& visit) const {
  if (!packed_.empty()) {
    const char* position = packed_.data();
    const char* end = position + packed_.size();
    std::uint32_t index = 0;
    while (position != end) {
      index += static_cast<std::uint32_t>(take_varint(position));
      if (!visit(index, take_varint(position))) return;
    }
    return;
  }
  for (std::size_t i = 0; i < counts_.size(); ++i) {
    if (counts_[i] == 0) continue;
    if (!visit(first_ + static_cast<std::uint32_t>(i), counts_[i])) return;
  }
}

void Histogram::make_room(std::uint32_t first, std::uint32_t last) {
  if (counts_.empty()) {
    first_ = first;
    counts_.resize(last - first + 1);
    return;
  }
  if (first < first_) {
    counts_.insert(counts_.begin(), first_ - first, 0);
    first_ = first;
  }
  if (last >= first_ + counts_.size()) counts_.resize(last - first_ + 1);
}

void Histogram::add_at(std::uint32_t index, std::uint64_t count) {
  if (index < first_ || index - first_ >= counts_.size()) make_room(index, index);
  counts_[index - first_] += count;
}

void Histogram::unfold() {
  if (packed_.empty()) return;
  std::string packed;
  packed.swap(packed_);
  const char* position = packed.data();
  const char* end = position + packed.size();
  std::uint32_t index = 0;
  while (position != end) {
    index += static_cast<std::uint32_t>(take_varint(position));
    add_at(index, take_varint(position));
  }
}

void Histogram::add(base::Duration value, std::uint64_t count) {
  if (count == 0) return;
  unfold();
  value = std::max(value, base::Duration::zero());
  add_at(index_of(static_cast<std::uint64_t>(value.count())), count);
  minimum_ = count_ == 0 ? value : std::min(minimum_, value);
  maximum_ = std::max(maximum_, value);
  count_ += count;
  const double seconds = base::to_seconds(value);
  sum_seconds_ += seconds * static_cast<double>(count);
  sum_of_squares_ += seconds * seconds * static_cast<double>(count);
}

void Histogram::merge(const Histogram& other) {
  if (other.empty()) return;
  if (empty()) {
    // Also right when `this` keeps memory from before: the copy reuses it.
    *this = other;
    return;
  }
  unfold();
  other.visit_buckets([&](std::uint32_t index, std::uint64_t count) {
    add_at(index, count);
    return true;
  });
  minimum_ = std::min(minimum_, other.minimum_);
  maximum_ = std::max(maximum_, other.maximum_);
  count_ += other.count_;
  sum_seconds_ += other.sum_seconds_;
  sum_of_squares_ += other.sum_of_squares_;
}

void Histogram::clear() {
  first_ = 0;
  if (counts_.capacity() > kKeptBuckets) {
    counts_ = {};
  } else {
    counts_.clear();
  }
  packed_.clear();
  count_ = 0;
  minimum_ = maximum_ = base::Duration::zero();
  sum_seconds_ = sum_of_squares_ = 0;
}

std::string Histogram::packed() const {
  if (!packed_.empty()) return packed_;
  std::string out;
  std::uint32_t previous = 0;
  visit_buckets([&](std::uint32_t index, std::uint64_t count) {
    append_varint(out, index - previous);
    append_varint(out, count);
    previous = index;
    return true;
  });
  return out;
}

void Histogram::compact() {
  if (counts_.empty()) return;
  std::string form = packed();
  form.shrink_to_fit();
  packed_ = std::move(form);
  std::vector<std::uint64_t>().swap(counts_);
  first_ = 0;
}

double Histogram::mean_seconds() const {
  return count_ == 0 ? 0 : sum_seconds_ / static_cast<double>(count_);
}

base::Duration Histogram::quantile(double q) const {
  if (count_ == 0) return {};
  const double wanted = std::ceil(std::clamp(q, 0.0, 1.0) * static_cast<double>(count_));
  const std::uint64_t rank =
      std::clamp<std::uint64_t>(static_cast<std::uint64_t>(wanted), 1, count_);
  if (rank == 1) return minimum_;
  if (rank == count_) return maximum_;
  std::uint64_t seen = 0;
  base::Duration result = maximum_;
  visit_buckets([&](std::uint32_t index, std::uint64_t count) {
    seen += count;
    if (seen < rank) return true;
    result = base::Duration(static_cast<std::int64_t>(middle_of(index)));
    return false;
  });
  return std::clamp(result, minimum_, maximum_);
}

std::uint64_t Histogram::count_above(base::Duration value) const {
  if (count_ == 0 || value >= maximum_) return 0;
  if (value < minimum_) return count_;
  const auto limit = static_cast<std::uint64_t>(value.count());
  std::uint64_t above = 0;
  visit_buckets([&](std::uint32_t index, std::uint64_t count) {
    if (middle_of(index) > limit) above += count;
    return true;
  });
  return above;
}

std::vector<Histogram::Bucket> Histogram::buckets() const {
  std::vector<Bucket> out;
  visit_buckets([&](std::uint32_t index, std::uint64_t count) {
    out.push_back({base::Duration(static_cast<std::int64_t>(lower_bound_of(index))),
                   base::Duration(static_cast<std::int64_t>(upper_bound_of(index))), count});
    return true;
  });
  return out;
}

void Histogram::encode(base::ByteWriter& out) const {
  out.varint(count_);
  if (count_ == 0) return;
  out.varint(static_cast<std::uint64_t>(minimum_.count()));
  out.varint(static_cast<std::uint64_t>((maximum_ - minimum_).count()));
  out.f64(sum_seconds_);
  out.f64(sum_of_squares_);
  out.text(packed());
}

base::Result<Histogram> Histogram::decode(base::ByteReader& in) {
  Histogram histogram;
  histogram.count_ = in.varint();
  if (in.failed()) return corrupt();
  if (histogram.count_ == 0) return histogram;
  const std::uint64_t minimum = in.varint();
  const std::uint64_t spread = in.varint();
  histogram.sum_seconds_ = in.f64();
  histogram.sum_of_squares_ = in.f64();
  const std::string_view packed = in.text();
  constexpr std::uint64_t kLargest = std::numeric_limits<std::int64_t>::max();
  if (in.failed() || minimum > kLargest || spread > kLargest - minimum) return corrupt();
  if (!std::isfinite(histogram.sum_seconds_) || !std::isfinite(histogram.sum_of_squares_))
    return corrupt();
  if (!is_valid(packed, histogram.count_)) return corrupt();
  histogram.minimum_ = base::Duration(static_cast<std::int64_t>(minimum));
  histogram.maximum_ = base::Duration(static_cast<std::int64_t>(minimum + spread));
  histogram.packed_ = packed;
  return histogram;
}

}  // namespace squall::evidence
