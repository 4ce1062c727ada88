#pragma once
// Parsing, checking and printing of predictions, and what has to be observed for them.

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/prediction.h"
#include "model/vocabulary.h"

namespace squall::model {

// A mistake in a prediction: where (byte offsets in its text), what, and the remedy.
struct LanguageError {
  Span span;
  std::string message;
  std::string hint;
};

// What the checker needs to know about names. The parser of files builds it from the system map.
struct SignalTable {
  struct Entry {
    std::string source;  // probe or service name
    std::string field;
    SignalType type = SignalType::kGauge;
    base::Dimension dimension = base::Dimension::kNumber;
  };
  std::vector<Entry> entries;
  std::vector<std::string> fault_names;
  std::vector<std::string> sequenced_probes;  // those with `sequence`: lost() and duplicated()
  const Entry* find(std::string_view source, std::string_view field) const;
};

enum class ClauseRule {
  kSteadyState,  // no clause allowed
  kHypothesis,   // during, within or at end required
  kAbortRule,    // over allowed (default: over 1s for shares and quantiles), nothing else
};

struct ParsedPrediction {
  std::optional<Prediction> prediction;  // absent exactly when there are errors
  std::vector<LanguageError> errors;
};

// Parses and checks `text`: names, types, dimensions, clauses. Never throws; depth-limited.
ParsedPrediction parse_prediction(std::string_view name, std::string_view text,
                                  const SignalTable& signals, ClauseRule rule);

// A condition in which fields are bare, as in a probe's `expect`.
struct ParsedCondition {
  ConditionPtr condition;
  std::vector<LanguageError> errors;
};
ParsedCondition parse_condition(std::string_view text);

// Canonical text; parse_prediction(print(p)) gives the same tree.
std::string print(const Prediction& prediction);
std::string print(const Expression& expression);
std::string print(const Condition& condition);

// A slice is the part of a probe's requests that some prediction asks for on its own. Slices are
// known before the run, so that the observer counts them as requests come in and no request has to
// be kept. `id` is the series name in the record: "reads" or "reads where reads.status == 200".
struct Slice {
  std::string id;
  std::string probe;
  ConditionPtr where;  // null: all requests
};
std::vector<Slice> slices_of(const Prediction& prediction);
// The series id under which `probe` filtered by `where` is recorded.
std::string slice_id(std::string_view probe, const ConditionPtr& where);

// Gauge series ("stuck.value") that a prediction reads.
std::vector<Signal> gauges_of(const Prediction& prediction, const SignalTable& signals);
// Every probe or service that a prediction reads from.
std::vector<std::string> sources_of(const Prediction& prediction);

// One request, as conditions see it.
struct RequestFields {
  int status = 0;  // 0: no answer
  double latency_seconds = 0;
  bool success = false;
  bool faulted = false;
  std::string_view outcome;  // "ok", "timeout", ...
  // May be empty functions; return absent when there is no such header or JSON value.
  std::function<std::optional<std::string>(std::string_view)> header;
  std::function<std::optional<std::string>(std::string_view)> json;  // scalars as text
};
bool matches(const Condition& condition, const RequestFields& fields);
// A gauge sample: every field of the condition is the value.
bool matches(const Condition& condition, double value);

}  // namespace squall::model
