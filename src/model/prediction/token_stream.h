#pragma once
// Reading tokens one by one, and saying what was expected where something else stands.

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "model/prediction/lexer.h"

namespace squall::model {

class TokenStream {
 public:
  // `tokens` ends in kEnd. `errors` must outlive the stream.
  TokenStream(std::vector<Token> tokens, std::vector<LanguageError>& errors)
      : tokens_(std::move(tokens)), errors_(errors) {}

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

  void error(Span span, std::string message, std::string hint) {
    errors_.push_back({span, std::move(message), std::move(hint)});
  }
  // "expected `)`, found `x`", at the current token.
  void unexpected(std::string_view expected, std::string hint);

  // A duration of at most a day. Absent, and reported here or by the lexer, for all else.
  std::optional<base::Duration> duration(std::string_view meaning);
  // Counts the nesting of what is being read for as long as it lives.
  class Nesting {
   public:
    explicit Nesting(TokenStream& stream) : stream_(stream) { ++stream_.depth_; }
    ~Nesting() { --stream_.depth_; }
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;

   private:
    TokenStream& stream_;
  };
  // True, and one error for the whole text, beyond kPredictionDepthMax levels.
  bool too_deep(Span span) { return too_deep(depth_, span); }
  bool too_deep(int depth, Span span);

  // For a bare name where `name.field` is needed.
  std::string quoted_name_hint() const;

 private:
  std::vector<Token> tokens_;
  std::vector<LanguageError>& errors_;
  std::size_t position_ = 0;
  int depth_ = 0;
  bool depth_reported_ = false;
};

}  // namespace squall::model
