#pragma once
// Abort rules, fed sample by sample on the engine's thread. A decision takes microseconds and
// allocates nothing in the steady case. A rule says when to abort: it breaches when it is true.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "evidence/recorder.h"
#include "model/experiment.h"
#include "model/prediction.h"

namespace squall::judge {

struct Breach {
  std::string rule;    // its text
  std::string reason;  // "reads.success was 71.2% over the last 2s (137 samples), which is < 90%"
  base::Instant at;    // when the decisive sample arrived
};

class AbortMonitor {
 public:
  // `series_of` gives the id under which a series name was declared. `baseline_of` gives what
  // baseline(expression) came to, for rules that compare with it (judge.h, baseline_value).
  AbortMonitor(
      std::vector<model::Prediction> rules,
      const std::function<std::optional<evidence::SeriesId>(std::string_view)>& series_of,
      const std::function<std::optional<double>(const model::Expression&)>& baseline_of = nullptr);
  ~AbortMonitor();
  // Series that must be fed.
  std::vector<evidence::SeriesId> series() const;
  // Texts of the rules that can never breach, because a series or baseline that they name is not
  // there. The engine refuses to run with one.
  std::vector<std::string> blind_rules() const;
  // A rule needs a full window before it can breach, with two exceptions: zero successes of at
  // least 10 requests, and counts, times and maxima that are already too high, breach at once. A
  // gauge without `over` breaches at the first sample, with `over` when every sample of a full
  // window did. A request counts from when it was done. Returns the first breach, then keeps
  // returning it.
  std::optional<Breach> add(const evidence::LiveSample& sample);
  std::optional<Breach> tick(base::Instant now);  // windows empty without samples

 private:
  struct Rule;
  void check(Rule& rule, base::Instant now);
  std::vector<std::unique_ptr<Rule>> rules_;
  std::optional<base::Instant> started_;
  base::Instant latest_{};
  std::optional<Breach> breach_;
};

}  // namespace squall::judge
