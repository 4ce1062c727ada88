#include "evidence/histogram.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/random.h"

namespace squall::evidence {
namespace {

using std::chrono::hours;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

Histogram histogram_of(const std::vector<std::int64_t>& values) {
  Histogram histogram;
  for (const std::int64_t value : values) histogram.add(nanoseconds(value));
  return histogram;
}

Histogram recoded(const Histogram& histogram) {
  base::ByteWriter out;
  histogram.encode(out);
  base::ByteReader in(out.bytes());
  auto decoded = Histogram::decode(in);
  EXPECT_TRUE(decoded.ok());
  EXPECT_TRUE(in.at_end());
  return *std::move(decoded);
}

void expect_same(const Histogram& a, const Histogram& b) {
  EXPECT_EQ(a.count(), b.count());
  EXPECT_EQ(a.minimum(), b.minimum());
  EXPECT_EQ(a.maximum(), b.maximum());
  EXPECT_EQ(a.buckets(), b.buckets());
  const auto near = [](double x, double y) { return std::abs(x - y) <= 1e-9 * (1 + std::abs(x)); };
  EXPECT_TRUE(near(a.sum_seconds(), b.sum_seconds()));
  EXPECT_TRUE(near(a.sum_of_squares(), b.sum_of_squares()));
}

rc::Gen<std::vector<std::int64_t>> durations() {
  // Spread over all magnitudes, not only the large ones.
  return rc::gen::container<std::vector<std::int64_t>>(rc::gen::map(
      rc::gen::pair(rc::gen::inRange(0, 43), rc::gen::inRange<std::int64_t>(0, 1000)),
      [](std::pair<int, std::int64_t> p) {
        return (std::int64_t{1} << p.first) + (std::int64_t{1} << p.first) / 1000 * p.second;
      }));
}

TEST(Histogram, EmptyAnswersZero) {
  const Histogram histogram;
  EXPECT_TRUE(histogram.empty());
  EXPECT_EQ(histogram.quantile(0.99), nanoseconds(0));
  EXPECT_EQ(histogram.mean_seconds(), 0);
  EXPECT_EQ(histogram.count_above(nanoseconds(0)), 0u);
  EXPECT_TRUE(recoded(histogram).empty());
}

TEST(Histogram, BucketsAreAtMostOnePerCentWideFromOneMicrosecondToOneHour) {
  for (double value = 1000; value <= 3.6e12; value *= 1.0007) {
    Histogram histogram;
    histogram.add(nanoseconds(static_cast<std::int64_t>(value)));
    const auto buckets = histogram.buckets();
    ASSERT_EQ(buckets.size(), 1u);
    const auto lower = static_cast<double>(buckets[0].lower.count());
    const auto upper = static_cast<double>(buckets[0].upper.count());
    ASSERT_LE(lower, value);
    ASSERT_GT(upper, std::floor(value));
    ASSERT_LE((upper - lower) / lower, 0.01) << value;
  }
}

TEST(Histogram, BucketsMeetWithoutGaps) {
  Histogram histogram;
  for (double value = 600; value <= 4e12; value *= 1.001)
    histogram.add(nanoseconds(static_cast<std::int64_t>(value)));
  const auto buckets = histogram.buckets();
  for (std::size_t i = 1; i < buckets.size(); ++i)
    ASSERT_EQ(buckets[i - 1].upper, buckets[i].lower) << i;
}

TEST(Histogram, QuantilesAreWithinHalfAPerCentOfTheExactRank) {
  base::Random random(7);
  std::vector<std::int64_t> values;
  for (int i = 0; i < 20000; ++i)
    values.push_back(1000 + static_cast<std::int64_t>(random.exponential(5e6)));
  const Histogram histogram = histogram_of(values);
  std::sort(values.begin(), values.end());
  for (const double q : {0.0, 0.001, 0.5, 0.9, 0.99, 0.999, 1.0}) {
    const auto rank =
        static_cast<std::size_t>(std::max(1.0, std::ceil(q * static_cast<double>(values.size()))));
    const auto exact = static_cast<double>(values[rank - 1]);
    EXPECT_NEAR(static_cast<double>(histogram.quantile(q).count()), exact, 0.005 * exact) << q;
  }
}

TEST(Histogram, ExtremesAreExact) {
  const Histogram histogram = histogram_of({1'234'567, 7'654'321, 99'999'999});
  EXPECT_EQ(histogram.quantile(0), nanoseconds(1'234'567));
  EXPECT_EQ(histogram.quantile(1), nanoseconds(99'999'999));
  EXPECT_DOUBLE_EQ(histogram.mean_seconds(), (1'234'567 + 7'654'321 + 99'999'999) / 3e9);
}

TEST(Histogram, ValuesOutsideTheRangeAreCounted) {
  Histogram histogram;
  histogram.add(nanoseconds(-5));
  histogram.add(nanoseconds(3));
  histogram.add(hours(30));
  EXPECT_EQ(histogram.count(), 3u);
  EXPECT_EQ(histogram.minimum(), nanoseconds(0));
  EXPECT_EQ(histogram.maximum(), hours(30));
  EXPECT_EQ(histogram.quantile(1), hours(30));
  expect_same(histogram, recoded(histogram));
}

TEST(Histogram, CountAboveCountsByBucketMiddle) {
  Histogram histogram;
  histogram.add(milliseconds(1), 10);
  histogram.add(milliseconds(100), 5);
  histogram.add(seconds(2), 1);
  EXPECT_EQ(histogram.count_above(microseconds(500)), 16u);
  EXPECT_EQ(histogram.count_above(milliseconds(10)), 6u);
  EXPECT_EQ(histogram.count_above(seconds(1)), 1u);
  EXPECT_EQ(histogram.count_above(seconds(2)), 0u);
}

TEST(Histogram, ClearForgetsEverything) {
  Histogram histogram = histogram_of({1'000'000'000, 2'000'000'000});
  histogram.clear();
  histogram.add(microseconds(20));
  expect_same(histogram, histogram_of({20'000}));
}

RC_GTEST_PROP(Histogram, MergingIsAddingEverything, ()) {
  const auto a = *durations();
  const auto b = *durations();
  Histogram merged = histogram_of(a);
  Histogram other = histogram_of(b);
  if (*rc::gen::arbitrary<bool>()) merged.compact();
  if (*rc::gen::arbitrary<bool>()) other = recoded(other);
  merged.merge(other);
  std::vector<std::int64_t> all = a;
  all.insert(all.end(), b.begin(), b.end());
  expect_same(merged, histogram_of(all));
}

RC_GTEST_PROP(Histogram, DecodingGivesWhatWasEncoded, ()) {
  const Histogram histogram = histogram_of(*durations());
  const Histogram decoded = recoded(histogram);
  expect_same(histogram, decoded);
  for (const double q : {0.0, 0.25, 0.5, 0.99, 1.0})
    RC_ASSERT(histogram.quantile(q) == decoded.quantile(q));
  // Adding to what was decoded goes on where it was.
  Histogram grown = decoded;
  grown.add(milliseconds(3));
  Histogram expected = histogram;
  expected.add(milliseconds(3));
  expect_same(grown, expected);
}

RC_GTEST_PROP(Histogram, QuantilesNeverDecrease, ()) {
  const Histogram histogram = histogram_of(*rc::gen::nonEmpty(durations()));
  nanoseconds previous{0};
  for (double q = 0; q <= 1; q += 0.01) {
    RC_ASSERT(histogram.quantile(q) >= previous);
    previous = histogram.quantile(q);
  }
}

RC_GTEST_PROP(Histogram, DecodingGarbageNeverCrashes, ()) {
  const auto bytes = *rc::gen::arbitrary<std::vector<std::uint8_t>>();
  base::ByteReader in(std::as_bytes(std::span(bytes)));
  const auto decoded = Histogram::decode(in);
  if (decoded.ok()) {
    std::uint64_t total = 0;
    for (const auto& bucket : decoded->buckets()) total += bucket.count;
    RC_ASSERT(total == decoded->count());
  }
}

TEST(Histogram, RefusesBucketsThatDoNotAddUp) {
  base::ByteWriter out;
  out.varint(5);
  out.varint(1000);
  out.varint(0);
  out.f64(1);
  out.f64(1);
  out.text(std::string("\x01\x04", 2));  // bucket 1 holds 4, not 5
  base::ByteReader in(out.bytes());
  EXPECT_FALSE(Histogram::decode(in).ok());
}

}  // namespace
}  // namespace squall::evidence
