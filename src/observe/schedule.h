#pragma once
// When an open-loop load wants its requests sent. The times are fixed before the first request and
// depend on nothing that happens later: a slow target does not slow the schedule down.

#include <cstdint>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/random.h"
#include "base/result.h"
#include "model/parameters.h"

namespace squall::observe {

// Deterministic: the same profile and seed give the same times on every machine. Not thread-safe.
class ArrivalSchedule {
 public:
  struct Step {
    double rate = 0;  // per second; 0 is a pause
    base::Duration length{};
  };

  static ArrivalSchedule constant(double rate);
  // Exponential gaps with mean 1 / rate: independent users.
  static ArrivalSchedule poisson(double rate, std::uint64_t seed);
  // The rate changes linearly for `over`, then stays at `to`.
  static ArrivalSchedule ramp(double from, double to, base::Duration over);
  // One rate after another; the last one stays.
  static ArrivalSchedule steps(const std::vector<Step>& steps);
  // From a parameter of type kLoad.
  static base::Result<ArrivalSchedule> make(const model::Parameters& load, std::uint64_t seed);

  // The next arrival as an offset from the start; never smaller than the one before. Absent when no
  // further request is wanted (the rate stays 0).
  std::optional<base::Duration> next();
  double peak_rate() const { return peak_rate_; }

 private:
  // A stretch in which the rate changes linearly. Arrival n is where the integral of the rate
  // reaches n.
  struct Segment {
    double begin = 0;   // seconds from the start
    double length = 0;  // seconds; infinite for the last
    double rate_begin = 0;
    double rate_end = 0;
    double count_before = 0;  // arrivals before `begin`
    double count() const { return length * (rate_begin + rate_end) / 2; }
  };
  ArrivalSchedule() = default;
  void append(double length, double rate_begin, double rate_end);
  std::optional<double> planned();

  std::vector<Segment> segments_;
  std::size_t current_ = 0;
  double number_ = 0;
  std::optional<base::Random> random_;  // Poisson
  double random_rate_ = 0;
  double random_time_ = 0;
  double peak_rate_ = 0;
};

}  // namespace squall::observe
