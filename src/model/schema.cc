#include "model/schema.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string>

#include "model/file_reader.h"
#include "model/parameter_reader.h"

namespace squall::model {
namespace {

using base::Json;

constexpr std::string_view kNumberPattern = R"(\+?([0-9]+(\.[0-9]+)?|\.[0-9]+)([eE][-+]?[0-9]+)?)";
constexpr std::string_view kZeroPattern = R"(\+?(0+(\.0+)?|\.0+)([eE][-+]?[0-9]+)?)";

// Environments change a few keys of the map: there every key may be null, and none is required.
enum class Form { kWhole, kOverride };

Json reference(std::string_view name) {
  return {{"$ref", fmt::format("#/definitions/{}", name)}};
}

Json with_description(Json schema, std::string_view description) {
  // Beside $ref draft-07 ignores every other key.
  if (schema.contains("$ref")) schema = {{"allOf", Json::array({std::move(schema)})}};
  if (!description.empty()) schema["description"] = description;
  return schema;
}

Json quantity(std::string_view units, std::string_view description) {
  return {{"anyOf",
           {{{"type", "string"},
             {"pattern",
              fmt::format(R"(^\s*({}\s*({})|{})\s*$)", kNumberPattern, units, kZeroPattern)}},
            {{"const", 0}}}},
          {"description", description}};
}

// A text as the parser takes it: whatever is no list, no map and not empty.
Json text() {
  return {{"type", {"string", "number", "boolean"}}};
}
Json filled_text() {
  return {{"type", {"string", "number", "boolean"}}, {"pattern", R"(\S)"}};
}
Json name_text() {
  return {{"type", {"string", "number", "boolean"}},
          {"pattern", kNamePattern},
          {"maxLength", kNameLengthLimit}};
}
Json text_list() {
  return {{"type", "array"}, {"items", text()}};
}
Json argv() {
  return {{"type", "array"}, {"items", text()}, {"minItems", 1}};
}
Json integer(double minimum, double maximum) {
  Json schema = {{"type", "integer"}};
  // Limits that no 64-bit number reaches are none.
  if (minimum > -9.2e18) schema["minimum"] = static_cast<std::int64_t>(minimum);
  if (maximum < 9.2e18) schema["maximum"] = static_cast<std::int64_t>(maximum);
  return schema;
}

Json word_keys() {
  return {{"pattern", kWordPattern}, {"maxLength", kNameLengthLimit}};
}
Json name_keys() {
  return {{"pattern", kNamePattern}, {"maxLength", kNameLengthLimit}};
}

// A map whose keys are fixed.
class ObjectSchema {
 public:
  explicit ObjectSchema(Form form) : form_(form) {}

  ObjectSchema& key(std::string_view name, Json schema, std::string_view description = {}) {
    schema = with_description(std::move(schema), description);
    if (form_ == Form::kOverride) {
      schema = {{"anyOf", Json::array({std::move(schema), {{"type", "null"}}})}};
    }
    properties_[std::string(name)] = std::move(schema);
    return *this;
  }
  ObjectSchema& required(std::string_view name, Json schema, std::string_view description = {}) {
    key(name, std::move(schema), description);
    if (form_ == Form::kWhole) required_.push_back(name);
    return *this;
  }
  Json build() const {
    Json schema = {
        {"type", "object"}, {"properties", properties_}, {"additionalProperties", false}};
    if (!required_.empty()) schema["required"] = required_;
    return schema;
  }

 private:
  Form form_;
  Json properties_ = Json::object();
  Json required_ = Json::array();
};

// A map whose keys are names that the user chooses.
Json map_of(Json entries, Json keys, Form form) {
  if (form == Form::kOverride) {
    entries = {{"anyOf", Json::array({std::move(entries), {{"type", "null"}}})}};
  }
  return {{"type", "object"},
          {"propertyNames", std::move(keys)},
          {"additionalProperties", std::move(entries)}};
}

Json parameters(std::span<const ParameterDescriptor> descriptors, Form form);

Json number_value(const ParameterDescriptor& descriptor) {
  Json schema = {{"type", "number"}};
  if (descriptor.minimum > -1e300) schema["minimum"] = descriptor.minimum;
  if (descriptor.maximum < 1e300) schema["maximum"] = descriptor.maximum;
  return schema;
}

Json status_value() {
  Json one = {{"anyOf",
               {{{"type", "string"}, {"pattern", "^[1-5](xx|[0-9][0-9])$"}},
                {{"type", "integer"}, {"minimum", 100}, {"maximum", 599}}}}};
  return {{"anyOf", {one, {{"type", "array"}, {"items", one}, {"minItems", 1}}}}};
}

Json value(const ParameterDescriptor& descriptor, Form form) {
  switch (descriptor.type) {
    case ValueType::kDuration:
      return reference("duration");
    case ValueType::kSize:
      return reference("size");
    case ValueType::kRate:
      return reference("rate");
    case ValueType::kShare:
      return reference("share");
    case ValueType::kInteger:
      return integer(descriptor.minimum, descriptor.maximum);
    case ValueType::kNumber:
      return number_value(descriptor);
    case ValueType::kBoolean:
      return {{"type", "boolean"}};
    case ValueType::kChoice:
      return {{"enum", descriptor.choices}};
    case ValueType::kSignal:
      return {{"enum", signal_names()}};
    case ValueType::kArgv:
      return argv();
    case ValueType::kUrl:
      return {{"type", "string"}, {"pattern", R"(^https?://[^/\s]\S*$)"}};
    case ValueType::kPath:
    case ValueType::kQuery:
      return filled_text();
    case ValueType::kCondition:
      return {{"type", {"string", "boolean"}}};
    case ValueType::kStatus:
      return status_value();
    case ValueType::kTextMap:
      return {{"type", "object"}, {"additionalProperties", text()}};
    case ValueType::kAny:
      return {{"not", {{"type", "null"}}}};
    case ValueType::kObject:
      return parameters(descriptor.children, form);
    case ValueType::kLoad:
      return reference("load");
    case ValueType::kText:
    case ValueType::kService:
    case ValueType::kMember:
      break;
  }
  return text();
}

Json parameters(std::span<const ParameterDescriptor> descriptors, Form form) {
  ObjectSchema schema(form);
  for (const ParameterDescriptor& descriptor : descriptors) {
    std::string description(descriptor.summary);
    if (!descriptor.default_text.empty()) {
      description += fmt::format(" Default: {}", descriptor.default_text);
    }
    if (descriptor.required) {
      schema.required(descriptor.name, value(descriptor, form), description);
    } else {
      schema.key(descriptor.name, value(descriptor, form), description);
    }
  }
  return schema.build();
}

Json load_definition() {
  Json ramp = ObjectSchema(Form::kWhole)
                  .required("from", reference("rate"))
                  .required("to", reference("rate"))
                  .required("over", reference("duration"))
                  .build();
  Json step = ObjectSchema(Form::kWhole)
                  .required("rate", reference("rate"))
                  .required("for", reference("duration"))
                  .build();
  return {{"anyOf",
           {reference("rate"),
            ObjectSchema(Form::kWhole).required("poisson", reference("rate")).build(),
            ObjectSchema(Form::kWhole).required("ramp", ramp).build(),
            ObjectSchema(Form::kWhole)
                .required("step", {{"type", "array"}, {"items", step}, {"minItems", 1}})
                .build()}},
          {"description", "A rate such as 200/s, or a map with poisson, ramp or step."}};
}

Json definitions() {
  Json prediction = ObjectSchema(Form::kWhole)
                        .required("predict", {{"type", "string"}, {"minLength", 1}})
                        .key("confidence", {{"enum", {"interval", "none"}}},
                             "none: the point estimate decides, without its interval.")
                        .build();
  return {
      {"duration", quantity("ns|us|ms|s|min|h|d", "A duration such as 250ms, 30s or 2min.")},
      {"size", quantity("B|KB|MB|GB|KiB|MiB|GiB|TiB", "A size such as 64KiB.")},
      {"rate", quantity("/s|/min|/h", "A rate such as 200/s or 10/min.")},
      {"share",
       {{"anyOf",
         {{{"type", "string"}, {"pattern", fmt::format(R"(^\s*{}\s*%?\s*$)", kNumberPattern)}},
          {{"type", "number"}, {"minimum", 0}, {"maximum", 1}}}},
        {"description", "A share such as 5%."}}},
      {"load", load_definition()},
      {"prediction",
       {{"anyOf", Json::array({{{"type", "string"}, {"minLength", 1}}, std::move(prediction)})},
        {"description",
         "A claim in the prediction language, quoted whole in single quotes when it "
         "contains a double quote, a bracket or a brace."}}},
      {"predictions",
       {{"type", "object"},
        {"propertyNames", name_keys()},
        {"additionalProperties", reference("prediction")}}},
      {"abort_rules", {{"type", "array"}, {"items", reference("prediction")}}},
  };
}

Json process_selector(Form form) {
  Json filled = {{"type", {"string", "number", "boolean"}}, {"minLength", 1}};
  Json schema = ObjectSchema(form)
                    .key("exe", filled, "Base name of the program, or its full path.")
                    .key("argv_contains", filled, "A text in some argument.")
                    .key("user", filled, "User name.")
                    .key("cgroup", filled, "Path of a version 2 control group.")
                    .build();
  if (form == Form::kWhole) schema["minProperties"] = 1;
  return schema;
}

Json container_selector(Form form) {
  Json schema = ObjectSchema(form)
                    .key("name", filled_text(), "Name of the container.")
                    .key("label", {{"type", "string"}, {"pattern", "^[^=]+="}}, "key=value")
                    .key("image", filled_text(), "Name of the image.")
                    .build();
  if (form == Form::kWhole) schema["minProperties"] = 1;
  return schema;
}

Json listens() {
  return {{"type", "string"},
          {"pattern", R"(^(unix:[\s\S]+|\[[0-9A-Fa-f:.]+\]:[0-9]{1,5}|[0-9a-z.]+:[0-9]{1,5})$)"}};
}

Json members(Form form) {
  Json member = ObjectSchema(form)
                    .key("role", name_text(), "Its role; default: its name.")
                    .key("listens", listens(), "Address and port.")
                    .key("process", process_selector(form), "Which process it is.")
                    .key("container", container_selector(form), "Which container it is.")
                    .key("start", argv(), "Program and arguments that start it.")
                    .build();
  Json map = map_of(std::move(member), word_keys(), form);
  if (form == Form::kWhole) map["minProperties"] = 1;
  return {{"anyOf", Json::array({{{"type", "integer"}, {"minimum", 1}, {"maximum", 1000}},
                                 std::move(map)})}};
}

Json service(Form form) {
  return ObjectSchema(form)
      .key("external", {{"type", "boolean"}}, "Not on this host: stands for whoever calls in.")
      .key("process", process_selector(form), "Which processes are members.")
      .key("container", container_selector(form), "Which containers are members.")
      .key("kind", name_text(), "What it is: postgres, redis, ...")
      .key("listens", listens(), "127.0.0.1:8080, [::1]:8080 or unix:/run/api.sock")
      .key("start", argv(), "Program and arguments that start one member; {member} is its name.")
      .key("depends_on", text_list(), "Services that it needs.")
      .key("logs", text_list(), "Log files, relative to this file.")
      .key("owner", text(), "Who is asked about it.")
      .key("members", members(form), "How many, or a map of name to member.")
      .build();
}

// Kinds beside fixed keys: exactly one kind, none of the others.
template <typename Kinds>
Json with_kinds(ObjectSchema keys, const Kinds& kinds, Form form) {
  Json one_of = Json::array();
  for (const auto* kind : kinds) {
    keys.key(kind->name, parameters(kind->parameters, form), kind->summary);
    one_of.push_back({{"required", {kind->name}}});
  }
  Json schema = keys.build();
  if (form == Form::kWhole) schema["oneOf"] = std::move(one_of);
  return schema;
}

Json probe(const Vocabulary& vocabulary, Form form) {
  ObjectSchema keys(form);
  keys.key("from", text(), "The service that it stands for.");
  keys.key("to", text(), "The service that it asks.");
  return with_kinds(std::move(keys), vocabulary.probes, form);
}

void add_map_keys(ObjectSchema& schema, const Vocabulary& vocabulary, Form form) {
  Json services = map_of(service(form), word_keys(), form);
  if (form == Form::kWhole) services["minProperties"] = 1;
  Json limits = ObjectSchema(form)
                    .key("longest_fault", reference("duration"), "Default: 10min")
                    .key("processes", integer(1, 1000), "Most that one experiment may touch.")
                    .build();
  schema.required("services", std::move(services), "What the system consists of.")
      .key("probes", map_of(probe(vocabulary, form), word_keys(), form), "How it is observed.")
      .key("steady_state", map_of(reference("prediction"), name_keys(), form),
           "Predictions without phase that hold before and after every experiment.")
      .key("abort_when", reference("abort_rules"), "Rules that end any experiment.")
      .key("limits", std::move(limits), "Of every experiment on this system.");
}

Json document(std::string_view title, Json schema) {
  schema["$schema"] = "http://json-schema.org/draft-07/schema#";
  schema["title"] = title;
  schema["definitions"] = definitions();
  return schema;
}

}  // namespace

Json system_map_schema(const Vocabulary& vocabulary) {
  ObjectSchema override(Form::kOverride);
  add_map_keys(override, vocabulary, Form::kOverride);
  override.key("production", {{"type", "boolean"}}, "Whether it counts as production.");
  Json environments = map_of(override.build(), name_keys(), Form::kOverride);
  // Without any environment the key may stand empty.
  environments["type"] = {"object", "null"};

  ObjectSchema schema(Form::kWhole);
  schema.required("system", name_text(), "The name of the system.");
  add_map_keys(schema, vocabulary, Form::kWhole);
  schema.key("environments", std::move(environments),
             "Changes to this map by environment. null removes a key.");
  return document("Squall system map", schema.build());
}

Json experiment_schema(const Vocabulary& vocabulary) {
  ObjectSchema fault_keys(Form::kWhole);
  fault_keys.key("name",
                 {{"type", "string"}, {"pattern", kWordPattern}, {"maxLength", kNameLengthLimit}},
                 "The name by which predictions speak of it.");
  fault_keys.key("at", reference("duration"), "When it starts, after the baseline. Default: 0s");
  fault_keys.required("for", reference("duration"), "How long it lasts.");
  fault_keys.key("overlap", {{"type", "boolean"}},
                 "May its targets be under another fault that says so, too? Default: false");
  Json fault = with_kinds(std::move(fault_keys), vocabulary.faults, Form::kWhole);

  Json blast_radius = ObjectSchema(Form::kWhole)
                          .required("services", argv(), "The services that faults may touch.")
                          .key("processes", integer(1, 1000), "At most so many. Default: 1")
                          .required("duration", reference("duration"), "All faults together.")
                          .build();
  Json phases = ObjectSchema(Form::kWhole)
                    .key("baseline", reference("duration"), "Default: 60s")
                    .key("recovery", reference("duration"), "At most. Default: 120s")
                    .build();
  Json load_limits = ObjectSchema(Form::kWhole)
                         .key("lag", reference("duration"), "Default: 100ms")
                         .key("drops", reference("share"), "Default: 0.1%")
                         .build();
  Json hypothesis = definitions()["predictions"];
  hypothesis["minProperties"] = 1;
  Json abort_when = definitions()["abort_rules"];
  abort_when["minItems"] = 1;

  ObjectSchema schema(Form::kWhole);
  schema.required("experiment", name_text(), "The name of the experiment.")
      .required("scenario", filled_text(), "What happens, in a sentence.")
      .required("hypothesis", std::move(hypothesis), "What you believe will hold meanwhile.")
      .required("faults", {{"type", "array"}, {"items", std::move(fault)}, {"minItems", 1}},
                "What is broken, and when.")
      .required("blast_radius", std::move(blast_radius), "The bounds of what may be hit.")
      .required("abort_when", std::move(abort_when), "When to stop and revert at once.")
      .key("phases", std::move(phases), "How long is observed before and after.")
      .key("seed", integer(0, 1e300), "Makes random choices repeatable.")
      .key("owner", text(), "Who is asked about it.")
      .key("tags", text_list(), "Words to find it by.")
      .key("load_limits", std::move(load_limits),
           "Above these the load probes make predictions inconclusive.");
  return document("Squall experiment", schema.build());
}

}  // namespace squall::model
