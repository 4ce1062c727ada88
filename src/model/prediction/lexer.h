#pragma once
// The words of a prediction. A hyphen between letters or digits belongs to the name (`no-visible`);
// a minus therefore has a space, or something that is not a name, before it.

#include <string>
#include <string_view>
#include <vector>

#include "base/units.h"
#include "model/prediction.h"
#include "model/prediction_language.h"

namespace squall::model {

enum class TokenKind {
  kName,         // reads, no-visible, p99.9
  kNumber,       // 3, 250ms, 99.5 %, 200/s
  kText,         // "Retry-After"
  kStatusClass,  // 2xx
  kComparator,
  kPlus,
  kMinus,
  kTimes,
  kDivide,
  kDot,
  kLeftParenthesis,
  kRightParenthesis,
  kLeftBracket,
  kRightBracket,
  kEnd,
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  Span span;
  std::string text;         // as written; for kText without quotes and escapes
  base::Quantity quantity;  // of kNumber
  bool valid = true;        // false: a number that was refused, or a text without its end
  Comparator comparator = Comparator::kEqual;
  int hundreds = 0;  // of kStatusClass
};

// The tokens of `text`, the last one being kEnd. Mistakes go to `errors`, and reading goes on
// behind them with the likely meaning, so that one pass finds them all.
std::vector<Token> lex(std::string_view text, std::vector<LanguageError>& errors);

}  // namespace squall::model
