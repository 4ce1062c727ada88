#pragma once
// Preflight: every check is a pure function of a Situation that the engine gathered. All run, all
// are reported. A check that cannot tell blocks, because any doubt before injection does.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "judge/judgement.h"
#include "model/plan.h"

namespace squall::safety {

enum class Answer { kPass, kBlock, kCannotTell };
std::string_view to_string(Answer answer);  // "pass", "block", "cannot_tell"

// A lease of another run on this host.
struct OtherLease {
  std::string run;
  std::string experiment;
  std::string fault;
  std::vector<std::string> targets;  // in words, as BoundTarget::description
  std::vector<base::ProcessIdentity> processes;
  bool overlap = false;  // its plan lets others share its targets
};

struct ProbeAnswer {
  std::string probe;
  std::optional<base::Error> error;  // absent: it answered
};

struct Rehearsal {
  std::string fault;
  std::optional<base::Error> error;  // absent: done and undone
  std::string text;
};

struct Engaged {  // the kill switch
  std::string who;
  std::string why;
  std::string since;
};

// What was true when asked. A field that could not be gathered holds the error.
struct Situation {
  const model::Plan* plan = nullptr;
  const model::Binding* binding = nullptr;  // null: binding failed
  std::vector<base::Error> binding_errors;
  std::optional<base::Result<std::vector<OtherLease>>> other_leases;
  std::optional<base::Result<std::optional<Engaged>>> kill_switch;
  std::vector<ProbeAnswer> probes;
  std::vector<Rehearsal> rehearsals;
  std::optional<base::Result<std::uint64_t>> free_bytes;  // where the record is written
  std::uint64_t needed_bytes = 0;
  // After the baseline: steady state and predicted signals as judged on it.
  std::optional<judge::Judgement> baseline;
  std::vector<std::string> signals_without_data;
};

// When a check can be asked. Those after the baseline need what it showed.
enum class Stage { kBeforeBaseline, kAfterBaseline };

struct CheckResult {
  std::string name;
  Answer answer = Answer::kCannotTell;
  std::string reason;
  std::string remedy;
};

struct Check {
  std::string_view name;
  std::string_view summary;
  Stage stage = Stage::kBeforeBaseline;
  CheckResult (*run)(const Situation& situation) = nullptr;
};

// The explicit table of all checks, in the order in which they are reported.
std::span<const Check> checks();

std::vector<CheckResult> run_checks(const Situation& situation, Stage stage);
bool all_pass(const std::vector<CheckResult>& results);
base::Json to_json(const std::vector<CheckResult>& results);

// Shorthands for the checks.
CheckResult pass(std::string reason);
CheckResult block(std::string reason, std::string remedy);
CheckResult cannot_tell(std::string reason, std::string remedy);

}  // namespace squall::safety
