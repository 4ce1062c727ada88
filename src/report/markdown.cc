#include <fmt/format.h>

#include <algorithm>

#include "base/text.h"
#include "report/contents.h"
#include "report/report.h"
#include "report/words.h"

namespace squall::report {
namespace {

// GitHub takes 65,536 characters in a comment; a step summary takes more.
constexpr std::size_t kSizeLimit = 60'000;
constexpr std::size_t kTextLimit = 600;

// Untrusted text in running text or a table cell: one line, nothing of it is markup.
std::string plain(std::string_view text) {
  std::string out;
  for (const char c : base::printable(base::valid_utf8(text.substr(0, kTextLimit)))) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '@':
        out += "@<!-- -->";
        break;  // mentions nobody
      case '\\':
      case '`':
      case '*':
      case '_':
      case '[':
      case ']':
      case '|':
      case '#':
      case '~':
      case '!':
        out += '\\';
        out += c;
        break;
      default:
        out += c;
    }
  }
  return out;
}

// In a code span: backticks cannot be escaped there, and a bar ends a table cell.
std::string code(std::string_view text) {
  std::string out = base::printable(base::valid_utf8(text.substr(0, kTextLimit)));
  std::replace(out.begin(), out.end(), '`', '\'');
  std::string cell;
  for (const char c : out) {
    if (c == '|') cell += '\\';
    cell += c;
  }
  return cell.empty() ? cell : "`" + cell + "`";
}

std::string sign(model::Verdict verdict) {
  switch (verdict) {
    case model::Verdict::kHeld:
      return "✅ held";
    case model::Verdict::kViolated:
      return "❌ **violated**";
    case model::Verdict::kInconclusive:
      return "❔ inconclusive";
    case model::Verdict::kNoData:
      return "➖ no data";
  }
  return {};
}

std::string prediction_table(const Contents& contents) {
  std::string out =
      "| verdict | prediction | observed | threshold | samples |\n|---|---|---|---|---|\n";
  for (const judge::PredictionResult* each : contents.by_weight()) {
    const judge::PredictionResult& result = *each;
    out += fmt::format("| {} | **{}**{}<br>{} | {} | {} | {} |\n", sign(result.verdict),
                       plain(result.name),
                       result.steady_state ? " (" + plain(phase_note(result)) + ")" : "",
                       code(result.text), plain(value_text(result)), plain(threshold_text(result)),
                       base::humanize_count(result.samples));
  }
  return out + "\n";
}

std::string reasons(const Contents& contents) {
  std::string out;
  for (const judge::PredictionResult* each : contents.by_weight()) {
    const judge::PredictionResult& result = *each;
    if (result.verdict == model::Verdict::kHeld || result.reason.empty()) continue;
    out += fmt::format("- **{}**: {}", plain(result.name), plain(result.reason));
    if (result.first_violation)
      out += fmt::format("{} First violated at {}.", result.reason.ends_with('.') ? "" : ".",
                         contents.offset(*result.first_violation));
    out += "\n";
  }
  return out.empty() ? out : out + "\n";
}

std::string fault_table(const Contents& contents) {
  if (contents.faults().empty()) return {};
  std::string out =
      "| fault | kind | injected | effective | reverted | verified |\n|---|---|---|---|---|---|\n";
  for (const FaultFacts& fault : contents.faults()) {
    const auto moment = [&](const std::optional<base::Instant>& at) {
      return at ? contents.offset(*at) : std::string("–");
    };
    const evidence::FaultWindow* window = fault.window;
    out += fmt::format("| {} | {} | {} | {} | {} | {} |\n", plain(fault.name), code(fault.kind()),
                       window != nullptr ? contents.offset(window->inject) : "never",
                       window != nullptr ? moment(window->effective) : "–",
                       window != nullptr ? moment(window->revert) : "–",
                       window != nullptr ? moment(window->verified) : "–");
  }
  return out + "\n";
}

std::string list(std::string_view heading, const std::vector<std::string>& items) {
  if (items.empty()) return {};
  std::string out = fmt::format("**{}**\n\n", heading);
  for (const std::string& item : items) out += "- " + plain(item) + "\n";
  return out + "\n";
}

}  // namespace

std::string render_markdown(const RunView& view) {
  const Contents contents(view);
  const judge::Judgement& judgement = contents.judgement();
  std::string out =
      fmt::format("## {}: {}\n\n", plain(contents.experiment_name()), banner(judgement));
  if (const std::string warning = alarm(judgement); !warning.empty())
    out += "> **Warning.** " + plain(warning) + "\n\n";
  if (!contents.scenario().empty()) out += plain(contents.scenario()) + "\n\n";
  out += plain(headline(contents)) + "\n\n";
  if (!judgement.predictions.empty()) out += prediction_table(contents);
  out += reasons(contents);
  out += fault_table(contents);
  std::vector<std::string> checks;
  for (const CheckResult& check : contents.checks())
    if (check.result != "pass") checks.push_back(check.name + ": " + check.reason);
  out += list("Checks that did not pass", checks);
  out += list("Notes", judgement.notes);
  out += list("Damage to the record", contents.record().damage());
  std::string end = "<sub>";
  if (!contents.short_id().empty()) end += "Run " + plain(contents.short_id()) + ", ";
  end += fmt::format("{}, {}, Squall {}. Again: <code>{}</code></sub>\n", contents.started(),
                     seconds_text(base::to_seconds(contents.length())),
                     plain(contents.header().squall_version), plain(contents.reproduce_command()));
  if (out.size() + end.size() > kSizeLimit) {
    // Cut at the end of a line, which no table or list minds.
    out.resize(out.rfind('\n', kSizeLimit - end.size() - 100) + 1);
    out += "\n*Cut here; the whole report is in the HTML page.*\n\n";
  }
  return out + end;
}

}  // namespace squall::report
