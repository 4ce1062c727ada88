#include "model/prediction/token_stream.h"

#include <fmt/format.h>

#include <cmath>

#include "base/text.h"

namespace squall::model {
namespace {

// Longer than any experiment, and short enough to count in nanoseconds without loss.
constexpr double kLongestSeconds = 24 * 3600;

}  // namespace

void TokenStream::unexpected(std::string_view expected, std::string hint) {
  const Token& token = peek();
  const std::string found =
      token.kind == TokenKind::kEnd
          ? std::string("the end")
          : fmt::format("`{}`",
                        token.kind == TokenKind::kText ? "\"" + token.text + "\"" : token.text);
  error(token.span, fmt::format("expected {}, found {}", expected, found), std::move(hint));
}

std::optional<base::Duration> TokenStream::duration(std::string_view meaning) {
  const Token& token = peek();
  if (token.kind != TokenKind::kNumber) {
    unexpected(meaning, {});
    return std::nullopt;
  }
  advance();
  if (!token.valid) return std::nullopt;  // reported by the lexer
  const bool zero = token.quantity.value == 0;
  if (token.quantity.dimension != base::Dimension::kDuration && !zero) {
    error(token.span, fmt::format("`{}` is not a duration", token.text),
          fmt::format("write {}, with a unit: 500ms, 2s, 1min", meaning));
    return std::nullopt;
  }
  if (token.quantity.value > kLongestSeconds) {
    error(token.span, fmt::format("`{}` is longer than a day", token.text),
          "no experiment lasts that long");
    return std::nullopt;
  }
  return base::Duration{std::llround(token.quantity.value * 1e9)};
}

bool TokenStream::too_deep(int depth, Span span) {
  if (depth <= kPredictionDepthMax) return false;
  if (!depth_reported_) {
    error(span, fmt::format("nested deeper than {} levels", kPredictionDepthMax),
          "split it into several predictions");
  }
  depth_reported_ = true;
  return true;
}

std::string TokenStream::quoted_name_hint() const {
  const std::string& name = peek().text;
  if (name == "true" || name == "false") {
    return "true and false stand in conditions: share(reads.success == false)";
  }
  return fmt::format("say which signal of `{0}`: {0}.latency, {0}.success, {0}.value", name);
}

}  // namespace squall::model
