#pragma once
// How fault kinds and probe kinds are described. A kind's constexpr descriptor is the only place
// that names its parameters: parser, JSON Schema, `squall kinds` and docs/faults.md come from it.

#include <span>
#include <string_view>

namespace squall::model {

// How a value is written, and behind the arrow the form in which `Parameters` holds it.
enum class ValueType {
  kDuration,  // "250ms"              -> nanoseconds as integer
  kSize,      // "64KiB"              -> bytes as integer
  kRate,      // "200/s"              -> per second as number
  kShare,     // "5%"                 -> fraction as number
  kInteger,
  kNumber,
  kBoolean,
  kText,
  kChoice,     // one of `choices`
  kArgv,       // a list of texts with at least one element
  kService,    // the name of a service of the system map
  kMember,     // the name or role of a member of the service given in `service` beside it; members
               // that the map only counts are called worker-1, worker-2, ...
  kSignal,     // "SIGKILL", "SIGTERM", ...
  kUrl,        // http:// or https://
  kPath,       // a path, relative to the folder of the system map -> absolute
  kQuery,      // a text that is sent to a server as it stands
  kCondition,  // a condition of the prediction language in which fields are bare -> as written
  kStatus,     // HTTP status: 200, "2xx", or a list of these -> a list of texts: ["200", "2xx"]
  kTextMap,    // a map of texts
  kAny,        // any YAML value       -> JSON (YAML 1.2 core rules)
  kObject,     // a nested map with `children`; when not written it is filled with their defaults,
               // unless one of them is required: then it is absent
  kLoad,       // load profile, in one of these forms          -> Parameters::object() with
               //   200/s                                         shape: constant, rate
               //   { poisson: 200/s }                            shape: poisson, rate
               //   { ramp: { from: 10/s, to: 200/s, over: 30s } }  shape: ramp, from, to, over
               //   { step: [ { rate: 10/s, for: 5s }, ... ] }    shape: step, steps: a list of
               //                                                 { rate, for }; the last one stays
};

struct ParameterDescriptor {
  std::string_view name;
  ValueType type = ValueType::kText;
  bool required = false;
  std::string_view default_text;  // as one would write it; empty: no default
  // Inclusive, in the unit in which Parameters holds the type: nanoseconds for kDuration, bytes for
  // kSize, per second for kRate and kLoad, a fraction for kShare. For kArgv and kText: the length.
  double minimum = -1e308;
  double maximum = 1e308;
  std::string_view summary;  // one plain sentence
  std::span<const std::string_view> choices = {};
  std::span<const ParameterDescriptor> children = {};
};

// What ends a fault if everything of ours is killed (DESIGN section 5).
enum class LifetimeClass { kKernelHeld, kJournaled, kOneWay };
std::string_view to_string(LifetimeClass lifetime);

struct FaultKindDescriptor {
  std::string_view name;                           // "process.kill"
  std::string_view summary;                        // one sentence
  std::string_view effect;                         // what the target sees
  std::string_view revert;                         // how it is undone
  std::string_view proof;                          // how effect and revert are proved
  LifetimeClass weakest = LifetimeClass::kOneWay;  // over the mechanisms it may use
  std::span<const std::string_view> mechanisms;
  std::span<const std::string_view> capabilities;  // "CAP_KILL"
  std::span<const ParameterDescriptor> parameters;
  bool can_be_effective = true;  // false: only `armed` can be proved; the fault phase starts there
  std::string_view example;      // YAML of one fault
  // Why no rule of a host's policy can open it to others than root, as the end of a sentence; empty
  // for those that a rule can open.
  std::string_view root_only = {};
};

// What a probe measures.
enum class SignalType {
  kRequests,  // outcomes with latency: `.latency`, `.success`, `.status`, `.header[]`, `.json[]`
  kGauge,     // a number that holds until the next sample
  kCounter,   // counts events (log lines): used with count() and rate()
};

struct SignalDescriptor {
  std::string_view field;  // "value", "latency", "matches"
  SignalType type = SignalType::kGauge;
  std::string_view unit;  // "", "s", "B", "%"
  std::string_view summary;
};

struct ProbeKindDescriptor {
  std::string_view name;  // "http"
  std::string_view summary;
  bool generates_load = false;
  std::span<const ParameterDescriptor> parameters;
  std::span<const SignalDescriptor> signals;
  std::string_view example;
};

// The kinds this build knows. The tables live with the implementations (inject, observe), above
// this room, and are handed down to the parser.
struct Vocabulary {
  std::span<const FaultKindDescriptor* const> faults;
  std::span<const ProbeKindDescriptor* const> probes;
  const FaultKindDescriptor* fault(std::string_view name) const;
  const ProbeKindDescriptor* probe(std::string_view name) const;
};

}  // namespace squall::model
