#pragma once
// Reading tokens one by one, and saying what was expected where something else stands.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "model/prediction/lexer.h"

namespace squall::model {

class TokenStream {
 public:
  // `tokens` ends in kEnd. `errors` must outlive the stream.
  TokenStream(std::vector<Token> tokens, std::vector<LanguageError>& errors)
      : tokens_(std::move(tokens)), errors_(errors) {}

 protected:
  const Token& peek(std::size_t ahead = 0) const {
    return tokens_[std::min(position_ + ahead, tokens_.size() - 1)];
  }
  const Token& previous() const { return tokens_[position_ == 0 ? 0 : position_ - 1]; }
  void advance() {
    if (position_ + 1 < tokens_.size()) ++position_;
  }
  bool take(TokenKind kind) {
    if (peek().kind != kind) return false;
    advance();
    return true;
  }
  bool peek_word(std::string_view word) const {
    return peek().kind == TokenKind::kName && peek().text == word;
  }
  bool take_word(std::string_view word) {
    if (!peek_word(word)) return false;
    advance();
    return true;
  }

  std::size_t error_count() const { return errors_.size(); }
  void error(Span span, std::string message, std::string hint) {
    errors_.push_back({span, std::move(message), std::move(hint)});
  }
  // "expected `)`, found `x`", at the current token.
  void unexpected(std::string_view expected, std::string hint);

  // A duration of at most kLongest; reports what else stands there. Absent after a mistake.
  std::optional<base::Duration> duration(std::string_view meaning);
  // For a bare name where `name.field` is needed.
  std::string quoted_name_hint() const;

 private:
  std::vector<Token> tokens_;
  std::vector<LanguageError>& errors_;
  std::size_t position_ = 0;
};

}  // namespace squall::model
