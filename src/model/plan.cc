#include "model/plan.h"

#include <limits>
#include <nlohmann/json.hpp>

#include "base/digest.h"
#include "model/json_reader.h"

namespace squall::model {
namespace {

using base::Json;

// The version of both formats. Raise it when a reader of today could misread what is written then.
constexpr std::int64_t kFormat = 1;
constexpr std::int64_t kCountLimit = std::numeric_limits<int>::max();

Json to_json(const PlannedChange& change) {
  return {{"change", change.change},
          {"revert", change.revert},
          {"lifetime", to_string(change.lifetime)}};
}

PlannedChange change_from(JsonReader reader) {
  return {reader.text("change"), reader.text("revert"), reader.lifetime("lifetime")};
}

Json to_json(const PlannedFault& fault) {
  Json changes = Json::array();
  for (const PlannedChange& change : fault.changes) changes.push_back(to_json(change));
  Json json = {{"name", fault.name},
               {"kind", fault.kind},
               {"parameters", fault.parameters.json()},
               {"target", fault.target},
               {"services", fault.services},
               {"processes_max", fault.processes_max},
               {"at_ns", fault.at.count()},
               {"duration_ns", fault.duration.count()},
               {"changes", std::move(changes)},
               {"mechanisms", fault.mechanisms},
               {"lifetime", to_string(fault.lifetime)}};
  if (fault.overlap) json["overlap"] = true;  // the hashes of all other plans stay what they were
  return json;
}

PlannedFault fault_from(JsonReader reader) {
  PlannedFault fault;
  fault.name = reader.text("name");
  fault.kind = reader.text("kind");
  fault.parameters = reader.parameters("parameters");
  fault.target = reader.text("target");
  fault.services = reader.texts("services");
  fault.processes_max = static_cast<int>(reader.integer("processes_max", 0, kCountLimit));
  fault.at = reader.duration("at_ns");
  fault.duration = reader.duration("duration_ns");
  for (JsonReader& change : reader.objects("changes")) {
    fault.changes.push_back(change_from(std::move(change)));
  }
  fault.mechanisms = reader.texts("mechanisms");
  fault.lifetime = reader.lifetime("lifetime");
  fault.overlap = reader.flag("overlap");
  return fault;
}

Json to_json(const Decidability& decidability) {
  return {{"prediction", decidability.prediction},
          {"decidable", decidability.decidable},
          {"samples_planned", decidability.samples_planned},
          {"samples_needed", decidability.samples_needed},
          {"method", decidability.method},
          {"message", decidability.message}};
}

Decidability decidability_from(JsonReader reader) {
  return {reader.text("prediction"),
          reader.boolean("decidable"),
          reader.unsigned_integer("samples_planned"),
          reader.unsigned_integer("samples_needed"),
          reader.text("method"),
          reader.text("message")};
}

Json to_json(const PlannedPrediction& prediction) {
  return {{"name", prediction.name},
          {"text", prediction.text},
          {"steady_state", prediction.steady_state},
          {"location", prediction.location}};
}

PlannedPrediction prediction_from(JsonReader reader) {
  return {reader.text("name"), reader.text("text"), reader.boolean("steady_state"),
          reader.text("location")};
}

Json to_json(const BoundTarget& target) {
  return {{"service", target.service},
          {"member", target.member},
          {"pid", target.process.pid},
          {"start_time", target.process.start_time},
          {"description", target.description}};
}

BoundTarget target_from(JsonReader reader) {
  BoundTarget target;
  target.service = reader.text("service");
  target.member = reader.text("member");
  target.process.pid = static_cast<pid_t>(reader.integer("pid", 0, kCountLimit));
  target.process.start_time = reader.unsigned_integer("start_time");
  target.description = reader.text("description");
  return target;
}

FaultBinding binding_from(JsonReader reader) {
  FaultBinding binding;
  binding.fault = reader.text("fault");
  binding.kind = reader.text("kind");
  for (JsonReader& target : reader.objects("targets")) {
    binding.targets.push_back(target_from(std::move(target)));
  }
  binding.mechanism = reader.text("mechanism");
  binding.lifetime = reader.lifetime("lifetime");
  binding.details = reader.parameters("details");
  binding.overlap = reader.flag("overlap");
  return binding;
}

}  // namespace

Json to_json(const Plan& plan) {
  Json faults = Json::array();
  for (const PlannedFault& fault : plan.faults) faults.push_back(to_json(fault));
  Json predictions = Json::array();
  for (const PlannedPrediction& entry : plan.predictions) predictions.push_back(to_json(entry));
  Json decidability = Json::array();
  for (const Decidability& entry : plan.decidability) decidability.push_back(to_json(entry));
  return {{"format", kFormat},
          {"experiment", plan.experiment},
          {"system", plan.system},
          {"scenario", plan.scenario},
          {"environment", plan.environment},
          {"production", plan.production},
          // As text: 64 bits do not survive readers that keep numbers as doubles.
          {"seed", std::to_string(plan.seed)},
          {"faults", std::move(faults)},
          {"predictions", std::move(predictions)},
          {"abort_when", plan.abort_when},
          {"blast_radius",
           {{"services", plan.blast_radius.services},
            {"processes", plan.blast_radius.processes},
            {"duration_ns", plan.blast_radius.duration.count()}}},
          {"phases",
           {{"baseline_ns", plan.phases.baseline.count()},
            {"recovery_ns", plan.phases.recovery.count()}}},
          {"lag_limit_ns", plan.lag_limit.count()},
          {"drop_limit", plan.drop_limit},
          {"decidability", std::move(decidability)},
          {"warnings", plan.warnings},
          {"lifetime", to_string(plan.lifetime)}};
}

base::Result<Plan> plan_from_json(const Json& json) {
  std::optional<base::Error> error;
  JsonReader reader(json, "the plan", error);
  Plan plan;
  reader.integer("format", kFormat, kFormat);
  plan.experiment = reader.text("experiment");
  plan.system = reader.text("system");
  plan.scenario = reader.text("scenario");
  plan.environment = reader.text("environment");
  plan.production = reader.boolean("production");
  plan.seed = reader.decimal_text("seed");
  for (JsonReader& fault : reader.objects("faults")) {
    plan.faults.push_back(fault_from(std::move(fault)));
  }
  for (JsonReader& prediction : reader.objects("predictions")) {
    plan.predictions.push_back(prediction_from(std::move(prediction)));
  }
  plan.abort_when = reader.texts("abort_when");
  JsonReader radius = reader.object("blast_radius");
  plan.blast_radius.services = radius.texts("services");
  plan.blast_radius.processes = static_cast<int>(radius.integer("processes", 0, kCountLimit));
  plan.blast_radius.duration = radius.duration("duration_ns");
  JsonReader phases = reader.object("phases");
  plan.phases.baseline = phases.duration("baseline_ns");
  plan.phases.recovery = phases.duration("recovery_ns");
  plan.lag_limit = reader.duration("lag_limit_ns");
  plan.drop_limit = reader.number("drop_limit");
  for (JsonReader& entry : reader.objects("decidability")) {
    plan.decidability.push_back(decidability_from(std::move(entry)));
  }
  plan.warnings = reader.texts("warnings");
  plan.lifetime = reader.lifetime("lifetime");
  if (error) return std::move(*error);
  return plan;
}

std::string plan_hash(const Plan& plan) {
  Json json = to_json(plan);
  json.erase("decidability");
  json.erase("warnings");
  return base::sha256_hex(base::canonical_json(json));
}

Json to_json(const FaultBinding& binding) {
  Json targets = Json::array();
  for (const BoundTarget& target : binding.targets) targets.push_back(to_json(target));
  Json json = {{"fault", binding.fault},
               {"kind", binding.kind},
               {"targets", std::move(targets)},
               {"mechanism", binding.mechanism},
               {"lifetime", to_string(binding.lifetime)},
               {"details", binding.details.json()}};
  if (binding.overlap) json["overlap"] = true;
  return json;
}

base::Result<FaultBinding> fault_binding_from_json(const Json& json) {
  std::optional<base::Error> error;
  FaultBinding binding = binding_from(JsonReader(json, "the binding of a fault", error));
  if (error) return std::move(*error);
  return binding;
}

Json to_json(const Binding& binding) {
  Json faults = Json::array();
  for (const FaultBinding& fault : binding.faults) faults.push_back(to_json(fault));
  return {{"format", kFormat},
          {"faults", std::move(faults)},
          {"hostname", binding.hostname},
          {"kernel", binding.kernel}};
}

base::Result<Binding> binding_from_json(const Json& json) {
  std::optional<base::Error> error;
  JsonReader reader(json, "the binding", error);
  Binding binding;
  reader.integer("format", kFormat, kFormat);
  for (JsonReader& fault : reader.objects("faults")) {
    binding.faults.push_back(binding_from(std::move(fault)));
  }
  binding.hostname = reader.text("hostname");
  binding.kernel = reader.text("kernel");
  if (error) return std::move(*error);
  return binding;
}

}  // namespace squall::model
