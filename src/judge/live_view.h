#pragma once
// How each prediction stands while the run goes on, for the progress display only: point estimates
// over the last seconds, no verdicts. Engine's thread only. (Header agreed with the engine and
// cli.)

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "evidence/recorder.h"
#include "model/prediction.h"

namespace squall::judge {

// One prediction as it stands now.
struct LiveRow {
  std::string name;
  std::string text;
  std::string value;  // "182ms", "99.7%", "-" without data
  enum class State { kNoData, kWithin, kBeyond } state = State::kNoData;
  std::vector<double> recent;  // one value a second, oldest first, at most 30; NaN without data
};

class LiveView {
 public:
  LiveView(std::vector<model::Prediction> predictions,
           const std::function<std::optional<evidence::SeriesId>(std::string_view)>& series_of);
  ~LiveView();
  // Once the baseline is over: what baseline(expression) came to. Until then predictions that
  // compare with it have a value and no state.
  void set_baseline(
      const std::function<std::optional<double>(const model::Expression&)>& baseline_of);
  // Series that must be fed.
  std::vector<evidence::SeriesId> series() const;
  // Cheap: called for every sample.
  void add(const evidence::LiveSample& sample);
  std::vector<LiveRow> rows(base::Instant now);

 private:
  struct Row;
  std::function<std::optional<evidence::SeriesId>(std::string_view)> series_of_;
  std::vector<std::unique_ptr<Row>> rows_;
};

}  // namespace squall::judge
