// What has to be observed for a prediction, and what decides it.

#include <algorithm>
#include <utility>

#include "model/prediction/dimensions.h"
#include "model/prediction/walk.h"
#include "model/prediction_language.h"

namespace squall::model {
namespace {

template <typename Value>
void add_once(std::vector<Value>& list, Value value) {
  if (std::find(list.begin(), list.end(), value) == list.end()) list.push_back(std::move(value));
}

const Field& first_field(const Condition& condition) {
  const auto& node = condition.node;
  if (const auto* truth = std::get_if<Truth>(&node)) return truth->field;
  if (const auto* exists = std::get_if<Exists>(&node)) return exists->field;
  if (const auto* comparison = std::get_if<FieldComparison>(&node)) return comparison->field;
  if (const auto* negation = std::get_if<Not>(&node)) return first_field(*negation->condition);
  if (const auto* all = std::get_if<All>(&node)) return first_field(*all->conditions.front());
  return first_field(*std::get<Any>(node).conditions.front());
}

bool is_request_aggregate(const Aggregate& aggregate) {
  return aggregate.signal.field.empty() || is_request_field(aggregate.signal.field);
}

// Whether the value of one node is estimated from a sample of requests or gauge values.
bool is_estimate(const Expression& expression) {
  const auto estimates = [](Statistic statistic) {
    return statistic == Statistic::kQuantile || statistic == Statistic::kMean;
  };
  if (const auto* aggregate = std::get_if<Aggregate>(&expression.node)) {
    return estimates(aggregate->statistic);
  }
  if (const auto* windowed = std::get_if<WindowedAggregate>(&expression.node)) {
    return estimates(windowed->statistic);
  }
  if (const auto* share = std::get_if<Share>(&expression.node)) {
    return is_request_condition(*share->condition);
  }
  if (const auto* signal = std::get_if<Signal>(&expression.node)) return is_success_share(*signal);
  if (const auto* baseline = std::get_if<Baseline>(&expression.node)) {
    return is_estimate(*baseline->inner);
  }
  if (const auto* negate = std::get_if<Negate>(&expression.node)) {
    return is_estimate(*negate->inner);
  }
  if (const auto* binary = std::get_if<Binary>(&expression.node)) {
    return is_estimate(*binary->left) || is_estimate(*binary->right);
  }
  return false;
}

bool is_whole_share(const Expression& share, const Expression& limit) {
  const auto* literal = std::get_if<Literal>(&limit.node);
  return literal != nullptr && literal->quantity.value == 1 && is_proper_share(share);
}

}  // namespace

const SignalTable::Entry* SignalTable::find(std::string_view source, std::string_view field) const {
  for (const Entry& entry : entries) {
    if (entry.source == source && entry.field == field) return &entry;
  }
  return nullptr;
}

bool is_request_field(std::string_view field) {
  for (std::string_view known :
       {"latency", "success", "status", "outcome", "faulted", "header", "json"}) {
    if (field == known) return true;
  }
  return false;
}

std::span<const std::string_view> outcome_names() {
  static constexpr std::string_view kNames[] = {"ok",    "status",  "bad_body", "timeout",
                                                "reset", "connect", "tls",      "protocol"};
  return kNames;
}

bool is_success_share(const Signal& signal) {
  return signal.field == "success";
}

bool is_bare_gauge(const Expression& expression) {
  const auto* signal = std::get_if<Signal>(&expression.node);
  return signal != nullptr && !is_success_share(*signal);
}

bool is_request_condition(const Condition& condition) {
  return is_request_field(first_field(condition).name);
}

Signal subject_of(const Condition& condition) {
  const Field& field = first_field(condition);
  return {field.probe, is_request_field(field.name) ? std::string() : field.name};
}

DecidedBy decided_by(const Prediction& prediction) {
  bool every_sample = false;
  visit_expressions(prediction, [&](const Expression& part) {
    if (is_bare_gauge(part)) every_sample = true;
  });
  if (every_sample) return DecidedBy::kValue;
  const Expression& left = *prediction.left;
  const Expression& right = *prediction.right;
  if (!prediction.right_high && (is_literal_zero(left) || is_literal_zero(right) ||
                                 is_whole_share(left, right) || is_whole_share(right, left))) {
    return DecidedBy::kValue;
  }
  const bool estimate = is_estimate(left) || is_estimate(right) ||
                        (prediction.right_high && is_estimate(*prediction.right_high));
  return estimate ? DecidedBy::kInterval : DecidedBy::kValue;
}

std::string slice_id(std::string_view probe, const ConditionPtr& where) {
  std::string id(probe);
  if (where) id += " where " + print(*where);
  return id;
}

std::vector<Slice> slices_of(const Prediction& prediction) {
  std::vector<Slice> slices;
  const auto add = [&](const std::string& probe, const ConditionPtr& where) {
    Slice slice{slice_id(probe, where), probe, where};
    const bool known = std::any_of(slices.begin(), slices.end(),
                                   [&](const Slice& other) { return other.id == slice.id; });
    if (!known) slices.push_back(std::move(slice));
  };
  visit_expressions(prediction, [&](const Expression& part) {
    if (const auto* signal = std::get_if<Signal>(&part.node)) {
      if (is_success_share(*signal)) add(signal->source, nullptr);
    } else if (const auto* aggregate = std::get_if<Aggregate>(&part.node)) {
      if (is_request_aggregate(*aggregate)) add(aggregate->signal.source, aggregate->where);
    } else if (const auto* share = std::get_if<Share>(&part.node)) {
      if (!is_request_condition(*share->condition)) return;
      const std::string probe = subject_of(*share->condition).source;
      add(probe, nullptr);
      add(probe, share->condition);
    }
  });
  return slices;
}

std::vector<Signal> gauges_of(const Prediction& prediction, const SignalTable& signals) {
  std::vector<Signal> gauges;
  const auto add = [&](const Signal& signal) {
    const auto* entry = signals.find(signal.source, signal.field);
    if (entry != nullptr && entry->type != SignalType::kRequests) add_once(gauges, signal);
  };
  visit_expressions(prediction, [&](const Expression& part) {
    if (const auto* signal = std::get_if<Signal>(&part.node)) {
      add(*signal);
    } else if (const auto* aggregate = std::get_if<Aggregate>(&part.node)) {
      add(aggregate->signal);
    } else if (const auto* share = std::get_if<Share>(&part.node)) {
      add(subject_of(*share->condition));
    } else if (const auto* time = std::get_if<TimeTrue>(&part.node)) {
      add(subject_of(*time->condition));
    }
  });
  return gauges;
}

std::vector<std::string> sources_of(const Prediction& prediction) {
  std::vector<std::string> sources;
  visit_expressions(prediction, [&](const Expression& part) {
    if (const auto* signal = std::get_if<Signal>(&part.node)) {
      add_once(sources, signal->source);
    } else if (const auto* aggregate = std::get_if<Aggregate>(&part.node)) {
      add_once(sources, aggregate->signal.source);
    } else if (const auto* share = std::get_if<Share>(&part.node)) {
      add_once(sources, subject_of(*share->condition).source);
    } else if (const auto* time = std::get_if<TimeTrue>(&part.node)) {
      add_once(sources, subject_of(*time->condition).source);
    } else if (const auto* lost = std::get_if<Lost>(&part.node)) {
      add_once(sources, lost->probe);
    } else if (const auto* duplicated = std::get_if<Duplicated>(&part.node)) {
      add_once(sources, duplicated->probe);
    }
  });
  return sources;
}

}  // namespace squall::model
