// Coverage of the judge's 95 % intervals: how often the interval of a simulated phase contains the
// truth. Samples are a monotone transform of a Gaussian AR(1) process, 4,000 of them, 20 to a
// bucket of 100 ms, as a probe at 200/s for 20 s would record them. Usage: coverage_bench [trials]

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "base/random.h"
#include "evidence/histogram.h"
#include "judge/estimate.h"

namespace {

using squall::base::Random;
using squall::evidence::Outcome;
using squall::evidence::RequestBucket;
using squall::judge::Estimate;

constexpr int kBuckets = 200;
constexpr int kPerBucket = 20;
constexpr double kSpread = 0.5;          // of the logarithm of the latency
constexpr double kMedianSeconds = 0.02;  // 20 ms
constexpr double kShares[] = {0.98, 0.99, 0.995};
constexpr double kThresholds[] = {-2.0537489106318225, -2.3263478740408408, -2.5758293035489004};
constexpr double kP99 = 2.3263478740408408;

struct Trial {
  std::vector<RequestBucket> latency;
  std::vector<RequestBucket> outcomes[3];
};

Trial simulate(Random& random, double rho) {
  Trial trial;
  double state = random.normal();
  const double innovation = std::sqrt(1 - rho * rho);
  for (int b = 0; b < kBuckets; ++b) {
    RequestBucket bucket;
    bucket.start = squall::base::instant_from_nanoseconds(100'000'000LL * b);
    RequestBucket shares[3];
    for (int i = 0; i < kPerBucket; ++i) {
      const double seconds = kMedianSeconds * std::exp(kSpread * state);
      bucket.response_time.add(squall::base::Duration(std::llround(seconds * 1e9)));
      for (int k = 0; k < 3; ++k) {
        const bool ok = state > kThresholds[k];
        ++shares[k].outcomes[static_cast<std::size_t>(ok ? Outcome::kOk : Outcome::kTimeout)];
      }
      state = rho * state + innovation * random.normal();
    }
    bucket.outcomes[0] = kPerBucket;
    trial.latency.push_back(bucket);
    for (int k = 0; k < 3; ++k) trial.outcomes[k].push_back(shares[k]);
  }
  return trial;
}

struct Tally {
  int inside = 0;
  int above = 0;  // the interval lies above the truth
  int below = 0;
  double width = 0;

  void add(const Estimate& estimate, double truth) {
    if (estimate.bounded.interval.low > truth)
      ++above;
    else if (estimate.bounded.interval.high < truth)
      ++below;
    else
      ++inside;
    width += (estimate.bounded.interval.high - estimate.bounded.interval.low) / truth;
  }
  void print(const char* what, double rho, int trials) const {
    const double share = 100.0 * inside / trials;
    std::printf("%-12s %4.2f  %6.2f %%  %5.2f %%  %5.2f %%   %6.2f %%  %s\n", what, rho, share,
                100.0 * above / trials, 100.0 * below / trials, 100 * width / trials,
                rho > 0.8                    ? "(no bar)"
                : share >= 93 && share <= 97 ? "in the bar"
                                             : "OUTSIDE 93 to 97 %");
  }
};

}  // namespace

int main(int argc, char** argv) {
  const int trials = argc > 1 ? std::atoi(argv[1]) : 6000;
  std::printf("coverage of 95 %% intervals, %d trials a row, n = %d in %d buckets\n", trials,
              kBuckets * kPerBucket, kBuckets);
  std::printf("%-12s %4s  %8s  %7s  %7s   %8s\n", "what", "rho", "inside", "above", "below",
              "width");
  for (const double rho : {0.0, 0.5, 0.8, 0.9}) {
    Random random(20261121);
    Tally shares[3];
    Tally mean;
    Tally p99;
    for (int t = 0; t < trials; ++t) {
      const Trial trial = simulate(random, rho);
      for (int k = 0; k < 3; ++k) {
        shares[k].add(*squall::judge::success_share(trial.outcomes[k]), kShares[k]);
      }
      mean.add(*squall::judge::mean_of(trial.latency, squall::judge::RequestTime::kResponse),
               kMedianSeconds * std::exp(kSpread * kSpread / 2));
      p99.add(
          *squall::judge::quantile_of(trial.latency, squall::judge::RequestTime::kResponse, 0.99),
          kMedianSeconds * std::exp(kSpread * kP99));
    }
    shares[0].print("share 98 %", rho, trials);
    shares[1].print("share 99 %", rho, trials);
    shares[2].print("share 99.5 %", rho, trials);
    mean.print("mean", rho, trials);
    p99.print("p99", rho, trials);
  }
  return 0;
}
