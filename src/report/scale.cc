#include "report/scale.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/check.h"
#include "report/words.h"

namespace squall::report {
namespace {

constexpr double kTicksWanted = 5;

// The step of 1, 2 or 5 times a power of `base` that gives about five ticks.
double nice_step(double range, double base) {
  const double rough = range / kTicksWanted;
  const double power = std::pow(base, std::floor(std::log(rough) / std::log(base)));
  for (const double factor : {1.0, 2.0, 5.0})
    if (factor < base && power * factor >= rough) return power * factor;
  return power * base;
}

double nice_seconds(double range) {
  constexpr std::array<double, 14> kSteps = {1,   2,   5,   10,  15,   30,   60,
                                             120, 300, 600, 900, 1800, 3600, 7200};
  for (const double step : kSteps)
    if (range / step <= 9) return step;
  return nice_step(range, 10);
}

}  // namespace

Scale::Scale(double low, double high, double from, double to, bool logarithmic)
    : low_(low), high_(high), from_(from), to_(to), logarithmic_(logarithmic) {
  SQUALL_CHECK(high > low && (!logarithmic || low > 0));
}

double Scale::at(double value) const {
  value = std::clamp(value, low_, high_);
  const double share = logarithmic_ ? std::log(value / low_) / std::log(high_ / low_)
                                    : (value - low_) / (high_ - low_);
  return from_ + share * (to_ - from_);
}

std::vector<Tick> Scale::ticks(base::Dimension dimension) const {
  std::vector<Tick> ticks;
  const auto add = [&](double value) {
    // What rounding leaves of a zero.
    if (std::fabs(value) < (high_ - low_) * 1e-9) value = 0;
    std::string label = number_text(value, dimension);
    if (ticks.empty() || ticks.back().label != label) ticks.push_back({value, std::move(label)});
  };
  if (logarithmic_) {
    const bool few = high_ / low_ < 1000;
    for (double power = std::pow(10, std::floor(std::log10(low_))); power <= high_; power *= 10) {
      for (const double factor : {1.0, 2.0, 5.0}) {
        const double value = power * factor;
        if ((factor == 1 || few) && value >= low_ * 0.999 && value <= high_ * 1.001) add(value);
      }
    }
    return ticks;
  }
  const double step = nice_step(high_ - low_, dimension == base::Dimension::kSize ? 2 : 10);
  for (double k = std::ceil(low_ / step - 1e-9); k * step <= high_ + step * 1e-9; ++k)
    add(k * step);
  return ticks;
}

std::vector<Tick> Scale::time_ticks() const {
  std::vector<Tick> ticks;
  const double step = nice_seconds(high_ - low_);
  for (double k = std::ceil(low_ / step); k * step <= high_; ++k)
    ticks.push_back({k * step, seconds_text(k * step)});
  return ticks;
}

}  // namespace squall::report
