#pragma once
// One prediction over one record.

#include "judge/doubts.h"
#include "judge/evaluator.h"
#include "judge/judge.h"
#include "judge/run_facts.h"

namespace squall::judge {

class PredictionJudge {
 public:
  // All references must outlive it.
  PredictionJudge(const Question& question, const RunFacts& facts, const Evaluator& evaluator)
      : facts_(facts), evaluator_(evaluator), doubts_(question, facts, evaluator) {}

  PredictionResult hypothesis(const model::Prediction& prediction) const;
  // In baseline: over all of it. In recovery: from the moment on from which it was never again seen
  // to be violated; `returned` is that moment, absent when it did not come back.
  PredictionResult steady_state(const model::Prediction& prediction, model::PhaseKind phase) const;

 private:
  struct Stretch {
    std::optional<evidence::Window> window;
    std::string why_not;  // when absent
  };
  Stretch stretch_of(const model::DuringClause& during) const;
  Stretch search_of(const model::WithinClause& within) const;

  void judge_during(const model::Prediction& prediction, const Stretch& stretch,
                    PredictionResult& result) const;
  void judge_within(const model::Prediction& prediction, const model::WithinClause& within,
                    PredictionResult& result) const;
  // Both narrow `search` down to the stretch that decided.
  void search_samples(const model::Prediction& prediction, const model::WithinClause& within,
                      evidence::Window& search, PredictionResult& result) const;
  void search_windows(const model::Prediction& prediction, const model::WithinClause& within,
                      evidence::Window& search, PredictionResult& result) const;
  void judge_at_end(const model::Prediction& prediction, PredictionResult& result) const;
  void judge_stretch(const model::Prediction& prediction, const evidence::Window& window,
                     PredictionResult& result) const;
  void judge_samples(const model::Prediction& prediction, const evidence::Window& window,
                     PredictionResult& result) const;
  void doubt(const Asked& asked, PredictionResult& result) const;

  const RunFacts& facts_;
  const Evaluator& evaluator_;
  Doubts doubts_;
};

}  // namespace squall::judge
