#include "judge/judgement.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/exit_status.h"

namespace squall::judge {
namespace {

using base::Json;
using model::Outcome;
using model::RunVerdict;
using model::Verdict;

constexpr int kExplanationDepth = 128;

// ---- Writing -----------------------------------------------------------------------------------

Json number(std::optional<double> value) {
  return value && std::isfinite(*value) ? Json(*value) : Json(nullptr);
}

Json moment(std::optional<base::Instant> at) {
  return at ? Json(base::to_nanoseconds(*at)) : Json(nullptr);
}

Json length(std::optional<base::Duration> duration) {
  return duration ? Json(duration->count()) : Json(nullptr);
}

std::string_view name_of(base::Dimension dimension) {
  switch (dimension) {
    case base::Dimension::kNumber:
      return "number";
    case base::Dimension::kShare:
      return "share";
    case base::Dimension::kDuration:
      return "duration";
    case base::Dimension::kSize:
      return "size";
    case base::Dimension::kRate:
      return "rate";
  }
  return "number";
}

Json to_json(const Explanation& explanation) {
  Json parts = Json::array();
  for (const Explanation& part : explanation.parts) parts.push_back(to_json(part));
  return {{"text", explanation.text},
          {"value", explanation.value},
          {"evidence", explanation.evidence},
          {"parts", std::move(parts)}};
}

Json to_json(const PredictionResult& result) {
  return {{"name", result.name},
          {"text", result.text},
          {"steady_state", result.steady_state},
          {"phase", result.phase},
          {"verdict", model::to_string(result.verdict)},
          {"reason", result.reason},
          {"method", result.method},
          {"dimension", name_of(result.dimension)},
          {"observed", number(result.observed)},
          {"interval_low", number(result.interval_low)},
          {"interval_high", number(result.interval_high)},
          {"threshold", number(result.threshold)},
          {"threshold_high", number(result.threshold_high)},
          {"samples", result.samples},
          {"effective_samples", number(result.effective_samples)},
          {"first_violation_ns", moment(result.first_violation)},
          {"returned_ns", moment(result.returned)},
          {"explanation", to_json(result.explanation)}};
}

// ---- Reading -----------------------------------------------------------------------------------

// Takes fields of an object and remembers the first that is not what it should be.
class Reader {
 public:
  explicit Reader(const Json& json) : json_(json) {
    if (!json.is_object()) fail("the value", "an object");
  }

  std::string text(const char* key) {
    const Json* value = find(key);
    if (value == nullptr || !value->is_string()) return fail(key, "a text"), std::string();
    return value->get<std::string>();
  }
  bool truth(const char* key) {
    const Json* value = find(key);
    if (value == nullptr || !value->is_boolean()) return fail(key, "true or false"), false;
    return value->get<bool>();
  }
  std::optional<double> number(const char* key) {
    const Json* value = find(key);
    if (value == nullptr || value->is_null()) return std::nullopt;
    if (!value->is_number()) return fail(key, "a number"), std::nullopt;
    return value->get<double>();
  }
  std::optional<std::int64_t> integer(const char* key) {
    const Json* value = find(key);
    if (value == nullptr || value->is_null()) return std::nullopt;
    if (!value->is_number_integer()) return fail(key, "a whole number"), std::nullopt;
    return value->get<std::int64_t>();
  }
  const Json& list(const char* key) {
    static const Json kNone = Json::array();
    const Json* value = find(key);
    if (value == nullptr || !value->is_array()) return fail(key, "a list"), kNone;
    return *value;
  }
  template <typename Value>
  Value one_of(const char* key, std::initializer_list<Value> values) {
    const std::string name = text(key);
    for (const Value value : values) {
      if (name == model::to_string(value)) return value;
    }
    fail(key, "one of the known words");
    return *values.begin();
  }
  const std::string& failure() const { return failure_; }

 private:
  const Json* find(const char* key) const {
    if (!json_.is_object()) return nullptr;
    const auto found = json_.find(key);
    return found == json_.end() ? nullptr : &*found;
  }
  void fail(std::string_view key, std::string_view wanted) {
    if (failure_.empty()) failure_ = fmt::format("{} is not {}", key, wanted);
  }

  const Json& json_;
  std::string failure_;
};

base::Error not_a_judgement(const std::string& why) {
  return {.code = base::ErrorCode::kCorrupt,
          .message = "this is not a judgement: " + why,
          .hint = "judge the record again",
          .context = {}};
}

std::optional<base::Instant> moment(std::optional<std::int64_t> nanoseconds) {
  if (!nanoseconds) return std::nullopt;
  return base::instant_from_nanoseconds(*nanoseconds);
}

std::optional<base::Duration> length(std::optional<std::int64_t> nanoseconds) {
  if (!nanoseconds) return std::nullopt;
  return base::Duration(*nanoseconds);
}

base::Result<Explanation> explanation_from(const Json& json, int depth) {
  if (depth > kExplanationDepth) return not_a_judgement("an explanation nests too deep");
  Reader reader(json);
  Explanation explanation;
  explanation.text = reader.text("text");
  explanation.value = reader.text("value");
  explanation.evidence = reader.text("evidence");
  for (const Json& part : reader.list("parts")) {
    SQUALL_ASSIGN(Explanation inner, explanation_from(part, depth + 1));
    explanation.parts.push_back(std::move(inner));
  }
  if (!reader.failure().empty()) return not_a_judgement(reader.failure());
  return explanation;
}

base::Dimension dimension_named(std::string_view name) {
  for (const base::Dimension dimension : {base::Dimension::kShare, base::Dimension::kDuration,
                                          base::Dimension::kSize, base::Dimension::kRate}) {
    if (name == name_of(dimension)) return dimension;
  }
  return base::Dimension::kNumber;
}

base::Result<PredictionResult> result_from(const Json& json) {
  Reader reader(json);
  PredictionResult result;
  result.name = reader.text("name");
  result.text = reader.text("text");
  result.steady_state = reader.truth("steady_state");
  result.phase = reader.text("phase");
  result.verdict = reader.one_of(
      "verdict", {Verdict::kHeld, Verdict::kViolated, Verdict::kInconclusive, Verdict::kNoData});
  result.reason = reader.text("reason");
  result.method = reader.text("method");
  result.dimension = dimension_named(reader.text("dimension"));
  result.observed = reader.number("observed");
  result.interval_low = reader.number("interval_low");
  result.interval_high = reader.number("interval_high");
  result.threshold = reader.number("threshold");
  result.threshold_high = reader.number("threshold_high");
  result.samples =
      static_cast<std::uint64_t>(std::max<std::int64_t>(0, reader.integer("samples").value_or(0)));
  result.effective_samples = reader.number("effective_samples").value_or(0);
  result.first_violation = moment(reader.integer("first_violation_ns"));
  result.returned = moment(reader.integer("returned_ns"));
  if (!reader.failure().empty()) return not_a_judgement(reader.failure());
  const auto explanation = json.find("explanation");
  if (explanation == json.end()) return not_a_judgement("the explanation is missing");
  SQUALL_ASSIGN(result.explanation, explanation_from(*explanation, 0));
  return result;
}

}  // namespace

Json to_json(const Judgement& judgement) {
  Json predictions = Json::array();
  for (const PredictionResult& result : judgement.predictions) {
    predictions.push_back(to_json(result));
  }
  return {{"predictions", std::move(predictions)},
          {"verdict", model::to_string(judgement.verdict)},
          {"outcome", model::to_string(judgement.outcome)},
          {"outcome_reason", judgement.outcome_reason},
          {"reverts_verified", judgement.reverts_verified},
          {"effect_proven", judgement.effect_proven},
          {"time_to_impact_ns", length(judgement.time_to_impact)},
          {"time_to_recover_ns", length(judgement.time_to_recover)},
          {"notes", judgement.notes}};
}

base::Result<Judgement> judgement_from_json(const Json& json) {
  Reader reader(json);
  Judgement judgement;
  for (const Json& each : reader.list("predictions")) {
    SQUALL_ASSIGN(PredictionResult result, result_from(each));
    judgement.predictions.push_back(std::move(result));
  }
  judgement.verdict =
      reader.one_of("verdict", {RunVerdict::kHeld, RunVerdict::kMixed, RunVerdict::kRefuted,
                                RunVerdict::kInconclusive, RunVerdict::kNone});
  judgement.outcome =
      reader.one_of("outcome", {Outcome::kCompleted, Outcome::kBlocked, Outcome::kAborted,
                                Outcome::kStopped, Outcome::kErrored});
  judgement.outcome_reason = reader.text("outcome_reason");
  judgement.reverts_verified = reader.truth("reverts_verified");
  judgement.effect_proven = reader.truth("effect_proven");
  judgement.time_to_impact = length(reader.integer("time_to_impact_ns"));
  judgement.time_to_recover = length(reader.integer("time_to_recover_ns"));
  for (const Json& note : reader.list("notes")) {
    if (!note.is_string()) return not_a_judgement("a note is not a text");
    judgement.notes.push_back(note.get<std::string>());
  }
  if (!reader.failure().empty()) return not_a_judgement(reader.failure());
  return judgement;
}

int exit_status_of(const Judgement& judgement) {
  std::vector<base::ExitStatus> all{base::ExitStatus::kHeld};
  if (!judgement.reverts_verified) all.push_back(base::ExitStatus::kRevertNotVerified);
  switch (judgement.outcome) {
    case Outcome::kCompleted:
      break;
    case Outcome::kBlocked:
      all.push_back(base::ExitStatus::kBlocked);
      break;
    case Outcome::kAborted:
      all.push_back(base::ExitStatus::kAborted);
      break;
    case Outcome::kStopped:
      all.push_back(base::ExitStatus::kStopped);
      break;
    case Outcome::kErrored:
      all.push_back(base::ExitStatus::kToolError);
      break;
  }
  for (const PredictionResult& result : judgement.predictions) {
    switch (result.verdict) {
      case Verdict::kHeld:
        break;
      case Verdict::kViolated:
        all.push_back(base::ExitStatus::kViolated);
        break;
      case Verdict::kInconclusive:
      case Verdict::kNoData:
        all.push_back(base::ExitStatus::kInconclusive);
        break;
    }
  }
  // Nothing was judged at all: no data.
  if (judgement.predictions.empty()) all.push_back(base::ExitStatus::kInconclusive);
  return static_cast<int>(base::most_important(all));
}

}  // namespace squall::judge
