// The way of a prediction: text, words, tree, checked tree, canonical text.

#include <fmt/format.h>

#include <algorithm>

#include "base/text.h"
#include "model/prediction/checker.h"
#include "model/prediction/condition_checker.h"
#include "model/prediction/parser.h"
#include "model/prediction_language.h"

namespace squall::model {
namespace {

// False, and an error, for what no tree is made of.
bool acceptable(std::string_view text, std::vector<LanguageError>& errors) {
  const Span all{0, static_cast<int>(std::min(text.size(), kPredictionLengthMax))};
  if (text.size() > kPredictionLengthMax) {
    errors.push_back({all, fmt::format("longer than {} bytes", kPredictionLengthMax),
                      "split it into several predictions"});
    return false;
  }
  if (!base::is_valid_utf8(text)) {
    errors.push_back({all, "not valid UTF-8", "save the file as UTF-8"});
    return false;
  }
  if (base::trim(text).empty()) {
    errors.push_back({all, "an empty text", "write for example reads.success >= 99.5%"});
    return false;
  }
  return true;
}

std::optional<Prediction> read(std::string_view text, const SignalTable& signals, ClauseRule rule,
                               std::vector<LanguageError>& errors) {
  const Syntax syntax = parse_prediction_syntax(text, errors);
  return check_prediction(syntax, static_cast<int>(text.size()), signals, rule, errors);
}

// In order of place, and safe to show: messages quote what was written.
void finish(std::vector<LanguageError>& errors) {
  for (LanguageError& error : errors) {
    error.message = base::printable(error.message);
    error.hint = base::printable(error.hint);
  }
  std::stable_sort(errors.begin(), errors.end(),
                   [](const auto& a, const auto& b) { return a.span.begin < b.span.begin; });
}

}  // namespace

ParsedPrediction parse_prediction(std::string_view name, std::string_view text,
                                  const SignalTable& signals, ClauseRule rule) {
  ParsedPrediction result;
  if (!acceptable(text, result.errors)) return result;
  std::optional<Prediction> first = read(text, signals, rule, result.errors);
  if (!first || !result.errors.empty()) {
    finish(result.errors);
    return result;
  }
  // Read once more from the canonical text, in which the spans then count.
  const std::string canonical = print(*first);
  if (!acceptable(canonical, result.errors)) return result;
  std::vector<LanguageError> unexpected;
  std::optional<Prediction> second = read(canonical, signals, rule, unexpected);
  result.prediction = second && unexpected.empty() ? std::move(second) : std::move(first);
  result.prediction->name = std::string(name);
  result.prediction->text = canonical;
  return result;
}

ParsedCondition parse_condition(std::string_view text) {
  ParsedCondition result;
  if (!acceptable(text, result.errors)) return result;
  const ConditionPtr syntax = parse_condition_syntax(text, result.errors);
  if (syntax) {
    ConditionChecker checker(nullptr, result.errors);
    result.condition = checker.check(syntax, {}).condition;
  }
  if (!result.errors.empty()) result.condition = nullptr;
  finish(result.errors);
  return result;
}

}  // namespace squall::model
