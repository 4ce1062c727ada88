#pragma once
// From values to pixels. Internal.

#include <string>
#include <vector>

#include "base/units.h"

namespace squall::report {

struct Tick {
  double value = 0;
  std::string label;
};

class Scale {
 public:
  // Maps [low, high] to [from, to] pixels; high > low. `logarithmic` needs low > 0.
  Scale(double low, double high, double from, double to, bool logarithmic = false);
  double at(double value) const;  // clamped to the range, so that nothing is drawn outside
  double low() const { return low_; }
  double high() const { return high_; }
  bool logarithmic() const { return logarithmic_; }
  std::vector<Tick> ticks(base::Dimension dimension) const;
  std::vector<Tick> time_ticks() const;  // values are seconds

 private:
  double low_;
  double high_;
  double from_;
  double to_;
  bool logarithmic_;
};

}  // namespace squall::report
