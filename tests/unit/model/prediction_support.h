#pragma once
// A system for tests of the prediction language, and short ways to parse.

#include <string>
#include <string_view>

#include "model/prediction_language.h"

namespace squall::model::testing {

inline SignalTable table() {
  using base::Dimension;
  SignalTable table;
  table.entries = {
      {"reads", "latency", SignalType::kRequests, Dimension::kDuration},
      {"writes", "latency", SignalType::kRequests, Dimension::kDuration},
      {"no-visible", "latency", SignalType::kRequests, Dimension::kDuration},
      {"stuck", "value", SignalType::kGauge, Dimension::kNumber},
      {"db", "value", SignalType::kGauge, Dimension::kNumber},
      {"db", "latency", SignalType::kRequests, Dimension::kDuration},
      {"queue", "depth", SignalType::kGauge, Dimension::kNumber},
      {"worker", "memory", SignalType::kGauge, Dimension::kSize},
      {"worker", "cpu", SignalType::kGauge, Dimension::kNumber},
      {"pool", "used", SignalType::kGauge, Dimension::kShare},
      {"audit", "matches", SignalType::kCounter, Dimension::kNumber},
      {"replica", "lag", SignalType::kGauge, Dimension::kDuration},
      {"api-log", "matches", SignalType::kCounter, Dimension::kNumber},
      {"disk", "written", SignalType::kGauge, Dimension::kRate},
  };
  table.fault_names = {"outage", "slow-db", "process.kill-2"};
  table.sequenced_probes = {"writes"};
  table.plain_probes = {"db"};
  return table;
}

inline ParsedPrediction parse(std::string_view text, ClauseRule rule = ClauseRule::kHypothesis) {
  return parse_prediction("test", text, table(), rule);
}

// All mistakes, one a line, for failure messages.
inline std::string messages(const std::vector<LanguageError>& errors) {
  std::string text;
  for (const LanguageError& error : errors) {
    text += std::to_string(error.span.begin) + ".." + std::to_string(error.span.end) + ": " +
            error.message + " | " + error.hint + "\n";
  }
  return text;
}

}  // namespace squall::model::testing
