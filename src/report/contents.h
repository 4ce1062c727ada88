#pragma once
// What all formats of a report have in common: the facts of a run, gathered once. Internal.

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "evidence/timeline.h"
#include "report/report.h"

namespace squall::report {

// A preflight check as recorded.
struct CheckResult {
  std::string name;
  std::string result;  // "pass", "block", "cannot_tell"
  std::string reason;
  std::string remedy;
};

// One fault, from plan, binding and timeline; any of them may be missing.
struct FaultFacts {
  std::string name;
  const evidence::FaultWindow* window = nullptr;
  const model::PlannedFault* planned = nullptr;
  const model::FaultBinding* bound = nullptr;
  std::string kind() const;
};

struct VerdictCounts {
  int held = 0;
  int violated = 0;
  int inconclusive = 0;
  int no_data = 0;
  int all() const { return held + violated + inconclusive + no_data; }
};

// Points into itself and into the view, so it stays where it is.
class Contents {
 public:
  explicit Contents(const RunView& view);
  Contents(const Contents&) = delete;
  Contents& operator=(const Contents&) = delete;

  const evidence::Record& record() const { return view_.record; }
  const evidence::RecordHeader& header() const { return view_.record.header(); }
  const judge::Judgement& judgement() const { return view_.judgement; }
  // What people read first: violated, without data, inconclusive, held; each in the order of the
  // experiment. Of the same length as judgement().predictions; never null.
  const std::vector<const judge::PredictionResult*>& by_weight() const { return by_weight_; }
  const evidence::Timeline& timeline() const { return timeline_; }
  const model::Plan* plan() const { return plan_; }           // may be null
  const model::Binding* binding() const { return binding_; }  // may be null
  const std::vector<FaultFacts>& faults() const { return faults_; }
  const std::vector<CheckResult>& checks() const { return checks_; }
  const VerdictCounts& counts() const { return counts_; }

  std::string experiment_name() const;
  std::string scenario() const;
  std::string short_id() const;
  std::string started() const;  // wall time
  base::Duration length() const { return timeline_.end - timeline_.start; }
  // "12.3s": a moment counted from the start of the run.
  std::string offset(base::Instant at) const;
  double offset_seconds(base::Instant at) const;
  // The prediction of a result as a tree; null when the experiment is not known.
  const model::Prediction* tree_of(const judge::PredictionResult& result) const;
  // The stretch of the run that a result is about; absent when it is none or unknown.
  std::optional<evidence::Window> stretch_of(const judge::PredictionResult& result) const;
  // The command line that runs the experiment again.
  std::string reproduce_command() const;

 private:
  std::optional<evidence::Window> stretch_during(const model::DuringClause& during) const;
  std::optional<evidence::Window> stretch_within(const model::WithinClause& within) const;

  RunView view_;
  evidence::Timeline timeline_;
  std::optional<model::Plan> own_plan_;
  std::optional<model::Binding> own_binding_;
  const model::Plan* plan_ = nullptr;
  const model::Binding* binding_ = nullptr;
  std::vector<FaultFacts> faults_;
  std::vector<CheckResult> checks_;
  VerdictCounts counts_;
  std::vector<const judge::PredictionResult*> by_weight_;
};

// A document of the record as JSON; null JSON when there is none or it does not parse.
base::Json document_of(const evidence::Record& record, std::string_view name);

}  // namespace squall::report
