#include <fmt/format.h>

#include <algorithm>

#include "base/units.h"
#include "report/chart.h"
#include "report/html_parts.h"
#include "report/words.h"

namespace squall::report {
namespace {

constexpr int kDepthLimit = 32;

std::string anchor(std::size_t index) {
  return "prediction-" + std::to_string(index + 1);
}

void add_summary_row(Markup& out, const judge::PredictionResult& result, std::size_t index) {
  out.open("tr");
  out.open("td");
  add_badge(out, result.verdict);
  out.close();
  out.open("th", {{"scope", "row"}});
  out.element("a", result.name, {{"href", "#" + anchor(index)}});
  out.close();
  out.open("td");
  out.element("code", result.text);
  if (result.steady_state) out.element("span", " " + phase_note(result), {{"class", "soft"}});
  out.close();
  out.element("td", value_text(result), {{"class", "number"}});
  out.close();
  out.line_break();
}

void add_explanation(Markup& out, const judge::Explanation& node, int depth) {
  out.open("li");
  out.element("code", node.text);
  if (!node.value.empty()) {
    out.text(" = ");
    out.element("strong", node.value);
  }
  if (!node.evidence.empty()) {
    out.empty("br");
    out.element("span", node.evidence, {{"class", "soft"}});
  }
  if (!node.parts.empty() && depth < kDepthLimit) {
    out.open("ul");
    for (const judge::Explanation& part : node.parts) add_explanation(out, part, depth + 1);
    out.close();
  }
  out.close();
}

void add_key_entry(Markup& out, std::string_view style, std::string_view text, bool area = false) {
  out.open("li");
  out.open("svg", {{"class", "graph"},
                   {"viewBox", "0 0 22 10"},
                   {"aria-hidden", "true"},
                   {"style", "min-width:0;display:inline-block"}});
  if (area) {
    out.empty("rect", {{"class", style}, {"width", "22"}, {"height", "10"}});
  } else {
    out.empty("line", {{"class", style}, {"x1", "0"}, {"x2", "22"}, {"y1", "5"}, {"y2", "5"}});
  }
  out.close();
  out.text(text);
  out.close();
}

void add_key(Markup& out, const Graph& graph, const judge::PredictionResult& result) {
  out.open("ul", {{"class", "key"}});
  add_key_entry(out, "series", graph.what);
  if (graph.comparable && result.threshold) add_key_entry(out, "limit", "threshold");
  if (graph.comparable && result.interval_low)
    add_key_entry(out, "interval", "observed, with its 95 % interval", /*area=*/true);
  add_key_entry(out, "judged", "judged stretch", /*area=*/true);
  add_key_entry(out, "fault", "fault", /*area=*/true);
  out.close();
  if (!graph.comparable) {
    out.element("p",
                "The threshold is for the whole stretch and so is not drawn beside these "
                "values.",
                {{"class", "soft"}});
  }
}

void add_result_facts(Markup& out, const Contents& contents,
                      const judge::PredictionResult& result) {
  out.open("dl", {{"class", "facts"}});
  add_fact(out, "Observed", value_text(result));
  add_fact(out, "Threshold", threshold_text(result));
  if (const auto stretch = contents.stretch_of(result)) {
    add_fact(out, "Judged",
             fmt::format("{}: {} to {}", phase_text(result), contents.offset(stretch->begin),
                         contents.offset(stretch->end)));
  } else {
    add_fact(out, "Judged", phase_text(result));
  }
  std::string samples = base::humanize_count(result.samples);
  if (result.effective_samples > 0) {
    samples += fmt::format(
        " (worth {} independent ones)",
        base::humanize_count(static_cast<std::uint64_t>(std::min(result.effective_samples, 1e18))));
  }
  add_fact(out, "Samples", samples);
  add_fact(out, "Method", result.method);
  if (result.first_violation)
    add_fact(out, "First violated", contents.offset(*result.first_violation));
  if (result.returned) {
    add_fact(out, result.first_violation ? "Back for good" : "Holds from",
             contents.offset(*result.returned));
  }
  out.close();
}

void add_card(Markup& out, const Contents& contents, const judge::PredictionResult& result,
              std::size_t index) {
  out.open("article", {{"class", "card"}, {"id", anchor(index)}});
  out.open("div", {{"class", "top"}});
  add_badge(out, result.verdict);
  out.element("h3", result.name);
  if (result.steady_state) out.element("span", phase_note(result), {{"class", "soft"}});
  out.close();
  out.open("p");
  out.element("code", result.text);
  out.close();
  if (!result.reason.empty()) out.element("p", result.reason);
  if (const auto graph = graph_of(contents, result)) {
    out.open("div", {{"class", "scroll"},
                     {"tabindex", "0"},
                     {"role", "region"},
                     {"aria-label", "Graph of " + result.name}});
    draw_graph(out, contents, result, *graph, anchor(index));
    out.close();
    add_key(out, *graph, result);
  }
  add_result_facts(out, contents, result);
  if (!result.explanation.text.empty()) {
    out.open("details");
    out.element("summary", "How this was judged");
    out.open("ul", {{"class", "tree"}});
    add_explanation(out, result.explanation, 0);
    out.close();
    out.close();
  }
  out.close();
  out.line_break();
}

}  // namespace

void add_predictions(Markup& out, const Contents& contents) {
  const auto& results = contents.by_weight();
  out.open("section", {{"aria-labelledby", "predictions"}});
  add_heading(out, "predictions", "Predictions");
  if (results.empty()) {
    out.element("p", "None was judged.");
  } else {
    out.open("div", {{"class", "card scroll"}, {"tabindex", "0"}});
    out.open("table");
    add_table_head(out, {"Verdict", "Prediction", "Claim", "Observed"});
    out.open("tbody");
    for (std::size_t i = 0; i < results.size(); ++i) add_summary_row(out, *results[i], i);
    out.close();
    out.close();
    out.close();
    for (std::size_t i = 0; i < results.size(); ++i) add_card(out, contents, *results[i], i);
  }
  out.close();
}

}  // namespace squall::report
