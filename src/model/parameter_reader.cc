#include "model/parameter_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "base/text.h"
#include "base/units.h"
#include "model/yaml_scalar.h"

namespace squall::model {
namespace {

using base::Json;

constexpr std::array<std::string_view, 20> kSignalNames = {
    "SIGKILL", "SIGTERM", "SIGINT",  "SIGQUIT", "SIGHUP",  "SIGABRT", "SIGSEGV",
    "SIGBUS",  "SIGFPE",  "SIGILL",  "SIGSTOP", "SIGCONT", "SIGTSTP", "SIGUSR1",
    "SIGUSR2", "SIGPIPE", "SIGALRM", "SIGTRAP", "SIGSYS",  "SIGWINCH"};

// One value as JSON in base units, or a discarded Json after a mistake.
const Json kMistake = Json(Json::value_t::discarded);

std::string format_limit(ValueType type, double limit) {
  switch (type) {
    case ValueType::kDuration:
      return base::format_duration(base::Duration(static_cast<std::int64_t>(limit)));
    case ValueType::kSize:
      return base::format_size(static_cast<std::uint64_t>(limit));
    case ValueType::kRate:
    case ValueType::kLoad:
      return base::format_rate(limit);
    case ValueType::kShare:
      return base::format_share(limit);
    default:
      return base::format_quantity({limit, base::Dimension::kNumber});
  }
}

// Reads the values of one map of parameters.
class Reader {
 public:
  Reader(const ParameterContext& context, const std::string& owner)
      : context_(context), file_(context.file), owner_(owner) {}

  Json read_map(const YamlNode& node, std::span<const ParameterDescriptor> descriptors) {
    Json values = Json::object();
    if (node.is_null()) {
      file_.error(node, fmt::format("{} is empty", owner_), "write {} when nothing is to be set");
      return values;
    }
    MapReader reader(file_, node, owner_);
    for (const ParameterDescriptor& descriptor : descriptors) {
      const YamlNode* value = descriptor.required
                                  ? reader.require(descriptor.name, descriptor.summary)
                                  : reader.find(descriptor.name);
      Json read = value != nullptr ? read_value(*value, descriptor) : default_of(descriptor, node);
      if (!read.is_discarded()) values[std::string(descriptor.name)] = std::move(read);
    }
    if (!reader.valid()) return values;
    reader.finish();
    for (const ParameterDescriptor& descriptor : descriptors) {
      if (descriptor.type == ValueType::kMember) check_member(node, descriptor, values);
    }
    return values;
  }

 private:
  std::string named(const ParameterDescriptor& descriptor) const {
    return fmt::format("`{}` of {}", descriptor.name, owner_);
  }

  // The default of an absent parameter; discarded when there is none.
  Json default_of(const ParameterDescriptor& descriptor, const YamlNode& parent) {
    if (descriptor.type == ValueType::kObject && descriptor.default_text.empty()) {
      return default_object(descriptor, parent);
    }
    if (descriptor.default_text.empty()) return kMistake;
    Diagnostics diagnostics;
    YamlDocument document = YamlDocument::parse(descriptor.default_text, "default", diagnostics);
    FileContext file{document, diagnostics};
    ParameterContext context{file, context_.map};
    Json value = kMistake;
    YamlNode scalar;
    const YamlNode* node = document.root().get();
    if (node == nullptr || !structured(descriptor.type)) {
      // As written: a default such as "*" or "no" is no YAML of its own.
      diagnostics = {};
      scalar.kind = YamlNode::Kind::kScalar;
      scalar.text = descriptor.default_text;
      node = &scalar;
    }
    value = Reader(context, owner_).read_value(*node, descriptor);
    SQUALL_CHECK(!diagnostics.has_errors() && !value.is_discarded());
    return value;
  }

  // An absent map is filled in when its parameters all have defaults or may be absent, so that
  // kinds read `expect.status` without asking whether somebody wrote `expect`.
  Json default_object(const ParameterDescriptor& descriptor, const YamlNode& parent) {
    bool required = std::any_of(descriptor.children.begin(), descriptor.children.end(),
                                [](const ParameterDescriptor& child) { return child.required; });
    if (required) return kMistake;
    Json values = Json::object();
    for (const ParameterDescriptor& child : descriptor.children) {
      Json value = default_of(child, parent);
      if (!value.is_discarded()) values[std::string(child.name)] = std::move(value);
    }
    return values.empty() ? kMistake : values;
  }

  static bool structured(ValueType type) {
    return type == ValueType::kArgv || type == ValueType::kStatus || type == ValueType::kTextMap ||
           type == ValueType::kAny || type == ValueType::kObject || type == ValueType::kLoad;
  }

  Json read_value(const YamlNode& node, const ParameterDescriptor& descriptor) {
    switch (descriptor.type) {
      case ValueType::kDuration:
        return limited(node, descriptor, read_duration(file_, node, named(descriptor)),
                       [](base::Duration value) { return value.count(); });
      case ValueType::kSize:
        return limited(
            node, descriptor, read_size(file_, node, named(descriptor)), [](std::uint64_t value) {
              return static_cast<std::int64_t>(
                  std::min<std::uint64_t>(value, std::numeric_limits<std::int64_t>::max()));
            });
      case ValueType::kRate:
        return limited(node, descriptor, read_rate(file_, node, named(descriptor)));
      case ValueType::kShare:
        return limited(node, descriptor, read_share(file_, node, named(descriptor)));
      case ValueType::kInteger:
        return limited(node, descriptor, read_integer(file_, node, named(descriptor)));
      case ValueType::kNumber:
        return limited(node, descriptor, read_number(file_, node, named(descriptor)));
      case ValueType::kBoolean: {
        auto value = read_boolean(file_, node, named(descriptor));
        return value ? Json(*value) : kMistake;
      }
      case ValueType::kArgv:
        return read_argv(node, descriptor);
      case ValueType::kStatus:
        return read_statuses(node, descriptor);
      case ValueType::kTextMap:
        return read_text_map(node, descriptor);
      case ValueType::kAny:
        return to_json(node);
      case ValueType::kObject:
        return Reader(context_, named(descriptor)).read_map(node, descriptor.children);
      case ValueType::kLoad:
        return read_load(node, descriptor);
      default:
        return read_text_value(node, descriptor);
    }
  }

  // The value after its limits are checked.
  template <typename T, typename Convert>
  Json limited(const YamlNode& node, const ParameterDescriptor& descriptor, std::optional<T> value,
               Convert convert) {
    if (!value) return kMistake;
    auto converted = convert(*value);
    if (!within_limits(node, descriptor, static_cast<double>(converted))) return kMistake;
    return converted;
  }
  template <typename T>
  Json limited(const YamlNode& node, const ParameterDescriptor& descriptor,
               std::optional<T> value) {
    return limited(node, descriptor, value, [](T same) { return same; });
  }

  bool within_limits(const YamlNode& node, const ParameterDescriptor& descriptor, double value) {
    if (value >= descriptor.minimum && value <= descriptor.maximum) return true;
    bool low = value < descriptor.minimum;
    double limit = low ? descriptor.minimum : descriptor.maximum;
    file_.error(node,
                fmt::format("{} is {}; {} {} is allowed", named(descriptor), described(node),
                            low ? "at least" : "at most", format_limit(descriptor.type, limit)),
                std::string(descriptor.summary));
    return false;
  }

  Json read_argv(const YamlNode& node, const ParameterDescriptor& descriptor) {
    if (node.is_scalar()) {
      file_.error(node, fmt::format("{} is one text; a list is wanted", named(descriptor)),
                  "nothing is run by a shell: write the program and each argument as an entry, "
                  "[program, argument]");
      return kMistake;
    }
    std::vector<std::string> texts = read_texts(file_, node, named(descriptor));
    if (!node.is_sequence() || texts.size() != node.items.size()) return kMistake;
    if (texts.empty() || texts[0].empty()) {
      file_.error(node, fmt::format("{} names no program", named(descriptor)),
                  "the first entry is the program");
      return kMistake;
    }
    if (!within_limits(node, descriptor, static_cast<double>(texts.size()))) return kMistake;
    return texts;
  }

  std::optional<std::string> read_status(const YamlNode& node,
                                         const ParameterDescriptor& descriptor) {
    auto text = read_text(file_, node, named(descriptor));
    if (!text) return std::nullopt;
    bool shaped = text->size() == 3 && (*text)[0] >= '1' && (*text)[0] <= '5';
    bool group = shaped && text->substr(1) == "xx";
    bool digits = shaped && std::all_of(text->begin(), text->end(),
                                        [](char c) { return c >= '0' && c <= '9'; });
    if (group || digits) return text;
    file_.error(node, fmt::format("{} is `{}`, which is no HTTP status", named(descriptor), *text),
                "write a status such as 200, a group such as 2xx, or a list of these");
    return std::nullopt;
  }

  Json read_statuses(const YamlNode& node, const ParameterDescriptor& descriptor) {
    Json list = Json::array();
    if (!node.is_sequence()) {
      auto one = read_status(node, descriptor);
      if (!one) return kMistake;
      list.push_back(*one);
      return list;
    }
    if (node.items.empty()) {
      file_.error(node, fmt::format("{} is an empty list", named(descriptor)), "write a status");
      return kMistake;
    }
    for (const YamlNodePtr& item : node.items) {
      auto one = read_status(*item, descriptor);
      if (!one) return kMistake;
      list.push_back(*one);
    }
    return list;
  }

  Json read_text_map(const YamlNode& node, const ParameterDescriptor& descriptor) {
    if (!node.is_map()) {
      file_.error(node, fmt::format("{} is {}; a map of texts is wanted", named(descriptor),
                                    described(node)));
      return kMistake;
    }
    Json map = Json::object();
    for (const YamlNode::Entry& entry : node.entries) {
      auto text =
          read_text(file_, *entry.value, fmt::format("`{}` in {}", entry.key, named(descriptor)));
      if (text) map[entry.key] = *text;
    }
    return map;
  }

  std::optional<double> read_load_rate(const YamlNode* node, const ParameterDescriptor& descriptor,
                                       bool zero_allowed) {
    if (node == nullptr) return std::nullopt;
    auto rate = read_rate(file_, *node, named(descriptor));
    if (!rate || !within_limits(*node, descriptor, *rate)) return std::nullopt;
    if (*rate < 0 || (*rate == 0 && !zero_allowed)) {
      file_.error(*node, fmt::format("{} is not above zero", named(descriptor)),
                  "write a rate such as 200/s");
      return std::nullopt;
    }
    return rate;
  }

  Json read_load(const YamlNode& node, const ParameterDescriptor& descriptor) {
    if (!node.is_map()) {
      auto rate = read_load_rate(&node, descriptor, /*zero_allowed=*/false);
      return rate ? Json{{"shape", "constant"}, {"rate", *rate}} : kMistake;
    }
    MapReader reader(file_, node, named(descriptor));
    const YamlNode* poisson = reader.find("poisson");
    const YamlNode* ramp = reader.find("ramp");
    const YamlNode* step = reader.find("step");
    reader.finish();
    if ((poisson != nullptr) + (ramp != nullptr) + (step != nullptr) != 1) {
      file_.error(node, fmt::format("{} needs exactly one shape", named(descriptor)),
                  "write a rate such as 200/s, or one of poisson, ramp and step");
      return kMistake;
    }
    if (poisson != nullptr) {
      auto rate = read_load_rate(poisson, descriptor, /*zero_allowed=*/false);
      return rate ? Json{{"shape", "poisson"}, {"rate", *rate}} : kMistake;
    }
    return ramp != nullptr ? read_ramp(*ramp, descriptor) : read_steps(*step, descriptor);
  }

  Json read_ramp(const YamlNode& node, const ParameterDescriptor& descriptor) {
    MapReader reader(file_, node, fmt::format("`ramp` of {}", named(descriptor)));
    constexpr std::string_view kHint = "write ramp: { from: 10/s, to: 200/s, over: 30s }";
    auto from = read_load_rate(reader.require("from", kHint), descriptor, /*zero_allowed=*/true);
    auto to = read_load_rate(reader.require("to", kHint), descriptor, /*zero_allowed=*/true);
    const YamlNode* over = reader.require("over", kHint);
    reader.finish();
    if (over == nullptr) return kMistake;
    auto duration = read_positive_duration(file_, *over, "`over`", std::chrono::hours(24));
    if (!from || !to || !duration) return kMistake;
    return Json{{"shape", "ramp"}, {"from", *from}, {"to", *to}, {"over", duration->count()}};
  }

  Json read_steps(const YamlNode& node, const ParameterDescriptor& descriptor) {
    constexpr std::string_view kHint =
        "write step: [ { rate: 10/s, for: 5s }, { rate: 50/s, for: 5s } ]";
    if (!node.is_sequence() || node.items.empty()) {
      file_.error(node, fmt::format("`step` of {} is no list of steps", named(descriptor)),
                  std::string(kHint));
      return kMistake;
    }
    Json steps = Json::array();
    for (const YamlNodePtr& item : node.items) {
      MapReader reader(file_, *item, fmt::format("a step of {}", named(descriptor)));
      auto rate = read_load_rate(reader.require("rate", kHint), descriptor, /*zero_allowed=*/true);
      const YamlNode* length = reader.require("for", kHint);
      if (reader.valid()) reader.finish();
      if (length == nullptr) continue;
      auto duration = read_positive_duration(file_, *length, "`for`", std::chrono::hours(24));
      if (rate && duration) steps.push_back({{"rate", *rate}, {"for", duration->count()}});
    }
    return Json{{"shape", "step"}, {"steps", std::move(steps)}};
  }

  Json read_text_value(const YamlNode& node, const ParameterDescriptor& descriptor) {
    auto text = read_text(file_, node, named(descriptor));
    if (!text) return kMistake;
    bool right = true;
    switch (descriptor.type) {
      case ValueType::kChoice:
        right = check_choice(node, descriptor, *text, descriptor.choices);
        break;
      case ValueType::kSignal:
        right = check_choice(node, descriptor, *text, kSignalNames);
        break;
      case ValueType::kService:
        right = check_service(file_, context_.map, node, *text, named(descriptor)) != nullptr;
        break;
      case ValueType::kUrl:
        right = check_url(node, descriptor, *text);
        break;
      case ValueType::kCondition: {
        ParsedCondition parsed = parse_condition(*text);
        report_language_errors(file_, node, parsed.errors);
        right = parsed.condition != nullptr && parsed.errors.empty();
        break;
      }
      case ValueType::kPath:
        right = check_filled(node, descriptor, *text);
        if (right) *text = absolute(*text);
        break;
      case ValueType::kQuery:
        right = check_filled(node, descriptor, *text);
        break;
      case ValueType::kText:
        right = within_limits(node, descriptor, static_cast<double>(text->size()));
        break;
      default:
        break;
    }
    return right ? Json(*text) : kMistake;
  }

  // std::filesystem::path joins only a relative right side.
  std::string absolute(const std::string& path) const {
    return (std::filesystem::path(context_.map.directory) / path).lexically_normal().string();
  }

  bool check_filled(const YamlNode& node, const ParameterDescriptor& descriptor,
                    const std::string& text) {
    if (!base::trim(text).empty()) return true;
    file_.error(node, fmt::format("{} is an empty text", named(descriptor)),
                std::string(descriptor.summary));
    return false;
  }

  bool check_choice(const YamlNode& node, const ParameterDescriptor& descriptor,
                    const std::string& text, std::span<const std::string_view> choices) {
    if (std::find(choices.begin(), choices.end(), text) != choices.end()) return true;
    std::string_view near = base::nearest(text, choices);
    if (near.empty() && std::find(choices.begin(), choices.end(), "SIG" + text) != choices.end()) {
      near = *std::find(choices.begin(), choices.end(), "SIG" + text);
    }
    std::vector<std::string> all(choices.begin(), choices.end());
    file_.error(node, fmt::format("{} cannot be `{}`", named(descriptor), text),
                near.empty() ? fmt::format("write one of {}", base::enumerate(all))
                             : fmt::format("did you mean `{}`?", near));
    return false;
  }

  bool check_url(const YamlNode& node, const ParameterDescriptor& descriptor,
                 const std::string& text) {
    std::string_view rest = text;
    if (rest.starts_with("http://")) {
      rest.remove_prefix(7);
    } else if (rest.starts_with("https://")) {
      rest.remove_prefix(8);
    } else {
      rest = {};
    }
    bool has_host = !rest.empty() && rest[0] != '/';
    if (has_host && text.find_first_of(" \t\r\n") == std::string::npos) return true;
    file_.error(node, fmt::format("{} is `{}`, which is no http URL", named(descriptor), text),
                "write it in full, such as http://127.0.0.1:8080/health");
    return false;
  }

  // Names and roles; members that the map only counts are called worker-1, worker-2, ...
  static std::vector<std::string> member_names(const Service& service) {
    std::vector<std::string> result;
    for (const MemberSelector& member : service.members) {
      result.push_back(member.name);
      if (member.role != member.name) result.push_back(member.role);
    }
    for (int number = 1; service.members.empty() && number <= service.expected_members; ++number) {
      result.push_back(fmt::format("{}-{}", service.name, number));
    }
    return result;
  }

  void check_member(const YamlNode& node, const ParameterDescriptor& descriptor, Json& values) {
    auto written = values.find(std::string(descriptor.name));
    auto service_name = values.find("service");
    if (written == values.end() || service_name == values.end()) return;
    if (!service_name->is_string()) return;
    const Service* service = context_.map.service(service_name->get<std::string>());
    const YamlNode::Entry* entry = node.find(descriptor.name);
    if (service == nullptr || entry == nullptr) return;
    std::string name = written->get<std::string>();
    std::vector<std::string> known = member_names(*service);
    if (std::find(known.begin(), known.end(), name) != known.end()) return;
    // How many there are is not always said; then any number may be meant.
    if (known.empty() && name.starts_with(service->name + "-")) return;
    std::string near = base::nearest(name, known);
    std::string hint = fmt::format("did you mean `{}`?", near);
    if (known.empty()) {
      hint = fmt::format("write {}-1, or name the members under `members` of the service",
                         service->name);
    } else if (near.empty()) {
      hint = fmt::format("known: {}", base::enumerate(known));
    }
    file_.error(*entry->value, fmt::format("service `{}` has no member `{}`", service->name, name),
                hint);
  }

  const ParameterContext& context_;
  const FileContext& file_;
  std::string owner_;
};

}  // namespace

Parameters read_parameters(const ParameterContext& context, const YamlNode& node,
                           std::span<const ParameterDescriptor> descriptors,
                           const std::string& what) {
  return Parameters(Reader(context, what).read_map(node, descriptors));
}

const Service* check_service(const FileContext& file, const SystemMap& map, const YamlNode& node,
                             std::string_view name, std::string_view what) {
  if (const Service* service = map.service(name)) return service;
  if (file.diagnostics.full()) return nullptr;
  std::vector<std::string> known;
  for (const Service& service : map.services) known.push_back(service.name);
  std::string near = base::nearest(std::string(name), known);
  std::string hint = known.empty()  ? "the system map has no services"
                     : near.empty() ? fmt::format("known: {}", base::enumerate(known))
                                    : fmt::format("did you mean `{}`?", near);
  file.error(node, fmt::format("{} names `{}`, which is no service of the system map", what, name),
             std::move(hint));
  return nullptr;
}

std::span<const std::string_view> signal_names() {
  return kSignalNames;
}

}  // namespace squall::model
