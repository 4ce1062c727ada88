#include "model/prediction/condition_checker.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/text.h"
#include "model/prediction/dimensions.h"

namespace squall::model {
namespace {

bool is_equality(Comparator comparator) {
  return comparator == Comparator::kEqual || comparator == Comparator::kNotEqual;
}

std::string shown(const Field& field) {
  Condition truth{Truth{field}, {}};
  return print(truth);
}

ConditionPtr made(decltype(Condition::node) node, Span span) {
  auto result = std::make_shared<Condition>();
  result->node = std::move(node);
  result->span = span;
  return result;
}

// `not` twice is nothing.
ConditionPtr negated(ConditionPtr condition, Span span) {
  if (const Not* inner = std::get_if<Not>(&condition->node)) return inner->condition;
  return made(Not{std::move(condition)}, span);
}

}  // namespace

CheckedCondition ConditionChecker::check(const ConditionPtr& condition, const std::string& owner) {
  owner_ = owner;
  subjects_.clear();
  const std::size_t before = errors_.size();
  CheckedCondition result;
  result.condition = walk(*condition);
  if (errors_.size() != before || !result.condition || !one_subject()) {
    result.condition = nullptr;
    return result;
  }
  result.subject = subjects_.front().signal;
  result.requests = subjects_.front().requests;
  return result;
}

ConditionPtr ConditionChecker::walk(const Condition& condition) {
  const Span span = condition.span;
  if (const auto* all = std::get_if<All>(&condition.node)) return walk_list(*all, span);
  if (const auto* any = std::get_if<Any>(&condition.node)) return walk_list(*any, span);
  if (const auto* negation = std::get_if<Not>(&condition.node)) {
    ConditionPtr inner = walk(*negation->condition);
    return inner ? negated(std::move(inner), span) : nullptr;
  }
  if (const auto* test = std::get_if<Truth>(&condition.node)) return truth(*test, span);
  if (const auto* test = std::get_if<Exists>(&condition.node)) return exists(*test, span);
  return comparison(std::get<FieldComparison>(condition.node), span);
}

template <typename List>
ConditionPtr ConditionChecker::walk_list(const List& list, Span span) {
  List result;
  bool complete = true;
  for (const ConditionPtr& part : list.conditions) {
    ConditionPtr checked = walk(*part);
    if (!checked) {
      complete = false;
    } else if (const List* nested = std::get_if<List>(&checked->node)) {
      // A double `not` that vanished may leave a list within a list.
      result.conditions.insert(result.conditions.end(), nested->conditions.begin(),
                               nested->conditions.end());
    } else {
      result.conditions.push_back(std::move(checked));
    }
  }
  return complete ? made(std::move(result), span) : nullptr;
}

ConditionPtr ConditionChecker::truth(const Truth& truth, Span span) {
  if (!check_field(truth.field, span)) return nullptr;
  const std::string& name = truth.field.name;
  if (name == "success" || name == "faulted" || name == "json") return made(truth, span);
  std::string hint = fmt::format("compare it: {} > 0", shown(truth.field));
  if (name == "header") hint = fmt::format("write `{} exists`, or compare it", shown(truth.field));
  if (name == "status") hint = fmt::format("compare it: {} == 2xx", shown(truth.field));
  if (name == "latency") hint = fmt::format("compare it: {} > 1s", shown(truth.field));
  if (name == "outcome") hint = fmt::format("compare it: {} == \"timeout\"", shown(truth.field));
  error(span, fmt::format("`{}` is not true or false by itself", shown(truth.field)), hint);
  return nullptr;
}

ConditionPtr ConditionChecker::exists(const Exists& exists, Span span) {
  if (!check_field(exists.field, span)) return nullptr;
  const std::string& name = exists.field.name;
  if (name == "status" || name == "header" || name == "json") return made(exists, span);
  error(span, fmt::format("`{}` always exists", shown(exists.field)),
        "only status, header and json may be absent");
  return nullptr;
}

ConditionPtr ConditionChecker::comparison(const FieldComparison& comparison, Span span) {
  if (!check_field(comparison.field, span) || !check_value(comparison, span)) return nullptr;
  const std::string& name = comparison.field.name;
  if (name != "success" && name != "faulted") return made(comparison, span);
  const bool expected =
      std::get<bool>(comparison.value) == (comparison.comparator == Comparator::kEqual);
  ConditionPtr truth = made(Truth{comparison.field}, span);
  return expected ? truth : negated(std::move(truth), span);
}

// The name of the field, and what it makes the condition speak of.
bool ConditionChecker::check_field(const Field& field, Span span) {
  const bool request = is_request_field(field.name);
  if (names_ == nullptr) {
    if (!field.probe.empty()) {
      error(span, "fields are bare in a probe's own `expect`",
            fmt::format("write `{}` without `{}.`", field.name, field.probe));
      return false;
    }
    if (!request || field.name == "success" || field.name == "faulted") {
      error(span, fmt::format("`{}` is not a field of the answer", field.name),
            "the fields are status, latency, outcome, header[\"...\"] and json[\"$...\"]");
      return false;
    }
  } else if (field.probe.empty()) {
    const std::string probe = owner_.empty() ? "reads" : owner_;
    error(span, fmt::format("`{}` needs the name of its probe", field.name),
          fmt::format("write `{}.{}`", probe, field.name));
    return false;
  } else if (!names_->check_source(field.probe, span)) {
    return false;
  }
  const bool keyed = field.name == "header" || field.name == "json";
  if (keyed != !field.key.empty()) {
    error(span,
          keyed ? fmt::format("`{}` needs a key", field.name)
                : fmt::format("`{}` takes no key", field.name),
          "write header[\"Retry-After\"] or json[\"$.path\"]");
    return false;
  }
  if (field.name == "json" && !field.key.starts_with('$')) {
    error(span, fmt::format("\"{}\" is not a JSON path", field.key),
          fmt::format("a path starts at the root: \"$.{}\"", field.key));
    return false;
  }
  if ((keyed || field.name == "status") && names_ != nullptr && names_->is_plain(field.probe)) {
    error(span, fmt::format("the answers of `{}` have no {}", field.probe, field.name),
          fmt::format("it is no HTTP probe; ask for {0}.success, {0}.latency or {0}.outcome",
                      field.probe));
    return false;
  }
  const bool requests = names_ == nullptr || names_->has_requests(field.probe);
  if (request && requests) {
    subjects_.push_back({{field.probe, {}}, true, span});
    return true;
  }
  const SignalTable::Entry* entry = names_->series(field.probe, field.name, span);
  if (entry == nullptr) return false;
  if (entry->type != SignalType::kGauge) {
    error(
        span,
        fmt::format("`{}.{}` counts events and has no value at a moment", field.probe, field.name),
        fmt::format("write count({}.{})", field.probe, field.name));
    return false;
  }
  subjects_.push_back({{field.probe, field.name}, false, span});
  return true;
}

bool ConditionChecker::check_value(const FieldComparison& comparison, Span span) {
  const std::string& name = comparison.field.name;
  if (const auto* quantity = std::get_if<base::Quantity>(&comparison.value)) {
    if (std::isnan(quantity->value)) return false;  // reported by the lexer
  }
  if (!is_request_field(name)) return check_gauge(comparison, span);
  if (name == "status") return check_status(comparison, span);
  if (name == "outcome") return check_outcome(comparison, span);
  if (name == "header" || name == "json") return check_content(comparison, span);
  if (name == "latency") {
    const auto* quantity = std::get_if<base::Quantity>(&comparison.value);
    if (quantity && (quantity->dimension == base::Dimension::kDuration || quantity->value == 0)) {
      return true;
    }
    error(span, "a latency is compared with a duration", "write a unit: 250ms, 1.5s");
    return false;
  }
  if (std::holds_alternative<bool>(comparison.value) && is_equality(comparison.comparator)) {
    return true;
  }
  error(span, fmt::format("`{}` is true or false", shown(comparison.field)),
        fmt::format("write `{0}` or `not {0}`", shown(comparison.field)));
  return false;
}

bool ConditionChecker::check_status(const FieldComparison& comparison, Span span) {
  if (std::holds_alternative<FieldComparison::StatusClass>(comparison.value)) {
    if (is_equality(comparison.comparator)) return true;
    error(span, "a status class is equal or not equal",
          fmt::format("write a number: {} >= 500", shown(comparison.field)));
    return false;
  }
  const auto* quantity = std::get_if<base::Quantity>(&comparison.value);
  if (quantity && quantity->value == 0) {
    error(span, "a request without an answer has no status",
          fmt::format("write `not {} exists`", shown(comparison.field)));
    return false;
  }
  if (quantity && quantity->dimension == base::Dimension::kNumber && quantity->value >= 100 &&
      quantity->value <= 599 && quantity->value == std::floor(quantity->value)) {
    return true;
  }
  error(span, "a status is a number from 100 to 599 or a class such as 2xx",
        "without quotes and without a unit: == 503, == 5xx");
  return false;
}

bool ConditionChecker::check_outcome(const FieldComparison& comparison, Span span) {
  const auto* text = std::get_if<std::string>(&comparison.value);
  std::vector<std::string> known;
  for (std::string_view name : outcome_names()) known.push_back("\"" + std::string(name) + "\"");
  if (!text || !is_equality(comparison.comparator)) {
    error(span, "an outcome is compared with a text, by == or !=",
          fmt::format("the outcomes are {}", base::enumerate(known)));
    return false;
  }
  const auto names = outcome_names();
  if (std::find(names.begin(), names.end(), *text) != names.end()) return true;
  const std::string_view near = base::nearest(*text, names);
  error(span, fmt::format("there is no outcome \"{}\"", *text),
        near.empty() ? fmt::format("the outcomes are {}", base::enumerate(known))
                     : fmt::format("did you mean \"{}\"?", near));
  return false;
}

// A header or a JSON value.
bool ConditionChecker::check_content(const FieldComparison& comparison, Span span) {
  if (const auto* quantity = std::get_if<base::Quantity>(&comparison.value)) {
    if (quantity->dimension == base::Dimension::kNumber) return true;
    error(span, fmt::format("`{}` carries no unit", shown(comparison.field)),
          "compare it with a plain number");
    return false;
  }
  if (std::holds_alternative<FieldComparison::StatusClass>(comparison.value)) {
    error(span, "a class such as 2xx is for the status only", "compare with a number or a text");
    return false;
  }
  if (std::holds_alternative<bool>(comparison.value) && comparison.field.name == "header") {
    error(span, "a header is a text or a number", "put the word in double quotes: \"true\"");
    return false;
  }
  if (is_equality(comparison.comparator)) return true;
  error(span, "a text, true and false are equal or not equal", "write == or !=");
  return false;
}

bool ConditionChecker::check_gauge(const FieldComparison& comparison, Span span) {
  const Field& field = comparison.field;
  const SignalTable::Entry* entry = names_->series(field.probe, field.name, span);
  if (entry == nullptr) return false;
  const auto* quantity = std::get_if<base::Quantity>(&comparison.value);
  if (!quantity) {
    error(span, fmt::format("`{}` is {}", shown(field), noun(entry->dimension)),
          fmt::format("compare it with {}", noun_with_example(entry->dimension)));
    return false;
  }
  const bool plain_share = entry->dimension == base::Dimension::kShare &&
                           quantity->dimension == base::Dimension::kNumber;
  if (quantity->dimension == entry->dimension || quantity->value == 0 || plain_share) return true;
  error(span,
        fmt::format("`{}` is {} and cannot be compared with {}", shown(field),
                    noun(entry->dimension), noun(quantity->dimension)),
        fmt::format("compare it with {}", noun_with_example(entry->dimension)));
  return false;
}

bool ConditionChecker::one_subject() {
  const Subject& first = subjects_.front();
  if (!owner_.empty() && (!first.requests || first.signal.source != owner_)) {
    error(first.span, fmt::format("`where` picks requests of `{}`", owner_),
          first.requests ? fmt::format("write the fields as `{}.status`", owner_)
                         : "a gauge is asked on its own: time(stuck.value > 0)");
    return false;
  }
  for (const Subject& other : subjects_) {
    if (other.requests != first.requests) {
      error(other.span, "a condition speaks of requests or of a gauge, not of both",
            "write two predictions");
      return false;
    }
    if (other.signal == first.signal) continue;
    error(other.span,
          first.requests
              ? fmt::format("a condition speaks of one probe, this one of `{}` and `{}`",
                            first.signal.source, other.signal.source)
              : fmt::format("a condition speaks of one gauge, this one of `{}.{}` and `{}.{}`",
                            first.signal.source, first.signal.field, other.signal.source,
                            other.signal.field),
          "write two predictions");
    return false;
  }
  return true;
}

}  // namespace squall::model
