#include "model/prediction/names.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/text.h"

namespace squall::model {
namespace {

void add_once(std::vector<std::string>& list, const std::string& value) {
  if (std::find(list.begin(), list.end(), value) == list.end()) list.push_back(value);
}

std::string quoted_list(const std::vector<std::string>& names) {
  std::vector<std::string> quoted;
  for (const std::string& name : names) quoted.push_back("`" + name + "`");
  return base::enumerate(quoted);
}

// "did you mean `x`?", else the list of what there is.
std::string suggestion(std::string_view word, const std::vector<std::string>& known,
                       std::string_view what) {
  const std::string near = base::nearest(word, known);
  if (!near.empty()) return fmt::format("did you mean `{}`?", near);
  if (known.empty()) return fmt::format("there are no {}", what);
  constexpr std::size_t kListed = 8;
  if (known.size() > kListed) {
    const std::vector<std::string> first(known.begin(), known.begin() + kListed);
    return fmt::format("the {} are {} and {} more", what, quoted_list(first),
                       known.size() - kListed);
  }
  return known.size() == 1 ? fmt::format("there is only {}", quoted_list(known))
                           : fmt::format("the {} are {}", what, quoted_list(known));
}

}  // namespace

std::vector<std::string> Names::sources() const {
  std::vector<std::string> result;
  for (const auto& entry : table_.entries) add_once(result, entry.source);
  for (const auto& probe : table_.sequenced_probes) add_once(result, probe);
  return result;
}

std::vector<std::string> Names::request_probes() const {
  std::vector<std::string> result;
  for (const auto& entry : table_.entries) {
    if (entry.type == SignalType::kRequests) add_once(result, entry.source);
  }
  return result;
}

bool Names::has_requests(std::string_view source) const {
  return std::any_of(table_.entries.begin(), table_.entries.end(), [&](const auto& entry) {
    return entry.source == source && entry.type == SignalType::kRequests;
  });
}

bool Names::is_plain(std::string_view source) const {
  const auto& plain = table_.plain_probes;
  return std::find(plain.begin(), plain.end(), source) != plain.end();
}

bool Names::check_source(std::string_view source, Span span) {
  const std::vector<std::string> known = sources();
  if (std::find(known.begin(), known.end(), source) != known.end()) return true;
  std::string hint = suggestion(source, known, "probes and services with signals");
  for (std::size_t at = source.find('-'); at != std::string_view::npos;
       at = source.find('-', at + 1)) {
    if (std::find(known.begin(), known.end(), source.substr(0, at)) != known.end()) {
      hint = "a hyphen belongs to the name; put spaces around a minus";
    }
  }
  error(span, fmt::format("there is no probe or service `{}`", source), std::move(hint));
  return false;
}

const SignalTable::Entry* Names::series(std::string_view source, std::string_view field,
                                        Span span) {
  const SignalTable::Entry* found = table_.find(source, field);
  if (found != nullptr && found->type != SignalType::kRequests && !is_request_field(field)) {
    return found;
  }
  std::vector<std::string> known;
  if (has_requests(source)) known = {"latency", "success"};
  for (const auto& entry : table_.entries) {
    if (entry.source == source && entry.type != SignalType::kRequests) {
      add_once(known, entry.field);
    }
  }
  std::string hint = suggestion(field, known, fmt::format("signals of `{}`", source));
  const std::size_t hyphen = field.find('-');
  if (hyphen != std::string_view::npos &&
      std::find(known.begin(), known.end(), field.substr(0, hyphen)) != known.end()) {
    hint = "a hyphen belongs to the name; put spaces around a minus";
  }
  error(span, fmt::format("`{}` has no signal `{}`", source, field), std::move(hint));
  return nullptr;
}

std::vector<const SignalTable::Entry*> Names::counters(std::string_view source) const {
  std::vector<const SignalTable::Entry*> result;
  for (const auto& entry : table_.entries) {
    if (entry.source == source && entry.type == SignalType::kCounter) result.push_back(&entry);
  }
  return result;
}

bool Names::check_sequenced(std::string_view function, std::string_view probe, Span span) {
  const auto& known = table_.sequenced_probes;
  if (std::find(known.begin(), known.end(), probe) != known.end()) return true;
  if (!check_source(probe, span)) return false;
  std::string hint = "give the probe `sequence` and `read_back`";
  if (!known.empty()) hint += fmt::format("; those with it: {}", quoted_list(known));
  error(span,
        fmt::format("{}({}) needs numbered writes, and `{}` does not number its own", function,
                    probe, probe),
        std::move(hint));
  return false;
}

bool Names::check_fault(const std::string& name, Span span) {
  if (name.empty()) return true;
  const auto& known = table_.fault_names;
  if (std::find(known.begin(), known.end(), name) != known.end()) return true;
  std::vector<std::string> candidates = known;
  const std::string near_phase = base::nearest(name, {"baseline", "fault", "recovery"});
  const std::string near_fault = base::nearest(name, known);
  std::string hint = suggestion(name, candidates, "faults of this experiment");
  if (near_fault.empty() && !near_phase.empty()) {
    hint = fmt::format("did you mean `{}`?", near_phase);
  }
  error(span, fmt::format("there is no fault `{}`", name), std::move(hint));
  return false;
}

}  // namespace squall::model
