#pragma once
// The judge's sentences.

#include <string>

#include "judge/decision.h"
#include "judge/evaluator.h"

namespace squall::judge {

// "p99(reads.latency) was 182ms [171ms, 195ms], and all of that is < 250ms".
std::string comparison_sentence(const model::Prediction& prediction, const Sides& sides,
                                model::Verdict verdict, DecideBy by);

// "it held for 5s, from 2.1s after the revert on".
std::string held_within_sentence(const model::WithinClause& within, base::Duration after_anchor);

// "< 250ms", "between 1s and 2s".
std::string limit_text(const model::Prediction& prediction, const Sides& sides);

}  // namespace squall::judge
