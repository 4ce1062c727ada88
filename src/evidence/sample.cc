#include "evidence/sample.h"

#include <numeric>

#include "base/check.h"

namespace squall::evidence {

std::string_view to_string(Outcome outcome) {
  switch (outcome) {
    case Outcome::kOk:
      return "ok";
    case Outcome::kStatus:
      return "status";
    case Outcome::kBadBody:
      return "bad_body";
    case Outcome::kTimeout:
      return "timeout";
    case Outcome::kReset:
      return "reset";
    case Outcome::kConnect:
      return "connect";
    case Outcome::kTls:
      return "tls";
    case Outcome::kProtocol:
      return "protocol";
  }
  base::check_failed("outcome is known", __FILE__, __LINE__);
}

std::uint64_t RequestBucket::count() const {
  return std::accumulate(outcomes.begin(), outcomes.end(), std::uint64_t{0});
}

void RequestBucket::merge(const RequestBucket& other) {
  for (std::size_t i = 0; i < kOutcomes; ++i) outcomes[i] += other.outcomes[i];
  dropped += other.dropped;
  response_time.merge(other.response_time);
  service_time.merge(other.service_time);
  lag.merge(other.lag);
}

void RequestBucket::clear() {
  outcomes.fill(0);
  dropped = 0;
  response_time.clear();
  service_time.clear();
  lag.clear();
}

base::Instant bucket_start(base::Instant at) {
  const std::int64_t width = kBucketWidth.count();
  const std::int64_t nanoseconds = base::to_nanoseconds(at);
  std::int64_t remainder = nanoseconds % width;
  if (remainder < 0) remainder += width;
  return base::instant_from_nanoseconds(nanoseconds - remainder);
}

}  // namespace squall::evidence
