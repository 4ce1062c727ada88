#pragma once
// An expression of the prediction language over the last seconds of live samples. Point values
// only. Engine's thread only.

#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "evidence/recorder.h"
#include "judge/live_window.h"
#include "model/prediction.h"

namespace squall::judge {

// The id under which a series name was declared.
using SeriesOf = std::function<std::optional<evidence::SeriesId>(std::string_view)>;
// What baseline(expression) came to; absent while it is not known. The argument is the expression
// within baseline().
using BaselineOf = std::function<std::optional<double>(const model::Expression&)>;

class LiveExpression {
 public:
  LiveExpression(const model::Expression& expression, base::Duration window,
                 const SeriesOf& series_of, const BaselineOf& baseline_of);
  ~LiveExpression();
  LiveExpression(LiveExpression&&) noexcept;
  LiveExpression& operator=(LiveExpression&&) noexcept;

  // True when the expression reads this series.
  bool add(const evidence::LiveSample& sample, base::Instant now);
  void advance(base::Instant now);

  // Absent without data in the window.
  std::optional<double> value(base::Instant now) const;
  // How many requests or samples the value comes from.
  std::uint64_t samples() const;
  const std::vector<evidence::SeriesId>& series() const { return series_; }
  // Names without a series: the value stays absent.
  bool is_blind() const { return blind_; }
  // Whether it needs no scan, so that it can be asked at every sample.
  bool is_cheap() const { return cheap_; }
  // A number that no sample changes.
  bool is_fixed() const { return series_.empty() && !blind_; }

  // The one window behind a success share or quantile of requests; null for anything else.
  RequestWindow* sole_window();

 private:
  struct Node;
  struct Build;
  std::optional<double> value_of(const Node& node, base::Instant now) const;
  std::optional<double> of_requests(const Node& node) const;
  std::optional<double> of_numbers(const Node& node, base::Instant now) const;

  std::vector<Node> nodes_;  // children before parents; the last is the root
  std::vector<evidence::SeriesId> series_;
  bool blind_ = false;
  bool cheap_ = true;
};

}  // namespace squall::judge
