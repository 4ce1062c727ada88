#pragma once
// A statistic of a stretch of evidence with its interval. Whatever is judged exactly has an
// interval of no width. Absent: there is nothing to estimate from.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "evidence/sample.h"
#include "judge/statistics.h"

namespace squall::judge {

struct Estimate {
  Bounded bounded;
  bool exact = true;
  // The bounds are facts, not statistics: what is unknown (writes that could not be read back) may
  // lie anywhere between them.
  bool incomplete = false;
  std::uint64_t samples = 0;
  double effective = 0;  // 0 when exact
  std::string method;
};

enum class RequestTime { kResponse, kService, kLag };
const evidence::Histogram& times_of(const evidence::RequestBucket& bucket, RequestTime which);
evidence::Histogram merged(std::span<const evidence::RequestBucket> buckets, RequestTime which);

Estimate exact_estimate(double value, std::uint64_t samples);

std::optional<Estimate> success_share(std::span<const evidence::RequestBucket> all);
// The share of `all` that is in `chosen`: a slice of the same probe.
std::optional<Estimate> slice_share(std::span<const evidence::RequestBucket> all,
                                    std::span<const evidence::RequestBucket> chosen);
// Of request times, in seconds.
std::optional<Estimate> mean_of(std::span<const evidence::RequestBucket> buckets,
                                RequestTime which);
std::optional<Estimate> quantile_of(std::span<const evidence::RequestBucket> buckets,
                                    RequestTime which, double quantile);
// Of numbers in time order.
std::optional<Estimate> mean_of(std::span<const double> values);
std::optional<Estimate> quantile_of(std::span<const double> values, double quantile);

}  // namespace squall::judge
