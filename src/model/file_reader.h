#pragma once
// Reading values of a user's file: the wanted type, or a mistake with its place and the remedy.
// Nothing here stops at the first mistake: callers go on with what could be read.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "model/diagnostic.h"
#include "model/prediction_language.h"
#include "model/yaml_document.h"

namespace squall::model {

struct FileContext {
  const YamlDocument& document;
  Diagnostics& diagnostics;

  void error(const YamlNode& node, std::string message, std::string hint = {}) const;
  void error(const YamlNode::Entry& entry, std::string message, std::string hint = {}) const;
};

// "a text", "a list", ...: what a node is, for messages.
std::string described(const YamlNode& node);

// Reads a map whose keys are fixed. Ask for every key, then call finish(), which reports the keys
// that nobody asked for.
class MapReader {
 public:
  // `what` names the map in messages: "service `api`". A node that is no map is reported here.
  MapReader(const FileContext& context, const YamlNode& node, std::string what);

  bool valid() const { return node_.is_map(); }
  // Null when absent, and when empty, which is reported: an empty value is a forgotten one.
  const YamlNode* find(std::string_view key);
  const YamlNode* require(std::string_view key, std::string_view hint);
  // As find, but an empty value is a value too.
  const YamlNode::Entry* find_entry(std::string_view key);
  void finish() const;

 private:
  const FileContext& context_;
  const YamlNode& node_;
  std::string what_;
  std::vector<std::string> known_;
};

// All of these report to the context and return nothing when the node is not what is wanted. `what`
// names the value in messages, as "`timeout`".
std::optional<std::string> read_text(const FileContext& context, const YamlNode& node,
                                     std::string_view what);
std::optional<bool> read_boolean(const FileContext& context, const YamlNode& node,
                                 std::string_view what);
std::optional<std::int64_t> read_integer(const FileContext& context, const YamlNode& node,
                                         std::string_view what);
std::optional<double> read_number(const FileContext& context, const YamlNode& node,
                                  std::string_view what);
std::optional<base::Duration> read_duration(const FileContext& context, const YamlNode& node,
                                            std::string_view what);
std::optional<double> read_share(const FileContext& context, const YamlNode& node,
                                 std::string_view what);  // 0 to 1
std::optional<double> read_rate(const FileContext& context, const YamlNode& node,
                                std::string_view what);
std::optional<std::uint64_t> read_size(const FileContext& context, const YamlNode& node,
                                       std::string_view what);
std::vector<std::string> read_texts(const FileContext& context, const YamlNode& node,
                                    std::string_view what);

// A duration above zero and at most `limit`.
std::optional<base::Duration> read_positive_duration(const FileContext& context,
                                                     const YamlNode& node, std::string_view what,
                                                     base::Duration limit);

// Names of services, probes, faults and members are words of the prediction language: a letter,
// then letters, digits, `_`, and `-` between them.
inline constexpr std::string_view kWordPattern = "^[A-Za-z_][A-Za-z0-9_]*(-[A-Za-z0-9_]+)*$";
// Names of systems, experiments, predictions and environments also fit file names.
inline constexpr std::string_view kNamePattern = "^[A-Za-z0-9_][A-Za-z0-9_.-]*$";
inline constexpr std::size_t kNameLengthLimit = 100;
bool is_word(std::string_view text);
bool is_name(std::string_view text);
// Report when the key or value is not a word or a name.
bool check_word(const FileContext& context, const YamlNode::Entry& entry, std::string_view what);
bool check_name(const FileContext& context, const YamlNode::Entry& entry, std::string_view what);
std::optional<std::string> read_name(const FileContext& context, const YamlNode& node,
                                     std::string_view what);

// `'...'`, or `{ predict: '...', confidence: none }`. Mistakes of the language are reported at
// their column in the file.
std::optional<Prediction> read_prediction(const FileContext& context, const YamlNode& node,
                                          std::string_view name, const SignalTable& signals,
                                          ClauseRule rule);
// A map of name to prediction.
std::vector<Prediction> read_predictions(const FileContext& context, const YamlNode& node,
                                         std::string_view what, const SignalTable& signals,
                                         ClauseRule rule);
// A list of abort rules; they are named `abort-1`, `abort-2`, ...
std::vector<Prediction> read_abort_rules(const FileContext& context, const YamlNode& node,
                                         std::string_view what, std::string_view prefix,
                                         const SignalTable& signals);
// Reports the mistakes of a prediction or a condition at their places in `node`.
void report_language_errors(const FileContext& context, const YamlNode& node,
                            const std::vector<LanguageError>& errors);

}  // namespace squall::model
