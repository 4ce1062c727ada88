#include <fmt/format.h>

#include <algorithm>

#include "base/text.h"
#include "report/contents.h"
#include "report/markup.h"
#include "report/report.h"
#include "report/words.h"

namespace squall::report {
namespace {

enum class CaseResult { kPassed, kFailed, kSkipped, kError };

struct Case {
  std::string name;
  CaseResult result = CaseResult::kPassed;
  std::string type;     // "violated"
  std::string message;  // one sentence
  std::string details;
  double seconds = 0;
};

// Why the run as a whole is an error; empty when it is not.
std::string run_error(const judge::Judgement& judgement) {
  if (!judgement.reverts_verified) return alarm(judgement);
  if (judgement.outcome == model::Outcome::kCompleted) return {};
  const std::string outcome(model::to_string(judgement.outcome));
  if (judgement.outcome_reason.empty()) return "the run was " + outcome;
  return outcome + ": " + judgement.outcome_reason;
}

CaseResult result_of(model::Verdict verdict, bool run_is_error, Strictness strictness) {
  if (verdict == model::Verdict::kHeld) return CaseResult::kPassed;
  if (verdict == model::Verdict::kViolated) return CaseResult::kFailed;
  if (run_is_error) return CaseResult::kError;
  return strictness == Strictness::kStrict ? CaseResult::kFailed : CaseResult::kSkipped;
}

Case case_of(const Contents& contents, const judge::PredictionResult& result, bool run_is_error,
             Strictness strictness) {
  Case out;
  out.name = result.name;
  if (result.steady_state) out.name += " (" + phase_text(result) + ")";
  out.result = result_of(result.verdict, run_is_error, strictness);
  out.type = model::to_string(result.verdict);
  out.message = result.reason.empty() ? std::string(word(result.verdict)) : result.reason;
  out.details = result.text + "\nobserved: " + value_text(result) +
                "\nthreshold: " + threshold_text(result) +
                "\nsamples: " + base::humanize_count(result.samples) + "\nmethod: " + result.method;
  if (result.first_violation)
    out.details += "\nfirst violated: " + contents.offset(*result.first_violation) +
                   " after the start of the run";
  if (const auto stretch = contents.stretch_of(result))
    out.seconds = base::to_seconds(stretch->length());
  return out;
}

std::vector<Case> cases_of(const Contents& contents, Strictness strictness) {
  const std::string error = run_error(contents.judgement());
  std::vector<Case> cases;
  if (!error.empty()) {
    cases.push_back({"the run completes and is reverted", CaseResult::kError,
                     std::string(model::to_string(contents.judgement().outcome)), error,
                     base::enumerate(contents.judgement().notes), 0});
  }
  for (const judge::PredictionResult& result : contents.judgement().predictions)
    cases.push_back(case_of(contents, result, !error.empty(), strictness));
  // A run that ended before anything could be judged still has its predictions.
  if (contents.judgement().predictions.empty() && contents.plan() != nullptr) {
    for (const model::PlannedPrediction& prediction : contents.plan()->predictions) {
      cases.push_back({prediction.name,
                       result_of(model::Verdict::kNoData, !error.empty(), strictness), "no_data",
                       error.empty() ? "it was not judged" : error, prediction.text, 0});
    }
  }
  return cases;
}

int count(const std::vector<Case>& cases, CaseResult result) {
  return static_cast<int>(
      std::count_if(cases.begin(), cases.end(), [&](const Case& c) { return c.result == result; }));
}

void add_case(Markup& xml, const Case& test_case, const std::string& class_name) {
  xml.open("testcase", {{"classname", class_name},
                        {"name", test_case.name},
                        {"time", fmt::format("{:.3f}", test_case.seconds)}});
  switch (test_case.result) {
    case CaseResult::kPassed:
      break;
    case CaseResult::kSkipped:
      xml.empty("skipped", {{"message", test_case.message}});
      break;
    case CaseResult::kFailed:
    case CaseResult::kError:
      xml.element(test_case.result == CaseResult::kFailed ? "failure" : "error", test_case.details,
                  {{"type", test_case.type}, {"message", test_case.message}});
      break;
  }
  xml.close();
  xml.line_break();
}

}  // namespace

std::string render_junit(const RunView& view, Strictness strictness) {
  const Contents contents(view);
  const std::vector<Case> cases = cases_of(contents, strictness);
  const std::string tests = std::to_string(cases.size());
  const std::string failures = std::to_string(count(cases, CaseResult::kFailed));
  const std::string errors = std::to_string(count(cases, CaseResult::kError));
  const std::string skipped = std::to_string(count(cases, CaseResult::kSkipped));
  const std::string time = fmt::format("{:.3f}", base::to_seconds(contents.length()));
  // Without the zone and the fraction, as the common schema of JUnit files wants it.
  const std::string timestamp = contents.started().substr(0, sizeof "2026-11-21T09:51:05" - 1);
  Markup xml;
  xml.constant("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
  xml.open("testsuites", {{"name", "squall"},
                          {"tests", tests},
                          {"failures", failures},
                          {"errors", errors},
                          {"time", time}});
  xml.line_break();
  xml.open("testsuite", {{"name", contents.experiment_name()},
                         {"tests", tests},
                         {"failures", failures},
                         {"errors", errors},
                         {"skipped", skipped},
                         {"time", time},
                         {"timestamp", timestamp}});
  xml.line_break();
  xml.open("properties");
  const auto property = [&xml](std::string_view name, std::string_view value) {
    xml.empty("property", {{"name", name}, {"value", value}});
  };
  property("run", contents.header().run.text());
  property("environment", contents.header().environment);
  property("plan_hash", contents.header().plan_hash);
  property("verdict", model::to_string(contents.judgement().verdict));
  property("outcome", model::to_string(contents.judgement().outcome));
  xml.close();
  xml.line_break();
  for (const Case& test_case : cases)
    add_case(xml, test_case, "squall." + contents.experiment_name());
  xml.close();
  xml.line_break();
  xml.close();
  xml.line_break();
  return std::move(xml).take();
}

}  // namespace squall::report
