// Any bytes as a prediction: refused with messages whose spans lie in the text, or accepted with a
// canonical text that reads back as the same tree.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/check.h"
#include "model/prediction_language.h"

using namespace squall;

namespace {

const model::SignalTable& table() {
  using base::Dimension;
  using model::SignalType;
  static const model::SignalTable signals = [] {
    model::SignalTable result;
    result.entries = {{"reads", "latency", SignalType::kRequests, Dimension::kDuration},
                      {"writes", "latency", SignalType::kRequests, Dimension::kDuration},
                      {"s", "value", SignalType::kGauge, Dimension::kNumber},
                      {"not", "m-x", SignalType::kGauge, Dimension::kSize},
                      {"log", "matches", SignalType::kCounter, Dimension::kNumber}};
    result.fault_names = {"outage", "process.kill-2"};
    result.sequenced_probes = {"writes"};
    return result;
  }();
  return signals;
}

void check_spans(const std::vector<model::LanguageError>& errors, std::string_view text) {
  for (const auto& error : errors) {
    SQUALL_CHECK(error.span.begin >= 0 && error.span.begin <= error.span.end);
    SQUALL_CHECK(static_cast<std::size_t>(error.span.end) <= text.size());
    SQUALL_CHECK(!error.message.empty());
  }
}

void try_prediction(std::string_view text, model::ClauseRule rule) {
  const auto first = model::parse_prediction("fuzz", text, table(), rule);
  SQUALL_CHECK(first.prediction.has_value() == first.errors.empty());
  check_spans(first.errors, text);
  if (!first.prediction) return;
  const auto second = model::parse_prediction("fuzz", first.prediction->text, table(), rule);
  SQUALL_CHECK(second.prediction.has_value());
  SQUALL_CHECK(model::equal(*first.prediction, *second.prediction));
  SQUALL_CHECK(second.prediction->text == first.prediction->text);
  SQUALL_CHECK(!model::sources_of(*first.prediction).empty());
  model::gauges_of(*first.prediction, table());
  model::decided_by(*first.prediction);
  for (const auto& slice : model::slices_of(*first.prediction)) {
    if (slice.where) model::matches(*slice.where, model::RequestFields{});
  }
}

void try_condition(std::string_view text) {
  const auto first = model::parse_condition(text);
  SQUALL_CHECK((first.condition != nullptr) == first.errors.empty());
  check_spans(first.errors, text);
  if (!first.condition) return;
  const std::string canonical = model::print(*first.condition);
  if (canonical.size() > model::kPredictionLengthMax) return;
  const auto second = model::parse_condition(canonical);
  SQUALL_CHECK(second.condition != nullptr && model::equal(*first.condition, *second.condition));
  model::matches(*first.condition, model::RequestFields{});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 4) {
    case 0:
      try_prediction(text, model::ClauseRule::kSteadyState);
      break;
    case 1:
      try_prediction(text, model::ClauseRule::kHypothesis);
      break;
    case 2:
      try_prediction(text, model::ClauseRule::kAbortRule);
      break;
    default:
      try_condition(text);
      break;
  }
  return 0;
}
