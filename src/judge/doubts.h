#pragma once
// Why a prediction cannot be decided although its numbers could: the load was not what it should
// have been, something unrelated happened, evidence is missing, the run was cut short.

#include <string>

#include "judge/evaluator.h"
#include "judge/judge.h"
#include "judge/run_facts.h"

namespace squall::judge {

// What one prediction was asked about.
struct Asked {
  const model::Prediction& prediction;
  bool steady_state = false;
  evidence::Window window;
};

class Doubts {
 public:
  Doubts(const Question& question, const RunFacts& facts, const Evaluator& evaluator)
      : question_(question), facts_(facts), evaluator_(evaluator) {}

  // A sentence when `verdict` may not stand; empty when it may.
  std::string about(const Asked& asked, model::Verdict verdict) const;

  // What limits the verdicts of the run, for its notes.
  std::vector<std::string> notes() const;

 private:
  std::string without_effect(const Asked& asked) const;
  std::string bad_load(const Asked& asked, model::Verdict verdict) const;
  std::string unrelated_change(const Asked& asked) const;
  std::string damage(const Asked& asked) const;
  std::string gap(const Asked& asked) const;
  std::string cut_short(const Asked& asked) const;

  const Question& question_;
  const RunFacts& facts_;
  const Evaluator& evaluator_;
};

}  // namespace squall::judge
