#include "observe/schedule.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

namespace squall::observe {
namespace {

constexpr double kForever = std::numeric_limits<double>::infinity();
// Arrivals this near to the end of a segment belong to the next one: rates such as 0.1/s are not
// exact in binary.
constexpr double kCountTolerance = 1e-9;

base::Duration from_seconds(double seconds) {
  return base::Duration{std::llround(seconds * 1e9)};
}

}  // namespace

void ArrivalSchedule::append(double length, double rate_begin, double rate_end) {
  Segment segment{.begin = 0,
                  .length = length,
                  .rate_begin = rate_begin,
                  .rate_end = rate_end,
                  .count_before = 0};
  if (!segments_.empty()) {
    const Segment& last = segments_.back();
    segment.begin = last.begin + last.length;
    segment.count_before = last.count_before + last.count();
  }
  segments_.push_back(segment);
  peak_rate_ = std::max({peak_rate_, rate_begin, rate_end});
}

ArrivalSchedule ArrivalSchedule::constant(double rate) {
  ArrivalSchedule schedule;
  schedule.append(kForever, rate, rate);
  return schedule;
}

ArrivalSchedule ArrivalSchedule::poisson(double rate, std::uint64_t seed) {
  ArrivalSchedule schedule;
  schedule.random_.emplace(seed);
  schedule.random_rate_ = rate;
  schedule.peak_rate_ = rate;
  return schedule;
}

ArrivalSchedule ArrivalSchedule::ramp(double from, double to, base::Duration over) {
  ArrivalSchedule schedule;
  if (over > base::Duration::zero()) schedule.append(base::to_seconds(over), from, to);
  schedule.append(kForever, to, to);
  return schedule;
}

ArrivalSchedule ArrivalSchedule::steps(const std::vector<Step>& steps) {
  ArrivalSchedule schedule;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const bool last = i + 1 == steps.size();
    if (!last && steps[i].length <= base::Duration::zero()) continue;
    schedule.append(last ? kForever : base::to_seconds(steps[i].length), steps[i].rate,
                    steps[i].rate);
  }
  return schedule;
}

base::Result<ArrivalSchedule> ArrivalSchedule::make(const model::Parameters& load,
                                                    std::uint64_t seed) {
  const std::string shape = load.text("shape");
  if (shape == "constant") return constant(load.number("rate"));
  if (shape == "poisson") return poisson(load.number("rate"), seed);
  if (shape == "ramp") return ramp(load.number("from"), load.number("to"), load.duration("over"));
  if (shape == "step") {
    std::vector<Step> list;
    for (const auto& step : load.json().at("steps")) {
      list.push_back({.rate = step.at("rate").get<double>(),
                      .length = base::Duration{step.value("for", std::int64_t{0})}});
    }
    if (!list.empty()) return steps(list);
  }
  return base::Error{.code = base::ErrorCode::kBadFile,
                     .message = "the load profile `" + shape + "` is not known",
                     .hint = "write a rate such as 200/s, or one of poisson, ramp, step"};
}

std::optional<double> ArrivalSchedule::planned() {
  while (current_ < segments_.size()) {
    const Segment& segment = segments_[current_];
    const double peak = std::max(segment.rate_begin, segment.rate_end);
    const bool last = current_ + 1 == segments_.size();
    if (peak <= 0 ||
        (!last && number_ + kCountTolerance >= segment.count_before + segment.count())) {
      if (last) return std::nullopt;
      ++current_;
      continue;
    }
    const double wanted = std::max(0.0, number_ - segment.count_before);
    const double slope = last ? 0 : (segment.rate_end - segment.rate_begin) / segment.length;
    // The root of rate_begin * t + slope * t^2 / 2 = wanted, in the form that loses no digits.
    const double under_root =
        std::max(0.0, segment.rate_begin * segment.rate_begin + 2 * slope * wanted);
    const double divisor = segment.rate_begin + std::sqrt(under_root);
    const double offset = wanted > 0 && divisor > 0 ? 2 * wanted / divisor : 0;
    number_ += 1;
    return segment.begin + offset;
  }
  return std::nullopt;
}

std::optional<base::Duration> ArrivalSchedule::next() {
  if (random_) {
    if (random_rate_ <= 0) return std::nullopt;
    random_time_ += random_->exponential(1 / random_rate_);
    return from_seconds(random_time_);
  }
  const std::optional<double> seconds = planned();
  if (!seconds) return std::nullopt;
  return from_seconds(*seconds);
}

}  // namespace squall::observe
