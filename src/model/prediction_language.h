#pragma once
// Parsing, checking and printing of predictions, and what has to be observed for them.

#include <chrono>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/prediction.h"
#include "model/vocabulary.h"

namespace squall::model {

// Longer or deeper predictions are refused. The limits hold for the canonical text too.
inline constexpr std::size_t kPredictionLengthMax = 4096;  // bytes
inline constexpr int kPredictionDepthMax = 64;

// The sliding window of an abort rule over shares or statistics that does not name its own.
inline constexpr base::Duration kDefaultAbortWindow = std::chrono::seconds(1);
// Windows (`each`, `over`) are multiples of the buckets in which requests are recorded.
inline constexpr base::Duration kWindowStep = std::chrono::milliseconds(100);

// The fields of one request: latency and success (also signals), status, outcome, faulted, header,
// json. No gauge or counter may have one of these names, so that a tree says by itself whether it
// speaks of requests.
bool is_request_field(std::string_view field);
// The values of the field `outcome`: "ok", "timeout", ... in the order of evidence::Outcome.
std::span<const std::string_view> outcome_names();

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
  std::vector<std::string> plain_probes;      // their answers have no status, header or JSON
  const Entry* find(std::string_view source, std::string_view field) const;
};

enum class ClauseRule {
  kSteadyState,  // no clause allowed
  kHypothesis,   // during, within or at end required
  kAbortRule,    // over allowed, nothing else (default: over 1s, or none for bare gauges alone)
};

struct ParsedPrediction {
  std::optional<Prediction> prediction;  // absent exactly when there are errors
  std::vector<LanguageError> errors;
};

// Parses and checks `text`: names, types, dimensions, clauses. Never throws; depth-limited. The
// tree is in normal form (nested `and` flattened, double `not` removed, `x.success == true` as
// `x.success`, the only counter of a source named in full) and its spans count in Prediction::text,
// which is the canonical text. The spans of errors count in `text`.
ParsedPrediction parse_prediction(std::string_view name, std::string_view text,
                                  const SignalTable& signals, ClauseRule rule);

// A condition in which fields are bare, as in a probe's `expect`.
struct ParsedCondition {
  ConditionPtr condition;  // null exactly when there are errors
  std::vector<LanguageError> errors;
};
ParsedCondition parse_condition(std::string_view text);

// Canonical text; parse_prediction(print(p)) gives the same tree.
std::string print(const Prediction& prediction);
std::string print(const Expression& expression);
std::string print(const Condition& condition);

// Equal as trees; spans, names, texts and locations do not count.
bool equal(const Prediction& a, const Prediction& b);
bool equal(const Expression& a, const Expression& b);
bool equal(const Condition& a, const Condition& b);

// Whether a prediction is decided by the value itself or by its 95 % interval (docs/predictions.md,
// "What decides"). Exactly: counts, rates, extremes, times, lost, duplicated, any comparison with a
// bare gauge in it or with a literal zero, and a share compared with the literal 100 %.
enum class DecidedBy { kValue, kInterval };
DecidedBy decided_by(const Prediction& prediction);

// `x.success`: the share of requests that meet the probe's `expect`.
bool is_success_share(const Signal& signal);
// A bare gauge: not a success share.
bool is_bare_gauge(const Expression& expression);
// True when the condition speaks of requests, false when of the samples of a gauge. A checked
// condition speaks of one probe or of one gauge only; that is `subject_of`, with an empty field for
// requests.
bool is_request_condition(const Condition& condition);
Signal subject_of(const Condition& condition);

// A slice is the part of a probe's requests that some prediction asks for on its own. Slices are
// known before the run, so that the observer counts them as requests come in and no request has to
// be kept. `id` is the series name in the record: "reads" or "reads where reads.status == 200".
struct Slice {
  std::string id;
  std::string probe;
  ConditionPtr where;  // null: all requests
};
// Without repetition, in order of appearance. `x.success` and `x.latency` need the whole probe; a
// share needs the whole probe and the part.
std::vector<Slice> slices_of(const Prediction& prediction);
// The series id under which `probe` filtered by `where` is recorded.
std::string slice_id(std::string_view probe, const ConditionPtr& where);

// Series of numbers ("stuck.value", "api-log.matches"), gauges and counters alike, that a
// prediction reads. Without repetition, in order of appearance.
std::vector<Signal> gauges_of(const Prediction& prediction, const SignalTable& signals);
// Every probe or service that a prediction reads from, without repetition.
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
// `!=` is the opposite of `==` also where the field is absent (no answer has no status): then `==`,
// `<`, `<=`, `>` and `>=` are false and `!=` is true. Allocates nothing unless a header or JSON
// value is asked for; safe from any thread.
bool matches(const Condition& condition, const RequestFields& fields);
// A gauge sample: every field of the condition is the value.
bool matches(const Condition& condition, double value);

}  // namespace squall::model
