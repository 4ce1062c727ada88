// Conditions evaluated: for each request that comes in, ten thousand times a second, and for each
// sample of a gauge.

#include <charconv>
#include <cmath>

#include "base/text.h"
#include "model/prediction_language.h"

namespace squall::model {
namespace {

bool compare(double left, Comparator comparator, double right) {
  switch (comparator) {
    case Comparator::kLess:
      return left < right;
    case Comparator::kLessEqual:
      return left <= right;
    case Comparator::kGreater:
      return left > right;
    case Comparator::kGreaterEqual:
      return left >= right;
    case Comparator::kEqual:
      return left == right;
    case Comparator::kNotEqual:
      return left != right;
  }
  return false;
}

// Of an absent or unlike value only `!=` is true, so that it stays the opposite of `==`.
bool compare_absent(Comparator comparator) {
  return comparator == Comparator::kNotEqual;
}

bool compare_texts(std::string_view left, Comparator comparator, std::string_view right) {
  return comparator == Comparator::kEqual ? left == right : left != right;
}

std::optional<double> number_of(std::string_view text) {
  text = base::trim(text);
  double value = 0;
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (fault != std::errc{} || end != text.data() + text.size() || !std::isfinite(value)) {
    return std::nullopt;
  }
  return value;
}

std::optional<std::string> content(const Field& field, const RequestFields& fields) {
  const auto& lookup = field.name == "header" ? fields.header : fields.json;
  return lookup ? lookup(field.key) : std::nullopt;
}

bool compare_status(const FieldComparison& comparison, int status) {
  if (status == 0) return compare_absent(comparison.comparator);
  if (const auto* wanted = std::get_if<FieldComparison::StatusClass>(&comparison.value)) {
    const bool inside = status / 100 == wanted->hundreds;
    return inside == (comparison.comparator == Comparator::kEqual);
  }
  const auto* quantity = std::get_if<base::Quantity>(&comparison.value);
  return quantity != nullptr && compare(status, comparison.comparator, quantity->value);
}

bool compare_content(const FieldComparison& comparison, const RequestFields& fields) {
  const auto found = content(comparison.field, fields);
  if (!found) return compare_absent(comparison.comparator);
  if (const auto* quantity = std::get_if<base::Quantity>(&comparison.value)) {
    const auto number = number_of(*found);
    if (!number) return compare_absent(comparison.comparator);
    return compare(*number, comparison.comparator, quantity->value);
  }
  if (const auto* truth = std::get_if<bool>(&comparison.value)) {
    return compare_texts(*found, comparison.comparator, *truth ? "true" : "false");
  }
  const auto* text = std::get_if<std::string>(&comparison.value);
  return text != nullptr && compare_texts(*found, comparison.comparator, *text);
}

bool compare_field(const FieldComparison& comparison, const RequestFields& fields) {
  const std::string& name = comparison.field.name;
  if (name == "status") return compare_status(comparison, fields.status);
  if (name == "latency") {
    const auto* quantity = std::get_if<base::Quantity>(&comparison.value);
    return quantity != nullptr &&
           compare(fields.latency_seconds, comparison.comparator, quantity->value);
  }
  if (name == "outcome") {
    const auto* text = std::get_if<std::string>(&comparison.value);
    return text != nullptr && compare_texts(fields.outcome, comparison.comparator, *text);
  }
  return compare_content(comparison, fields);
}

// One walk for requests and for gauges: `test` answers for Truth, Exists and FieldComparison.
template <typename Test>
bool evaluate(const Condition& condition, const Test& test) {
  if (const auto* comparison = std::get_if<FieldComparison>(&condition.node)) {
    return test(*comparison);
  }
  if (const auto* truth = std::get_if<Truth>(&condition.node)) return test(*truth);
  if (const auto* exists = std::get_if<Exists>(&condition.node)) return test(*exists);
  if (const auto* negation = std::get_if<Not>(&condition.node)) {
    return !evaluate(*negation->condition, test);
  }
  if (const auto* all = std::get_if<All>(&condition.node)) {
    for (const ConditionPtr& part : all->conditions) {
      if (!evaluate(*part, test)) return false;
    }
    return true;
  }
  for (const ConditionPtr& part : std::get<Any>(condition.node).conditions) {
    if (evaluate(*part, test)) return true;
  }
  return false;
}

struct RequestTest {
  const RequestFields& fields;
  bool operator()(const FieldComparison& test) const { return compare_field(test, fields); }
  bool operator()(const Truth& test) const {
    if (test.field.name == "success") return fields.success;
    if (test.field.name == "faulted") return fields.faulted;
    const auto found = content(test.field, fields);
    return found && *found == "true";
  }
  bool operator()(const Exists& test) const {
    if (test.field.name == "status") return fields.status != 0;
    return content(test.field, fields).has_value();
  }
};

struct GaugeTest {
  double value;
  bool operator()(const FieldComparison& test) const {
    const auto* quantity = std::get_if<base::Quantity>(&test.value);
    return quantity != nullptr && compare(value, test.comparator, quantity->value);
  }
  bool operator()(const Truth&) const { return value != 0; }
  bool operator()(const Exists&) const { return true; }
};

}  // namespace

bool matches(const Condition& condition, const RequestFields& fields) {
  return evaluate(condition, RequestTest{fields});
}

bool matches(const Condition& condition, double value) {
  return evaluate(condition, GaugeTest{value});
}

}  // namespace squall::model
