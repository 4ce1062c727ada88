#pragma once
#include <optional>
#include <string>
#include <vector>

#include "evidence/record.h"
#include "judge/judgement.h"
#include "model/experiment.h"
#include "model/plan.h"

namespace squall::judge {

// Everything that the judge goes by. The record says what happened; the experiment and map say what
// was predicted.
struct Question {
  const evidence::Record& record;
  const model::SystemMap& map;
  const model::Experiment& experiment;
};

// Pure: the same record gives the same judgement. Never fails: what cannot be judged is no data or
// inconclusive, with the reason.
Judgement judge(const Question& question);

// Which series of a record the judge needs, for ReadOptions::wanted.
bool needs_series(const model::SystemMap& map, const model::Experiment& experiment,
                  const evidence::SeriesDeclaration& declaration);

// Signals of probes that the hypothesis or the steady state reads and of which the baseline has no
// sample, each once: "stuck.value". A fault must not begin without them.
std::vector<std::string> signals_without_data(const Question& question);

// What `inner` of baseline(inner) came to in the baseline of this record, for abort rules and the
// live display; absent without a baseline or data.
std::optional<double> baseline_value(const evidence::Record& record,
                                     const model::Expression& inner);

// At plan time: can the planned traffic decide this prediction? The best case: no autocorrelation,
// no failures.
model::Decidability decidability(const model::Prediction& prediction, const model::SystemMap& map,
                                 const model::Experiment& experiment);

}  // namespace squall::judge
