#include "engine/kinds_document.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "engine/workspace.h"

namespace squall::engine {

namespace {

std::string_view type_in_words(model::ValueType type) {
  switch (type) {
    case model::ValueType::kDuration:
      return "duration";
    case model::ValueType::kSize:
      return "size";
    case model::ValueType::kRate:
      return "rate";
    case model::ValueType::kShare:
      return "share";
    case model::ValueType::kInteger:
      return "whole number";
    case model::ValueType::kNumber:
      return "number";
    case model::ValueType::kBoolean:
      return "true or false";
    case model::ValueType::kText:
      return "text";
    case model::ValueType::kChoice:
      return "choice";
    case model::ValueType::kArgv:
      return "argv list";
    case model::ValueType::kService:
      return "service";
    case model::ValueType::kMember:
      return "member";
    case model::ValueType::kSignal:
      return "signal";
    case model::ValueType::kUrl:
      return "URL";
    case model::ValueType::kPath:
      return "path";
    case model::ValueType::kQuery:
      return "query";
    case model::ValueType::kCondition:
      return "condition";
    case model::ValueType::kStatus:
      return "HTTP status";
    case model::ValueType::kTextMap:
      return "map of texts";
    case model::ValueType::kAny:
      return "any value";
    case model::ValueType::kObject:
      return "map";
    case model::ValueType::kLoad:
      return "load";
  }
  return "value";
}

std::string details_of(const model::ParameterDescriptor& parameter) {
  std::string text(type_in_words(parameter.type));
  if (!parameter.choices.empty()) {
    text += fmt::format(": {}", fmt::join(parameter.choices, ", "));
  }
  if (parameter.required) text += "; required";
  if (!parameter.default_text.empty()) text += fmt::format("; default {}", parameter.default_text);
  return text;
}

void add_parameters(std::string& text, std::span<const model::ParameterDescriptor> parameters,
                    const std::string& prefix) {
  for (const model::ParameterDescriptor& each : parameters) {
    text +=
        fmt::format("  {}{} ({})\n      {}\n", prefix, each.name, details_of(each), each.summary);
    add_parameters(text, each.children, prefix + std::string(each.name) + ".");
  }
}

void add_table(std::string& text, std::span<const model::ParameterDescriptor> parameters,
               const std::string& prefix) {
  for (const model::ParameterDescriptor& each : parameters) {
    text +=
        fmt::format("| `{}{}` | {} | {} |\n", prefix, each.name, details_of(each), each.summary);
    add_table(text, each.children, prefix + std::string(each.name) + ".");
  }
}

base::Json parameters_as_json(std::span<const model::ParameterDescriptor> parameters) {
  base::Json list = base::Json::array();
  for (const model::ParameterDescriptor& each : parameters) {
    base::Json parameter = {{"name", std::string(each.name)},
                            {"type", std::string(type_in_words(each.type))},
                            {"required", each.required},
                            {"summary", std::string(each.summary)}};
    if (!each.default_text.empty()) parameter["default"] = std::string(each.default_text);
    for (const std::string_view choice : each.choices) {
      parameter["choices"].push_back(std::string(choice));
    }
    if (!each.children.empty()) parameter["parameters"] = parameters_as_json(each.children);
    list.push_back(std::move(parameter));
  }
  return list;
}

}  // namespace

std::string kind_as_text(const model::FaultKindDescriptor& kind) {
  std::string text = fmt::format("{}: {}\n\n", kind.name, kind.summary);
  text += fmt::format("effect   {}\nrevert   {}\nproof    {}\nclass    {}\n", kind.effect,
                      kind.revert, kind.proof, model::to_string(kind.weakest));
  if (!kind.capabilities.empty()) {
    text += fmt::format("needs    {}\n", fmt::join(kind.capabilities, ", "));
  }
  text += "\nparameters\n";
  add_parameters(text, kind.parameters, "");
  text += fmt::format("\nexample\n{}\n", kind.example);
  return text;
}

std::string kind_as_text(const model::ProbeKindDescriptor& kind) {
  std::string text = fmt::format("{}: {}\n\nparameters\n", kind.name, kind.summary);
  add_parameters(text, kind.parameters, "");
  text += "\nsignals\n";
  for (const model::SignalDescriptor& signal : kind.signals) {
    text += fmt::format("  .{:<12} {}\n", signal.field, signal.summary);
  }
  text += fmt::format("\nexample\n{}\n", kind.example);
  return text;
}

base::Json kind_as_json(const model::FaultKindDescriptor& kind) {
  base::Json json = {{"kind", std::string(kind.name)},
                     {"type", "fault"},
                     {"summary", std::string(kind.summary)},
                     {"effect", std::string(kind.effect)},
                     {"revert", std::string(kind.revert)},
                     {"proof", std::string(kind.proof)},
                     {"class", std::string(model::to_string(kind.weakest))},
                     {"parameters", parameters_as_json(kind.parameters)},
                     {"example", std::string(kind.example)}};
  for (const std::string_view each : kind.mechanisms)
    json["mechanisms"].push_back(std::string(each));
  for (const std::string_view each : kind.capabilities) {
    json["capabilities"].push_back(std::string(each));
  }
  return json;
}

base::Json kind_as_json(const model::ProbeKindDescriptor& kind) {
  base::Json json = {{"kind", std::string(kind.name)},
                     {"type", "probe"},
                     {"summary", std::string(kind.summary)},
                     {"parameters", parameters_as_json(kind.parameters)},
                     {"example", std::string(kind.example)}};
  for (const model::SignalDescriptor& each : kind.signals) {
    json["signals"].push_back({{"field", std::string(each.field)},
                               {"unit", std::string(each.unit)},
                               {"summary", std::string(each.summary)}});
  }
  return json;
}

std::string faults_document() {
  std::string text =
      "# Faults\n\nGenerated from the kinds' descriptors: `squall kinds --markdown faults`. "
      "A test compares.\n";
  for (const auto* kind : vocabulary().faults) {
    text += fmt::format(
        "\n## {}\n\n{}\n\n| | |\n|---|---|\n| effect | {} |\n| revert | {} |\n| proof | {} |\n"
        "| if everything of Squall is killed | {} |\n| mechanisms | {} |\n| needs | {} |\n"
        "| others than root | {} |\n\n"
        "| parameter | type | meaning |\n|---|---|---|\n",
        kind->name, kind->summary, kind->effect, kind->revert, kind->proof,
        model::to_string(kind->weakest), fmt::join(kind->mechanisms, ", "),
        kind->capabilities.empty() ? "nothing special"
                                   : fmt::format("{}", fmt::join(kind->capabilities, ", ")),
        kind->root_only.empty() ? "as the host's policy says ([files](files.md))"
                                : fmt::format("never: {}", kind->root_only));
    add_table(text, kind->parameters, "");
    text += fmt::format("\n```yaml\n{}\n```\n", kind->example);
  }
  return text;
}

std::string probes_document() {
  std::string text =
      "# Probes\n\nGenerated from the kinds' descriptors: `squall kinds --markdown probes`. "
      "A test compares.\n";
  for (const auto* kind : vocabulary().probes) {
    text += fmt::format("\n## {}\n\n{}\n\n| parameter | type | meaning |\n|---|---|---|\n",
                        kind->name, kind->summary);
    add_table(text, kind->parameters, "");
    text += "\n| signal | unit | meaning |\n|---|---|---|\n";
    for (const model::SignalDescriptor& signal : kind->signals) {
      text += fmt::format("| `.{}` | {} | {} |\n", signal.field, signal.unit, signal.summary);
    }
    text += fmt::format("\n```yaml\n{}\n```\n", kind->example);
  }
  return text;
}

}  // namespace squall::engine
