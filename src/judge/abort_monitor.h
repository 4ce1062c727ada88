#pragma once
// Abort rules and the live state of predictions, fed sample by sample on the engine's thread. A
// decision takes microseconds and allocates nothing in the steady case.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "evidence/recorder.h"
#include "model/experiment.h"
#include "model/prediction.h"

namespace squall::judge {

struct Breach {
  std::string rule;     // its text
  std::string reason;   // "reads.success was 71.2 % over the last 2 s (137 requests)"
  base::Instant at;     // when the decisive sample arrived
};

class AbortMonitor {
 public:
  // `series_of` gives the id under which a series name was declared.
  AbortMonitor(std::vector<model::Prediction> rules,
               const std::function<std::optional<evidence::SeriesId>(std::string_view)>& series_of);
  ~AbortMonitor();
  // Series that must be fed.
  std::vector<evidence::SeriesId> series() const;
  // A rule needs a full window before it can breach, except that zero successes of at least 10
  // requests breach at once. Returns the first breach, then keeps returning it.
  std::optional<Breach> add(const evidence::LiveSample& sample);
  std::optional<Breach> tick(base::Instant now);  // windows empty without samples

 private:
  struct Rule;
  std::vector<std::unique_ptr<Rule>> rules_;
  std::optional<Breach> breach_;
};

}  // namespace squall::judge
