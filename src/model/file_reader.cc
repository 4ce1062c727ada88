#include "model/file_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "base/units.h"
#include "model/yaml_scalar.h"

namespace squall::model {
namespace {

int width_of(const YamlNode& node) {
  if (!node.is_scalar()) return 1;
  int width = static_cast<int>(node.text.size()) + (node.quoted ? 2 : 0);
  return std::clamp(width, 1, 80);
}

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// Reports a node that is not even a scalar, or an empty one.
bool check_scalar(const FileContext& context, const YamlNode& node, std::string_view what,
                  std::string_view wanted) {
  if (node.is_scalar()) return true;
  if (node.is_null()) {
    context.error(node, fmt::format("{} is empty; {} is wanted", what, wanted),
                  "write a value, or remove the key");
  } else {
    context.error(node, fmt::format("{} is {}; {} is wanted", what, described(node), wanted));
  }
  return false;
}

// A quoted number is a text to every other reader of the file, so it is refused here too.
bool check_not_quoted(const FileContext& context, const YamlNode& node, std::string_view what,
                      std::string_view wanted) {
  if (!node.quoted) return true;
  context.error(node, fmt::format("{} is a text in quotes; {} is wanted", what, wanted),
                "remove the quotes");
  return false;
}

void refuse_number(const FileContext& context, const YamlNode& node, std::string_view what,
                   std::string_view wanted) {
  std::string hint = number_trap(node.text);
  if (hint.empty() && base::parse_quantity(node.text).ok()) hint = "write it without a unit";
  context.error(node, fmt::format("{} is `{}`; {} is wanted", what, node.text, wanted),
                std::move(hint));
}

// The common way of quantities: scalar, trap, then the parser of base.
template <typename Parse>
auto read_quantity(const FileContext& context, const YamlNode& node, std::string_view what,
                   std::string_view wanted, Parse parse)
    -> std::optional<typename decltype(parse(std::string_view()))::value_type> {
  if (!check_scalar(context, node, what, wanted)) return std::nullopt;
  std::string trap = number_trap(node.text);
  if (!trap.empty()) {
    context.error(node, fmt::format("{} is `{}`; {} is wanted", what, node.text, wanted), trap);
    return std::nullopt;
  }
  if (base::trim(node.text).starts_with('-')) {
    context.error(node, fmt::format("{} is negative", what), "write it without the minus");
    return std::nullopt;
  }
  auto parsed = parse(std::string_view(node.text));
  if (!parsed.ok()) {
    context.error(node, fmt::format("{}: {}", what, parsed.error().message), parsed.error().hint);
    return std::nullopt;
  }
  return std::move(parsed).value();
}

constexpr std::string_view kQuoteHint =
    "quote the whole prediction in single quotes: a double quote, a bracket or a brace in it means "
    "something else to YAML";

}  // namespace

void FileContext::error(const YamlNode& node, std::string message, std::string hint) const {
  diagnostics.error(document.location(node), std::move(message), std::move(hint), width_of(node));
}

void FileContext::error(const YamlNode::Entry& entry, std::string message, std::string hint) const {
  diagnostics.error(document.location(entry), std::move(message), std::move(hint),
                    static_cast<int>(std::clamp<std::size_t>(entry.key.size(), 1, 80)));
}

std::string described(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::kNull:
      return "empty";
    case YamlNode::Kind::kSequence:
      return "a list";
    case YamlNode::Kind::kMap:
      return "a map";
    case YamlNode::Kind::kScalar:
      break;
  }
  return fmt::format("`{}`", node.text);
}

MapReader::MapReader(const FileContext& context, const YamlNode& node, std::string what)
    : context_(context), node_(node), what_(std::move(what)) {
  if (!node_.is_map()) {
    context_.error(
        node_, fmt::format("{} is {}; a map of `key: value` is wanted", what_, described(node_)));
  }
}

const YamlNode::Entry* MapReader::find_entry(std::string_view key) {
  known_.emplace_back(key);
  return node_.find(key);
}

const YamlNode* MapReader::find(std::string_view key) {
  const YamlNode::Entry* entry = find_entry(key);
  if (entry == nullptr) return nullptr;
  if (entry->value->is_null()) {
    context_.error(*entry, fmt::format("`{}` of {} is empty", key, what_),
                   "write a value, or remove the key");
    return nullptr;
  }
  return entry->value.get();
}

const YamlNode* MapReader::require(std::string_view key, std::string_view hint) {
  const YamlNode* value = find(key);
  if (value == nullptr && valid() && node_.find(key) == nullptr) {
    context_.error(node_, fmt::format("{} has no `{}`", what_, key), std::string(hint));
  }
  return value;
}

void MapReader::finish() const {
  for (const YamlNode::Entry& entry : node_.entries) {
    if (context_.diagnostics.full()) return;
    if (std::find(known_.begin(), known_.end(), entry.key) != known_.end()) continue;
    std::string near = base::nearest(entry.key, known_);
    std::string hint = near.empty() ? fmt::format("known here: {}", base::enumerate(known_))
                                    : fmt::format("did you mean `{}`?", near);
    context_.error(entry, fmt::format("unknown key `{}` in {}", entry.key, what_), std::move(hint));
  }
}

std::optional<std::string> read_text(const FileContext& context, const YamlNode& node,
                                     std::string_view what) {
  if (!check_scalar(context, node, what, "a text")) return std::nullopt;
  return node.text;
}

std::optional<bool> read_boolean(const FileContext& context, const YamlNode& node,
                                 std::string_view what) {
  constexpr std::string_view kWanted = "true or false";
  if (!check_scalar(context, node, what, kWanted)) return std::nullopt;
  if (!check_not_quoted(context, node, what, kWanted)) return std::nullopt;
  if (auto value = core_boolean(node.text)) return value;
  context.error(node, fmt::format("{} is `{}`; true or false is wanted", what, node.text),
                boolean_trap(node.text));
  return std::nullopt;
}

std::optional<std::int64_t> read_integer(const FileContext& context, const YamlNode& node,
                                         std::string_view what) {
  constexpr std::string_view kWanted = "a whole number";
  if (!check_scalar(context, node, what, kWanted)) return std::nullopt;
  if (!check_not_quoted(context, node, what, kWanted)) return std::nullopt;
  if (auto value = core_integer(node.text)) return value;
  // 1e3 and 3.0 are whole numbers too; above 2^53 a double no longer says which.
  auto number = core_number(node.text);
  if (number && std::abs(*number) <= 9007199254740992.0 && std::trunc(*number) == *number) {
    return static_cast<std::int64_t>(*number);
  }
  refuse_number(context, node, what, kWanted);
  return std::nullopt;
}

std::optional<double> read_number(const FileContext& context, const YamlNode& node,
                                  std::string_view what) {
  constexpr std::string_view kWanted = "a number";
  if (!check_scalar(context, node, what, kWanted)) return std::nullopt;
  if (!check_not_quoted(context, node, what, kWanted)) return std::nullopt;
  if (auto value = core_number(node.text)) return value;
  refuse_number(context, node, what, kWanted);
  return std::nullopt;
}

std::optional<base::Duration> read_duration(const FileContext& context, const YamlNode& node,
                                            std::string_view what) {
  return read_quantity(context, node, what, "a duration such as 250ms or 30s",
                       base::parse_duration);
}

std::optional<double> read_share(const FileContext& context, const YamlNode& node,
                                 std::string_view what) {
  return read_quantity(context, node, what, "a share such as 5%", base::parse_share);
}

std::optional<double> read_rate(const FileContext& context, const YamlNode& node,
                                std::string_view what) {
  return read_quantity(context, node, what, "a rate such as 200/s", base::parse_rate);
}

std::optional<std::uint64_t> read_size(const FileContext& context, const YamlNode& node,
                                       std::string_view what) {
  return read_quantity(context, node, what, "a size such as 64KiB", base::parse_size);
}

std::optional<base::Duration> read_positive_duration(const FileContext& context,
                                                     const YamlNode& node, std::string_view what,
                                                     base::Duration limit) {
  auto value = read_duration(context, node, what);
  if (!value) return std::nullopt;
  if (*value <= base::Duration::zero()) {
    context.error(node, fmt::format("{} is not above zero", what), "write a duration such as 30s");
    return std::nullopt;
  }
  if (*value > limit) {
    context.error(node, fmt::format("{} is longer than {}", what, base::format_duration(limit)),
                  "write a shorter one");
    return std::nullopt;
  }
  return value;
}

std::vector<std::string> read_texts(const FileContext& context, const YamlNode& node,
                                    std::string_view what) {
  std::vector<std::string> result;
  if (!node.is_sequence()) {
    context.error(node, fmt::format("{} is {}; a list is wanted", what, described(node)),
                  node.is_scalar() ? fmt::format("write [{}]", node.text) : std::string());
    return result;
  }
  for (const YamlNodePtr& item : node.items) {
    if (auto text = read_text(context, *item, fmt::format("an entry of {}", what))) {
      result.push_back(std::move(*text));
    }
  }
  return result;
}

bool is_word(std::string_view text) {
  if (text.empty() || text.size() > kNameLengthLimit || !is_letter(text[0])) return false;
  for (std::size_t i = 1; i < text.size(); ++i) {
    bool inner_hyphen = text[i] == '-' && text[i - 1] != '-' && i + 1 < text.size();
    if (!is_letter(text[i]) && !is_digit(text[i]) && !inner_hyphen) return false;
  }
  return true;
}

bool is_name(std::string_view text) {
  if (text.empty() || text.size() > kNameLengthLimit) return false;
  if (!is_letter(text[0]) && !is_digit(text[0])) return false;
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return is_letter(c) || is_digit(c) || c == '-' || c == '.'; });
}

bool check_word(const FileContext& context, const YamlNode::Entry& entry, std::string_view what) {
  if (is_word(entry.key)) return true;
  context.error(entry, fmt::format("`{}` cannot be the name of {}", entry.key, what),
                "names start with a letter and have letters, digits, `_`, and `-` between them");
  return false;
}

bool check_name(const FileContext& context, const YamlNode::Entry& entry, std::string_view what) {
  if (is_name(entry.key)) return true;
  context.error(entry, fmt::format("`{}` cannot be the name of {}", entry.key, what),
                "names have letters, digits, `_`, `-` and `.`, and no spaces");
  return false;
}

std::optional<std::string> read_name(const FileContext& context, const YamlNode& node,
                                     std::string_view what) {
  auto text = read_text(context, node, what);
  if (!text) return std::nullopt;
  if (!is_name(*text)) {
    context.error(node, fmt::format("{} cannot be `{}`", what, *text),
                  "names have letters, digits, `_`, `-` and `.`, and no spaces");
    return std::nullopt;
  }
  return text;
}

void report_language_errors(const FileContext& context, const YamlNode& node,
                            const std::vector<LanguageError>& errors) {
  for (const LanguageError& mistake : errors) {
    auto begin = static_cast<std::size_t>(std::max(mistake.span.begin, 0));
    context.diagnostics.error(context.document.location_in(node, begin), mistake.message,
                              mistake.hint, std::max(1, mistake.span.end - mistake.span.begin));
  }
}

std::optional<Prediction> read_prediction(const FileContext& context, const YamlNode& node,
                                          std::string_view name, const SignalTable& signals,
                                          ClauseRule rule) {
  if (context.diagnostics.full()) return std::nullopt;
  const YamlNode* text = &node;
  Confidence confidence = Confidence::kInterval;
  if (node.is_map()) {
    if (node.find("predict") == nullptr && node.flow) {
      context.error(node, fmt::format("prediction `{}` is a map", name), std::string(kQuoteHint));
      return std::nullopt;
    }
    MapReader reader(context, node, fmt::format("prediction `{}`", name));
    text = reader.require("predict", "write predict: '...' beside confidence");
    if (const YamlNode* value = reader.find("confidence")) {
      if (value->is_scalar() && value->text == "none") {
        confidence = Confidence::kNone;
      } else if (!value->is_scalar() || value->text != "interval") {
        context.error(*value, fmt::format("`confidence` is {}", described(*value)),
                      "write interval (the default) or none (the point estimate decides)");
      }
    }
    reader.finish();
    if (text == nullptr) return std::nullopt;
  }
  if (!text->is_scalar()) {
    std::string hint(text->is_null() ? "write the prediction behind the colon" : kQuoteHint);
    context.error(*text, fmt::format("prediction `{}` is {}", name, described(*text)),
                  std::move(hint));
    return std::nullopt;
  }
  ParsedPrediction parsed = parse_prediction(name, text->text, signals, rule);
  report_language_errors(context, *text, parsed.errors);
  if (!text->quoted && std::count(text->text.begin(), text->text.end(), '"') % 2 != 0) {
    context.error(*text, "YAML has cut this prediction: ` #` starts a comment",
                  std::string(kQuoteHint));
  }
  if (!parsed.prediction) return std::nullopt;
  parsed.prediction->confidence = confidence;
  parsed.prediction->location = context.document.location(*text);
  return std::move(parsed.prediction);
}

std::vector<Prediction> read_predictions(const FileContext& context, const YamlNode& node,
                                         std::string_view what, const SignalTable& signals,
                                         ClauseRule rule) {
  std::vector<Prediction> result;
  if (!node.is_map()) {
    context.error(
        node,
        fmt::format("{} is {}; a map of names to predictions is wanted", what, described(node)),
        "give each prediction a name: `stays-fast: p99(reads.latency) < 250ms ...`");
    return result;
  }
  for (const YamlNode::Entry& entry : node.entries) {
    if (!check_name(context, entry, "a prediction")) continue;
    if (auto prediction = read_prediction(context, *entry.value, entry.key, signals, rule)) {
      result.push_back(std::move(*prediction));
    }
  }
  return result;
}

std::vector<Prediction> read_abort_rules(const FileContext& context, const YamlNode& node,
                                         std::string_view what, std::string_view prefix,
                                         const SignalTable& signals) {
  std::vector<Prediction> result;
  if (!node.is_sequence()) {
    context.error(node, fmt::format("{} is {}; a list of rules is wanted", what, described(node)),
                  "write one rule a line: `- reads.success < 90% over 2s`");
    return result;
  }
  int number = 0;
  for (const YamlNodePtr& item : node.items) {
    std::string name = fmt::format("{}-{}", prefix, ++number);
    if (auto rule = read_prediction(context, *item, name, signals, ClauseRule::kAbortRule)) {
      result.push_back(std::move(*rule));
    }
  }
  return result;
}

}  // namespace squall::model
