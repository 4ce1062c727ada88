#pragma once
#include <array>
#include <cstdint>

namespace squall::base {

// xoshiro256** (Blackman and Vigna 2018), seeded by SplitMix64: the same seed gives the same
// decisions on every machine and compiler, which the standard library's distributions do not.
// Every random decision of a run comes from one of these, seeded from the plan.
class Random {
 public:
  explicit Random(std::uint64_t seed);
  std::uint64_t next();
  double uniform();                          // [0, 1)
  std::uint64_t below(std::uint64_t limit);  // [0, limit), unbiased; limit > 0
  double exponential(double mean);           // for Poisson arrivals
  double normal();                           // mean 0, deviation 1

 private:
  std::array<std::uint64_t, 4> state_;
};

}  // namespace squall::base
