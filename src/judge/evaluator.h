#pragma once
// Expressions of the prediction language over stretches of a record.

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "evidence/record.h"
#include "evidence/timeline.h"
#include "judge/estimate.h"
#include "judge/judgement.h"
#include "model/prediction.h"

namespace squall::judge {

struct Reading {
  std::optional<Estimate> estimate;
  std::string missing;  // when there is no estimate: why, as a clause
};

// Buckets that lie wholly within the window, and samples within it.
std::span<const evidence::RequestBucket> buckets_within(const evidence::Series& series,
                                                        const evidence::Window& window);
std::span<const evidence::GaugeSample> samples_within(const evidence::Series& series,
                                                      const evidence::Window& window);

// Both references must outlive it.
class Evaluator {
 public:
  Evaluator(const evidence::Record& record, const evidence::Timeline& timeline)
      : record_(record), timeline_(timeline) {}

  // `explanation` may be null; otherwise it is filled. A bare gauge is its mean over the window.
  Reading evaluate(const model::Expression& expression, const evidence::Window& window,
                   Explanation* explanation = nullptr) const;

  // The request series of a probe, sliced by `where` (may be null), and the gauge or counter series
  // of a signal; null when the record has none.
  const evidence::Series* requests(std::string_view probe, const model::ConditionPtr& where) const;
  const evidence::Series* numbers(std::string_view source, std::string_view field) const;

  // The same for the subject of a condition; null when it speaks of requests.
  const evidence::Series* numbers_of(const model::Signal& subject) const;

  // "12.3s to 32.3s", counted from the start of the run.
  std::string describe(const evidence::Window& window) const;
  std::string describe(base::Instant at) const;

  const evidence::Record& record() const { return record_; }
  const evidence::Timeline& timeline() const { return timeline_; }

 private:
  struct Call;  // what one node needs: window, explanation
  Reading literal(const model::Literal& literal) const;
  Reading signal(const model::Signal& signal, const Call& call) const;
  Reading aggregate(const model::Aggregate& aggregate, const Call& call) const;
  Reading of_requests(const model::Aggregate& aggregate, const evidence::Series& series,
                      const Call& call) const;
  Reading of_numbers(const model::Aggregate& aggregate, const evidence::Series& series,
                     const Call& call) const;
  Reading windowed(const model::WindowedAggregate& aggregate, const Call& call) const;
  Reading share(const model::Share& share, const Call& call) const;
  Reading time_true(const model::TimeTrue& time, const Call& call) const;
  Reading lost(std::string_view probe, const Call& call) const;
  Reading duplicated(std::string_view probe, const Call& call) const;
  template <typename Counts>
  Reading of_writes(std::string_view probe, const Call& call, const Counts& counts) const;
  Reading baseline(const model::Baseline& baseline, const Call& call) const;
  Reading binary(const model::Binary& binary, const Call& call) const;
  Reading negate(const model::Negate& negate, const Call& call) const;

  const evidence::Record& record_;
  const evidence::Timeline& timeline_;
};

// Arithmetic on readings: no data when the value is not a number (division by zero).
Reading combine(model::Operator operation, const Estimate& left, const Estimate& right);
Reading negated(Reading reading);

// "182ms [171ms, 195ms]", "3", "at least 171ms".
std::string describe_value(const Estimate& estimate, base::Dimension dimension);
std::string describe_number(double value, base::Dimension dimension);

// How long a gauge met the condition: each sample holds until the next one. `known` is the time
// that samples cover.
struct TimeMet {
  base::Duration met{};
  base::Duration known{};
  std::uint64_t samples = 0;
};
TimeMet time_met(const evidence::Series& series, const model::Condition& condition,
                 const evidence::Window& window);

}  // namespace squall::judge
