#pragma once
// The clause that says when a prediction is asked: during, over, within, at end.

#include <string>

#include "model/prediction/parser.h"
#include "model/prediction/token_stream.h"

namespace squall::model {

class ClauseParser : public TokenStream {
 public:
  using TokenStream::TokenStream;

 protected:
  bool at_clause() const;
  // Advances to the next word that begins a clause, or to the end.
  void skip_to_clause();
  // Reads the clause into `syntax`; at_clause() holds.
  void clause(Syntax& syntax);

 private:
  void during(Syntax& syntax);
  void over(Syntax& syntax);
  void within(Syntax& syntax);
  void at_end(Syntax& syntax);
  std::string fault_name(Syntax& syntax);
};

}  // namespace squall::model
