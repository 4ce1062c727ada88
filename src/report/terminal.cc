#include <fmt/format.h>

#include <algorithm>

#include "base/text.h"
#include "report/contents.h"
#include "report/paint.h"
#include "report/report.h"

namespace squall::report {
namespace {

constexpr int kVerdictColumn = 15;  // "? inconclusive "
constexpr int kNameColumnLimit = 30;

std::string title(const Contents& contents, const Paint& paint) {
  const std::string between = paint.unicode() ? " · " : " | ";
  std::string facts;
  for (const std::string& fact :
       {contents.short_id().empty() ? std::string() : "run " + contents.short_id(),
        contents.header().environment, contents.started(),
        seconds_text(base::to_seconds(contents.length()))}) {
    if (!fact.empty()) facts += between + paint.clean(fact);
  }
  std::string out = paint.bold(paint.clean(contents.experiment_name())) + paint.dim(facts) + "\n";
  return out + paint.wrapped(contents.scenario(), 0);
}

std::string verdict(const Contents& contents, const Paint& paint) {
  const judge::Judgement& judgement = contents.judgement();
  std::string out = paint.banner(banner(judgement), tone_of_run(judgement)) + " " +
                    paint.clean(headline(contents)) + "\n";
  if (const std::string warning = alarm(judgement); !warning.empty())
    out += paint.toned(paint.wrapped("! " + warning, 0), Tone::kBad);
  return out;
}

std::string moments(const Contents& contents, const judge::PredictionResult& result) {
  std::string text;
  if (result.first_violation)
    text = "First violated at " + contents.offset(*result.first_violation);
  if (result.first_violation && result.returned)
    text += ", back for good at " + contents.offset(*result.returned);
  return text.empty() ? text : text + ".";
}

std::string prediction(const Contents& contents, const Paint& paint,
                       const judge::PredictionResult& result, int name_column) {
  std::string out = paint.toned(padded(std::string(glyph(result.verdict, paint.unicode())) + " " +
                                           std::string(word(result.verdict)),
                                       kVerdictColumn),
                                tone_of(result.verdict));
  std::string claim = result.text;
  if (result.steady_state) claim += " (" + phase_note(result) + ")";
  const std::string clean_claim = paint.clean(claim);
  const int used = kVerdictColumn + std::max(name_column, columns(paint.clean(result.name))) + 2;
  if (used + columns(clean_claim) <= paint.width()) {
    out += paint.bold(padded(paint.clean(result.name), name_column)) + "  " + clean_claim + "\n";
  } else {
    out += paint.bold(paint.clean(result.name)) + "\n" + paint.wrapped(claim, kVerdictColumn);
  }
  std::string reason = result.reason;
  if (reason.empty() && result.observed) reason = "observed " + value_text(result);
  out += paint.wrapped(reason, kVerdictColumn);
  out += paint.wrapped(moments(contents, result), kVerdictColumn);
  return out;
}

std::string predictions(const Contents& contents, const Paint& paint) {
  int name_column = 0;
  for (const judge::PredictionResult& result : contents.judgement().predictions)
    name_column = std::max(name_column, columns(paint.clean(result.name)));
  name_column = std::min(name_column, kNameColumnLimit);
  std::string out;
  for (const judge::PredictionResult* result : contents.by_weight())
    out += prediction(contents, paint, *result, name_column);
  return out;
}

std::string fault_line(const Contents& contents, const FaultFacts& fault) {
  std::string line = fault.name;
  if (!fault.kind().empty()) line += " (" + fault.kind() + ")";
  if (fault.window == nullptr) return line + ": never injected";
  const evidence::FaultWindow& window = *fault.window;
  line += ": injected at " + contents.offset(window.inject);
  if (window.failed) line += ", failed";
  if (window.effective) {
    line += ", effective at " + contents.offset(*window.effective);
  } else if (window.can_be_effective && !window.failed) {
    line += ", no effect was seen";
  }
  if (window.revert) line += ", reverted at " + contents.offset(*window.revert);
  line += window.verified ? ", revert verified" : ", revert not verified";
  return line;
}

std::string section(const Paint& paint, std::string_view heading,
                    const std::vector<std::string>& lines) {
  if (lines.empty()) return {};
  std::string out = "\n" + paint.bold(heading) + "\n";
  for (const std::string& line : lines) out += paint.wrapped(line, 2);
  return out;
}

std::vector<std::string> times(const judge::Judgement& judgement) {
  std::vector<std::string> lines;
  if (judgement.time_to_impact) {
    lines.push_back("Time to impact: " + seconds_text(base::to_seconds(*judgement.time_to_impact)) +
                    " from the fault's effect to the first violated signal.");
  }
  if (judgement.time_to_recover) {
    lines.push_back(
        "Time to recover: " + seconds_text(base::to_seconds(*judgement.time_to_recover)) +
        " from the revert to the steady state.");
  }
  return lines;
}

std::vector<std::string> failed_checks(const Contents& contents) {
  std::vector<std::string> lines;
  for (const CheckResult& check : contents.checks()) {
    if (check.result == "pass") continue;
    std::string line = check.name + ": " + check.reason;
    if (!check.remedy.empty()) line += " " + check.remedy;
    lines.push_back(std::move(line));
  }
  return lines;
}

}  // namespace

std::string render_terminal(const RunView& view, const TerminalOptions& options) {
  const Contents contents(view);
  const Paint paint(options);
  std::string out = title(contents, paint) + "\n" + verdict(contents, paint);
  if (!contents.judgement().predictions.empty()) out += "\n" + predictions(contents, paint);
  std::vector<std::string> faults;
  for (const FaultFacts& fault : contents.faults()) faults.push_back(fault_line(contents, fault));
  out += section(paint, "Faults", faults);
  out += section(paint, "Times", times(contents.judgement()));
  out += section(paint, "Checks that did not pass", failed_checks(contents));
  out += section(paint, "Notes", contents.judgement().notes);
  out += section(paint, "Damage to the record", contents.record().damage());
  out += "\n" + paint.dim("Again: " + paint.clean(contents.reproduce_command())) + "\n";
  return out;
}

}  // namespace squall::report
