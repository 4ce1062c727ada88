#pragma once
// The prediction language (docs/predictions.md): values only. Parsing, checking and printing are in
// prediction_language.h. Trees are immutable and shared.

#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "base/units.h"
#include "model/diagnostic.h"

namespace squall::model {

struct Expression;
struct Condition;
using ExpressionPtr = std::shared_ptr<const Expression>;
using ConditionPtr = std::shared_ptr<const Condition>;

// Byte offsets into the text of the prediction, for messages and `explain`.
struct Span {
  int begin = 0;
  int end = 0;
};

enum class Comparator { kLess, kLessEqual, kGreater, kGreaterEqual, kEqual, kNotEqual };
std::string_view to_string(Comparator comparator);  // "<="

// ---- Expressions
// ---------------------------------------------------------------------------------

struct Literal {  // 99.5%, 250ms, 3
  base::Quantity quantity;
};

// `reads.latency`, `stuck.value`, `reads.success`, `worker.memory`. As a bare expression it is a
// gauge (every sample must satisfy) or a success share.
struct Signal {
  std::string source;  // probe or service
  std::string field;
  bool operator==(const Signal&) const = default;
};

enum class Statistic { kQuantile, kMean, kMaximum, kMinimum, kCount, kRate };

// p99(reads.latency where reads.status == 200), count(reads), mean(stuck.value).
// For kCount and kRate `signal.field` may be empty: all requests of the probe.
struct Aggregate {
  Statistic statistic = Statistic::kMean;
  double quantile = 0;  // 0.99 for p99; only for kQuantile
  Signal signal;
  ConditionPtr where;  // may be null
};

// max(p99(reads.latency) each 1s): `statistic` over the values of `inner` in consecutive windows.
struct WindowedAggregate {
  Statistic statistic = Statistic::kMaximum;
  double quantile = 0;
  ExpressionPtr inner;
  base::Duration each{};
};

struct Share {  // share(reads.status == 503): of the probe's requests, or of the time for gauges
  ConditionPtr condition;
};
struct TimeTrue {  // time(stuck.value > 0)
  ConditionPtr condition;
};
struct Lost {  // lost(writes)
  std::string probe;
};
struct Duplicated {
  std::string probe;
};
struct Baseline {  // baseline(expression): the same over the baseline phase
  ExpressionPtr inner;
};
enum class Operator { kAdd, kSubtract, kMultiply, kDivide };
struct Binary {
  Operator operation = Operator::kAdd;
  ExpressionPtr left;
  ExpressionPtr right;
};
struct Negate {
  ExpressionPtr inner;
};

struct Expression {
  std::variant<Literal, Signal, Aggregate, WindowedAggregate, Share, TimeTrue, Lost, Duplicated,
               Baseline, Binary, Negate>
      node;
  base::Dimension dimension = base::Dimension::kNumber;  // set by the checker
  Span span;
};

// ---- Conditions
// ----------------------------------------------------------------------------------

// A field of one request or one sample: probe.field, probe.header["X"], probe.json["$.path"].
// Inside a probe's own `expect` the probe is empty.
struct Field {
  std::string probe;
  std::string name;  // status, latency, success, faulted, outcome, header, json, value, ...
  std::string key;   // header name or JSON path
  bool operator==(const Field&) const = default;
};

struct Truth {  // reads.faulted: the field is true
  Field field;
};
struct Exists {  // reads.header["Retry-After"] exists
  Field field;
};
struct FieldComparison {
  Field field;
  Comparator comparator = Comparator::kEqual;
  // A number with unit, a text, a truth value, or a status class ("5xx" is 500 to 599).
  struct StatusClass {
    int hundreds = 2;
    bool operator==(const StatusClass&) const = default;
  };
  std::variant<base::Quantity, std::string, bool, StatusClass> value;
};
struct All {
  std::vector<ConditionPtr> conditions;  // at least two
};
struct Any {
  std::vector<ConditionPtr> conditions;
};
struct Not {
  ConditionPtr condition;
};

struct Condition {
  std::variant<Truth, Exists, FieldComparison, All, Any, Not> node;
  Span span;
};

// ---- Predictions
// ---------------------------------------------------------------------------------

enum class PhaseKind { kBaseline, kFault, kRecovery };
std::string_view to_string(PhaseKind phase);

struct DuringClause {  // during fault from 3s; during outage (a fault by name)
  PhaseKind phase = PhaseKind::kFault;
  std::string fault_name;  // empty: the whole phase
  base::Duration from{};
};
struct OverClause {  // over 2s: sliding window, for abort rules
  base::Duration window{};
};
struct WithinClause {         // for 5s within 30s of revert outage
  base::Duration hold_for{};  // 0: a single sample or window suffices
  base::Duration within{};
  enum class Anchor { kInject, kRevert } anchor = Anchor::kRevert;
  std::string fault_name;  // empty: the first inject, the last revert
};
struct AtEndClause {};
struct NoClause {};  // steady state: asked in baseline and in recovery

using WhenClause = std::variant<NoClause, DuringClause, OverClause, WithinClause, AtEndClause>;

enum class Confidence { kInterval, kNone };  // none: the point estimate alone decides

struct Prediction {
  std::string name;
  std::string text;  // as printed: canonical form
  ExpressionPtr left;
  Comparator comparator = Comparator::kLess;
  ExpressionPtr right;
  ExpressionPtr right_high;  // set for `between right and right_high`, inclusive; comparator unused
  WhenClause when;
  Confidence confidence = Confidence::kInterval;
  Location location;
};

}  // namespace squall::model
