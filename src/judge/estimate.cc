#include "judge/estimate.h"

#include <algorithm>
#include <cmath>

namespace squall::judge {
namespace {

using evidence::Histogram;
using evidence::RequestBucket;

constexpr const char* kWilson = "Wilson interval, 95 %";
constexpr const char* kBatchMeans = "mean with batch variance, 95 %";
constexpr const char* kOrderStatistics = "order statistics, 95 %";

Estimate share_estimate(std::span<const Unit> units) {
  double count = 0;
  double hits = 0;
  for (const Unit& unit : units) {
    count += unit.count;
    hits += unit.sum;
  }
  const double share = hits / count;
  const Worth worth = worth_of(units, share, share * (1 - share));
  return {.bounded = {share, share_interval(share, worth.effective)},
          .exact = false,
          .incomplete = false,
          .samples = static_cast<std::uint64_t>(count),
          .effective = worth.effective,
          .method = kWilson};
}

Estimate mean_estimate(std::span<const Unit> units, double mean, double variance) {
  const Worth worth = worth_of(units, mean, variance);
  return {.bounded = {mean, mean_interval(mean, variance, worth.effective)},
          .exact = false,
          .incomplete = false,
          .samples = static_cast<std::uint64_t>(worth.samples),
          .effective = worth.effective,
          .method = kBatchMeans};
}

// The number that has `above` of the histogram's values above it; the values of a bucket count as
// spread evenly over its width.
double value_with_above(const std::vector<Histogram::Bucket>& buckets, const Histogram& histogram,
                        double above) {
  double seen = 0;
  for (auto bucket = buckets.rbegin(); bucket != buckets.rend(); ++bucket) {
    const auto count = static_cast<double>(bucket->count);
    if (seen + count >= above) {
      const double upper = base::to_seconds(std::min(bucket->upper, histogram.maximum()));
      const double lower = base::to_seconds(std::max(bucket->lower, histogram.minimum()));
      return upper - (above - seen) / count * (upper - lower);
    }
    seen += count;
  }
  return base::to_seconds(histogram.minimum());
}

// As above, of sorted numbers: each stands for the middle of its own step.
double value_with_above(const std::vector<double>& sorted, double above) {
  const double last = static_cast<double>(sorted.size()) - 1;
  const double position = std::clamp(last + 0.5 - above, 0.0, last);
  const auto index = static_cast<std::size_t>(position);
  if (index + 1 >= sorted.size()) return sorted.back();
  const double fraction = position - static_cast<double>(index);
  return sorted[index] + fraction * (sorted[index + 1] - sorted[index]);
}

// The interval of a quantile, given what has how many values above it.
template <typename ValueWithAbove>
Estimate quantile_estimate(std::span<const Unit> exceedances, double value, double quantile,
                           const ValueWithAbove& value_with) {
  double count = 0;
  double above = 0;
  for (const Unit& unit : exceedances) {
    count += unit.count;
    above += unit.sum;
  }
  const double share = above / count;
  const Worth worth = worth_of(exceedances, share, share * (1 - share));
  const Exceedances bounds = quantile_exceedances(quantile, count, worth.effective);
  Interval interval{-kUnbounded, kUnbounded};
  if (bounds.fewest >= 0) interval.high = std::max(value, value_with(bounds.fewest));
  if (bounds.most <= count) interval.low = std::min(value, value_with(bounds.most));
  return {.bounded = {value, interval},
          .exact = false,
          .incomplete = false,
          .samples = static_cast<std::uint64_t>(count),
          .effective = worth.effective,
          .method = kOrderStatistics};
}

}  // namespace

const Histogram& times_of(const RequestBucket& bucket, RequestTime which) {
  switch (which) {
    case RequestTime::kService:
      return bucket.service_time;
    case RequestTime::kLag:
      return bucket.lag;
    case RequestTime::kResponse:
      break;
  }
  return bucket.response_time;
}

Histogram merged(std::span<const RequestBucket> buckets, RequestTime which) {
  Histogram all;
  for (const RequestBucket& bucket : buckets) all.merge(times_of(bucket, which));
  return all;
}

Estimate exact_estimate(double value, std::uint64_t samples) {
  return {.bounded = {value, {value, value}},
          .exact = true,
          .incomplete = false,
          .samples = samples,
          .effective = 0,
          .method = "exact"};
}

std::optional<Estimate> success_share(std::span<const RequestBucket> all) {
  std::vector<Unit> units;
  units.reserve(all.size());
  std::uint64_t count = 0;
  for (const RequestBucket& bucket : all) {
    units.push_back({static_cast<double>(bucket.count()), static_cast<double>(bucket.ok())});
    count += bucket.count();
  }
  if (count == 0) return std::nullopt;
  return share_estimate(units);
}

std::optional<Estimate> slice_share(std::span<const RequestBucket> all,
                                    std::span<const RequestBucket> chosen) {
  std::vector<Unit> units;
  units.reserve(all.size());
  std::uint64_t count = 0;
  auto slice = chosen.begin();
  for (const RequestBucket& bucket : all) {
    while (slice != chosen.end() && slice->start < bucket.start) ++slice;
    const bool same = slice != chosen.end() && slice->start == bucket.start;
    // A damaged record may have lost one piece of the whole and kept the slice's.
    const std::uint64_t hits = same ? std::min(slice->count(), bucket.count()) : 0;
    units.push_back({static_cast<double>(bucket.count()), static_cast<double>(hits)});
    count += bucket.count();
  }
  if (count == 0) return std::nullopt;
  return share_estimate(units);
}

std::optional<Estimate> mean_of(std::span<const RequestBucket> buckets, RequestTime which) {
  std::vector<Unit> units;
  units.reserve(buckets.size());
  double count = 0;
  double sum = 0;
  double squares = 0;
  for (const RequestBucket& bucket : buckets) {
    const Histogram& times = times_of(bucket, which);
    units.push_back({static_cast<double>(times.count()), times.sum_seconds()});
    count += static_cast<double>(times.count());
    sum += times.sum_seconds();
    squares += times.sum_of_squares();
  }
  if (count == 0) return std::nullopt;
  const double mean = sum / count;
  return mean_estimate(units, mean, squares / count - mean * mean);
}

std::optional<Estimate> quantile_of(std::span<const RequestBucket> buckets, RequestTime which,
                                    double quantile) {
  const Histogram all = merged(buckets, which);
  if (all.empty()) return std::nullopt;
  const base::Duration value = all.quantile(quantile);
  std::vector<Unit> exceedances;
  exceedances.reserve(buckets.size());
  for (const RequestBucket& bucket : buckets) {
    const Histogram& times = times_of(bucket, which);
    exceedances.push_back(
        {static_cast<double>(times.count()), static_cast<double>(times.count_above(value))});
  }
  const std::vector<Histogram::Bucket> cells = all.buckets();
  return quantile_estimate(exceedances, base::to_seconds(value), quantile,
                           [&](double above) { return value_with_above(cells, all, above); });
}

std::optional<Estimate> mean_of(std::span<const double> values) {
  if (values.empty()) return std::nullopt;
  std::vector<Unit> units;
  units.reserve(values.size());
  double sum = 0;
  for (const double value : values) {
    units.push_back({1, value});
    sum += value;
  }
  const double mean = sum / static_cast<double>(values.size());
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return mean_estimate(units, mean, squares / static_cast<double>(values.size()));
}

std::optional<Estimate> quantile_of(std::span<const double> values, double quantile) {
  if (values.empty()) return std::nullopt;
  std::vector<double> sorted(values.begin(), values.end());
  std::sort(sorted.begin(), sorted.end());
  const double rank = std::ceil(quantile * static_cast<double>(sorted.size()));
  const double value =
      sorted[static_cast<std::size_t>(std::clamp(rank, 1.0, static_cast<double>(sorted.size()))) -
             1];
  std::vector<Unit> exceedances;
  exceedances.reserve(values.size());
  for (const double each : values) exceedances.push_back({1, each > value ? 1.0 : 0.0});
  return quantile_estimate(exceedances, value, quantile,
                           [&](double above) { return value_with_above(sorted, above); });
}

}  // namespace squall::judge
