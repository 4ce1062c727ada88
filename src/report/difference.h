#pragma once
// Two runs compared, prediction by prediction: `squall diff`.

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "judge/judgement.h"
#include "report/report.h"

namespace squall::report {

enum class Change {
  kSame,        // the same verdict
  kFixed,       // violated then, held now
  kDiscovered,  // held then, violated now
  kOther,       // any other change of verdict
  kAdded,       // only in the later run
  kRemoved,     // only in the earlier run
};
std::string_view to_string(Change change);  // "fixed"

struct PredictionDifference {
  std::string name;
  std::string phase;
  Change change = Change::kSame;
  std::optional<judge::PredictionResult> then;
  std::optional<judge::PredictionResult> now;
  bool text_changed = false;  // the prediction itself was edited between the runs
};

struct RunDifference {
  struct Side {
    std::string run;
    std::string short_id;
    std::string experiment;
    std::string started;  // wall time as text
    std::string plan_hash;
    model::RunVerdict verdict = model::RunVerdict::kNone;
    model::Outcome outcome = model::Outcome::kErrored;
    std::optional<base::Duration> time_to_impact;
    std::optional<base::Duration> time_to_recover;
  };
  Side then;
  Side now;
  std::vector<PredictionDifference> predictions;  // in the order of `now`, removed ones last
  int count(Change change) const;
};

RunDifference compare(const RunView& then, const RunView& now);

std::string render_difference_terminal(const RunDifference& difference,
                                       const TerminalOptions& options = {});
base::Json render_difference_json(const RunDifference& difference);

}  // namespace squall::report
