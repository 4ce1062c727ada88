#include "model/prediction/lexer.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdlib>
#include <utility>

#include "base/text.h"

namespace squall::model {
namespace {

// Not <cctype>: the language does not depend on the locale.
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
bool is_word(char c) {
  return is_letter(c) || is_digit(c);
}
bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}
bool is_beyond_ascii(char c) {
  return static_cast<unsigned char>(c) >= 0x80;
}

// What people write for an operator of ours.
struct Misspelling {
  std::string_view written;
  std::string_view meant;
  TokenKind kind;
  Comparator comparator;
};
constexpr Misspelling kMisspellings[] = {
    {"=<", "<=", TokenKind::kComparator, Comparator::kLessEqual},
    {"=>", ">=", TokenKind::kComparator, Comparator::kGreaterEqual},
    {"<>", "!=", TokenKind::kComparator, Comparator::kNotEqual},
    {"=", "==", TokenKind::kComparator, Comparator::kEqual},
    {"\u2264", "<=", TokenKind::kComparator, Comparator::kLessEqual},
    {"\u2265", ">=", TokenKind::kComparator, Comparator::kGreaterEqual},
    {"\u2260", "!=", TokenKind::kComparator, Comparator::kNotEqual},
    {"\u2212", "-", TokenKind::kMinus, Comparator::kEqual},
    {"\u00d7", "*", TokenKind::kTimes, Comparator::kEqual},
    {"&&", "and", TokenKind::kName, Comparator::kEqual},
    {"||", "or", TokenKind::kName, Comparator::kEqual},
    {"!", "not", TokenKind::kName, Comparator::kEqual},
};

struct Symbol {
  std::string_view written;
  TokenKind kind;
  Comparator comparator;
};
// Longer ones first. `===` is not among them, nor is anything the table above repairs.
constexpr Symbol kSymbols[] = {
    {"<=", TokenKind::kComparator, Comparator::kLessEqual},
    {">=", TokenKind::kComparator, Comparator::kGreaterEqual},
    {"==", TokenKind::kComparator, Comparator::kEqual},
    {"!=", TokenKind::kComparator, Comparator::kNotEqual},
    {"<", TokenKind::kComparator, Comparator::kLess},
    {">", TokenKind::kComparator, Comparator::kGreater},
    {"+", TokenKind::kPlus, Comparator::kEqual},
    {"-", TokenKind::kMinus, Comparator::kEqual},
    {"*", TokenKind::kTimes, Comparator::kEqual},
    {"/", TokenKind::kDivide, Comparator::kEqual},
    {".", TokenKind::kDot, Comparator::kEqual},
    {"(", TokenKind::kLeftParenthesis, Comparator::kEqual},
    {")", TokenKind::kRightParenthesis, Comparator::kEqual},
    {"[", TokenKind::kLeftBracket, Comparator::kEqual},
    {"]", TokenKind::kRightBracket, Comparator::kEqual},
};

// Words that stand behind a number without being its unit, or are likely misspellings of one.
bool may_follow_number(std::string_view word) {
  static constexpr std::string_view kWords[] = {"during", "over", "for",   "within",
                                                "at",     "and",  "or",    "each",
                                                "from",   "of",   "where", "between"};
  return !base::nearest(word, kWords).empty();
}

class Lexer {
 public:
  Lexer(std::string_view text, std::vector<LanguageError>& errors) : text_(text), errors_(errors) {}

  std::vector<Token> run() {
    while (true) {
      while (position_ < text_.size() && is_space(text_[position_])) ++position_;
      if (position_ >= text_.size()) break;
      next();
    }
    const int end = static_cast<int>(text_.size());
    tokens_.push_back({.kind = TokenKind::kEnd, .span = {end, end}, .text = {}, .quantity = {}});
    return std::move(tokens_);
  }

 private:
  char at(std::size_t offset) const { return offset < text_.size() ? text_[offset] : '\0'; }
  bool starts_with(std::string_view what) const {
    return text_.substr(position_).starts_with(what);
  }
  Span span_from(std::size_t begin) const {
    return {static_cast<int>(begin), static_cast<int>(position_)};
  }
  void error(Span span, std::string message, std::string hint) {
    errors_.push_back({span, std::move(message), std::move(hint)});
  }
  Token& push(TokenKind kind, std::size_t begin) {
    Token token;
    token.kind = kind;
    token.span = span_from(begin);
    token.text = std::string(text_.substr(begin, position_ - begin));
    tokens_.push_back(std::move(token));
    return tokens_.back();
  }

  void next() {
    const char c = text_[position_];
    if (is_letter(c)) return name();
    if (is_digit(c)) return number();
    if (c == '"') return quoted();
    if (c == '\'' && text_.find('\'', position_ + 1) != std::string_view::npos) {
      return single_quoted();
    }
    if (misspelling() || symbol()) return;
    unknown();
  }

  void name() {
    const std::size_t begin = position_;
    while (is_word(at(position_)) || (at(position_) == '-' && is_word(at(position_ + 1)))) {
      ++position_;
    }
    // p99.9 is one word: the dot between digits cannot start a field.
    const std::string_view word = text_.substr(begin, position_ - begin);
    const bool quantile = word.size() > 1 && word[0] == 'p' &&
                          word.find_first_not_of("0123456789", 1) == std::string_view::npos;
    if (quantile && at(position_) == '.' && is_digit(at(position_ + 1))) {
      ++position_;
      while (is_digit(at(position_))) ++position_;
    }
    push(TokenKind::kName, begin);
  }

  bool status_class(std::size_t begin) {
    if (text_[begin] < '1' || text_[begin] > '5' || is_word(at(begin + 3))) return false;
    const std::string_view rest = text_.substr(begin + 1, 2);
    if (rest != "xx" && rest != "XX") return false;
    position_ += 3;
    Token& token = push(TokenKind::kStatusClass, begin);
    token.hundreds = text_[begin] - '0';
    if (rest == "XX") {
      error(token.span, fmt::format("`{}` is not a status class", token.text),
            fmt::format("write `{}xx`", token.hundreds));
    }
    return true;
  }

  void digits() {
    while (is_digit(at(position_))) ++position_;
  }

  void number() {
    const std::size_t begin = position_;
    if (status_class(begin)) return;
    digits();
    if (at(position_) == ':' && is_digit(at(position_ + 1))) return sexagesimal(begin);
    if (at(position_) == ',' && is_digit(at(position_ + 1))) return thousands(begin);
    if (at(position_) == '.' && is_digit(at(position_ + 1))) {
      ++position_;
      digits();
    }
    exponent();
    unit();
    quantity(begin);
  }

  // 1e-20: nobody writes it, but very small and large numbers are printed so.
  void exponent() {
    if (at(position_) != 'e' && at(position_) != 'E') return;
    std::size_t start = position_ + 1;
    if (at(start) == '+' || at(start) == '-') ++start;
    if (!is_digit(at(start))) return;
    position_ = start;
    digits();
  }

  // Takes the unit behind a number, with or without a space between.
  void unit() {
    if (is_letter(at(position_)) || is_beyond_ascii(at(position_))) {
      while (is_word(at(position_)) || is_beyond_ascii(at(position_))) ++position_;
      return;
    }
    std::size_t start = position_;
    while (is_space(at(start))) ++start;
    if (at(start) == '%') {
      position_ = start + 1;
      return;
    }
    std::size_t end = start + (at(start) == '/' ? 1 : 0);
    const std::size_t letters = end;
    while (is_letter(at(end))) ++end;
    // `10/s.value` and `10/min(...)` divide.
    std::size_t behind = end;
    while (is_space(at(behind))) ++behind;
    const char follows = at(behind);
    if (end == letters || is_digit(at(end)) || follows == '.' || follows == '(') return;
    const bool letters_only = letters == start;
    const std::string_view word = text_.substr(start, end - start);
    const std::string candidate = "1" + std::string(word);
    // An unknown word is a wrong unit unless it looks like one that may follow a number.
    if (base::parse_quantity(candidate).ok() || (letters_only && !may_follow_number(word))) {
      position_ = end;
    }
  }

  void quantity(std::size_t begin) {
    Token& token = push(TokenKind::kNumber, begin);
    const auto parsed = base::parse_quantity(token.text);
    if (!parsed.ok()) {
      token.valid = false;
      error(token.span, parsed.error().message, parsed.error().hint);
    } else if (!std::isfinite(parsed.value().value)) {
      token.valid = false;
      error(token.span, "this number is too large", {});
    } else {
      token.quantity = parsed.value();
    }
  }

  // 1:30 is a time of day to some, minutes to others, and 90 to YAML 1.1.
  void sexagesimal(std::size_t begin) {
    while (is_digit(at(position_)) || at(position_) == ':') ++position_;
    const std::string written(text_.substr(begin, position_ - begin));
    const std::size_t colon = written.find(':');
    std::string hint = "write one number with a unit, such as `90s` or `1.5min`";
    // `12:30`, not `1:2:3` and not numbers that no clock shows.
    const bool clock = colon <= 3 && written.size() == colon + 3 && written.back() != ':';
    const int second = clock ? std::atoi(written.c_str() + colon + 1) : 60;
    if (second < 60) {
      const int sum = std::atoi(written.c_str()) * 60 + second;
      hint = fmt::format(
          "write `{}s` if minutes and seconds are meant, `{}min` if hours and minutes are", sum,
          sum);
    }
    Token& token = push(TokenKind::kNumber, begin);
    token.valid = false;
    error(token.span, fmt::format("`{}` is not a duration of this language", written), hint);
  }

  void thousands(std::size_t begin) {
    std::string number(text_.substr(begin, position_ - begin));
    while (is_digit(at(position_)) || (at(position_) == ',' && is_digit(at(position_ + 1)))) {
      if (at(position_) != ',') number += at(position_);
      ++position_;
    }
    unit();
    Token& token = push(TokenKind::kNumber, begin);
    token.valid = false;
    error(token.span, "numbers are written without commas",
          fmt::format("write `{}`, and a decimal fraction with a point", number));
  }

  void quoted() {
    const std::size_t begin = position_++;
    std::string value;
    while (position_ < text_.size() && text_[position_] != '"') {
      const char c = text_[position_];
      if (c == '\\') {
        const char escaped = at(position_ + 1);
        if (escaped != '"' && escaped != '\\') {
          const std::size_t escape = position_;
          position_ = std::min(position_ + 2, text_.size());
          error(span_from(escape), "unknown escape in a text",
                "only \\\" and \\\\ are escapes; write a backslash as \\\\");
          continue;
        }
        value += escaped;
        position_ += 2;
        continue;
      }
      if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
        ++position_;
        error(span_from(position_ - 1), "a control character in a text", "remove it");
        continue;
      }
      value += c;
      ++position_;
    }
    const bool closed = position_ < text_.size();
    if (!closed) {
      error(span_from(begin), "this text has no closing double quote", "add `\"` behind it");
    } else {
      ++position_;
    }
    Token& token = push(TokenKind::kText, begin);
    token.text = std::move(value);
    token.valid = closed;
  }

  void single_quoted() {
    const std::size_t begin = position_;
    position_ = text_.find('\'', begin + 1) + 1;
    Token& token = push(TokenKind::kText, begin);
    token.text = std::string(text_.substr(begin + 1, position_ - begin - 2));
    error(token.span, "texts stand in double quotes",
          fmt::format("write \"{}\"", base::printable(token.text)));
  }

  bool misspelling() {
    // `==` and `!=` begin like two of the misspellings.
    if (starts_with("==") || starts_with("!=")) return false;
    for (const Misspelling& candidate : kMisspellings) {
      if (!starts_with(candidate.written)) continue;
      const std::size_t begin = position_;
      position_ += candidate.written.size();
      Token& token = push(candidate.kind, begin);
      token.comparator = candidate.comparator;
      token.text = std::string(candidate.meant);
      error(token.span, fmt::format("`{}` is not an operator of this language", candidate.written),
            fmt::format("write `{}`", candidate.meant));
      return true;
    }
    return false;
  }

  bool symbol() {
    for (const Symbol& candidate : kSymbols) {
      if (!starts_with(candidate.written)) continue;
      const std::size_t begin = position_;
      position_ += candidate.written.size();
      push(candidate.kind, begin).comparator = candidate.comparator;
      return true;
    }
    return false;
  }

  void unknown() {
    const std::size_t begin = position_;
    const char c = text_[position_++];
    // The whole UTF-8 character; the text was checked to be valid.
    while ((static_cast<unsigned char>(at(position_)) & 0xC0) == 0x80) ++position_;
    std::string hint;
    if (starts_with_quote(begin)) hint = "texts stand in double quotes";
    if (c == '{' || c == '}') hint = "header and json keys stand in brackets: json[\"$.path\"]";
    if (c == ',')
      hint = "one prediction is one comparison; write the next as a prediction of its own";
    error(span_from(begin),
          fmt::format("unexpected character `{}`",
                      base::printable(text_.substr(begin, position_ - begin))),
          std::move(hint));
  }
  bool starts_with_quote(std::size_t begin) const {
    for (std::string_view quote : {"'", "\u201c", "\u201d", "\u2018", "\u2019", "\u201e"}) {
      if (text_.substr(begin).starts_with(quote)) return true;
    }
    return false;
  }

  std::string_view text_;
  std::vector<LanguageError>& errors_;
  std::vector<Token> tokens_;
  std::size_t position_ = 0;
};

}  // namespace

std::vector<Token> lex(std::string_view text, std::vector<LanguageError>& errors) {
  return Lexer(text, errors).run();
}

}  // namespace squall::model
