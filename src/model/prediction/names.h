#pragma once
// Looks names up in the SignalTable, and says what was meant where one is not there.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/prediction.h"
#include "model/prediction_language.h"

namespace squall::model {

class Names {
 public:
  Names(const SignalTable& table, std::vector<LanguageError>& errors)
      : table_(table), errors_(errors) {}

  // True when the source is a probe whose requests are recorded.
  bool has_requests(std::string_view source) const;
  // True when its answers have no status, header or JSON: a port that was opened, a query.
  bool is_plain(std::string_view source) const;
  // False, and an error, when there is no such probe or service.
  bool check_source(std::string_view source, Span span);
  // The entry of a gauge or counter; null, and an error, when there is none. `source` is known.
  const SignalTable::Entry* series(std::string_view source, std::string_view field, Span span);
  // The counters of a source.
  std::vector<const SignalTable::Entry*> counters(std::string_view source) const;
  bool check_sequenced(std::string_view function, std::string_view probe, Span span);
  bool check_fault(const std::string& name, Span span);
  std::vector<std::string> request_probes() const;

 private:
  std::vector<std::string> sources() const;
  void error(Span span, std::string message, std::string hint) {
    errors_.push_back({span, std::move(message), std::move(hint)});
  }

  const SignalTable& table_;
  std::vector<LanguageError>& errors_;
};

}  // namespace squall::model
