#include <nlohmann/json.hpp>

#include "report/contents.h"
#include "report/json_parts.h"
#include "report/paint.h"
#include "report/report.h"

namespace squall::report {
namespace {

constexpr int kDepthLimit = 64;

struct Branches {
  std::string_view middle;
  std::string_view last;
  std::string_view trunk;
  std::string_view space = "   ";
};

Branches branches(bool unicode) {
  if (unicode) return {.middle = "├─ ", .last = "└─ ", .trunk = "│  "};
  return {.middle = "|- ", .last = "`- ", .trunk = "|  "};
}

void add_node(std::string& out, const Paint& paint, const judge::Explanation& node,
              const std::string& margin, std::string_view branch, const std::string& below,
              int depth) {
  out += margin + std::string(branch) + paint.clean(node.text);
  if (!node.value.empty()) out += " = " + paint.bold(paint.clean(node.value));
  out += "\n";
  const Branches lines = branches(paint.unicode());
  const bool has_parts = !node.parts.empty() && depth < kDepthLimit;
  if (!node.evidence.empty())
    out += below + std::string(has_parts ? lines.trunk : lines.space) +
           paint.dim(paint.clean(node.evidence)) + "\n";
  if (!has_parts) return;
  for (std::size_t i = 0; i < node.parts.size(); ++i) {
    const bool last = i + 1 == node.parts.size();
    add_node(out, paint, node.parts[i], below, last ? lines.last : lines.middle,
             below + std::string(last ? lines.space : lines.trunk), depth + 1);
  }
}

}  // namespace

std::string render_explanation(const RunView& view, std::string_view prediction,
                               const TerminalOptions& options) {
  const Contents contents(view);
  const Paint paint(options);
  std::string out;
  for (const judge::PredictionResult& result : contents.judgement().predictions) {
    if (!goes_by(result, prediction)) continue;
    if (!out.empty()) out += "\n";
    out += paint.toned(std::string(glyph(result.verdict, paint.unicode())) + " " +
                           std::string(word(result.verdict)),
                       tone_of(result.verdict));
    out += "  " + paint.bold(paint.clean(result.name)) + "  " + paint.clean(result.text);
    if (result.steady_state) out += " (" + paint.clean(phase_note(result)) + ")";
    out += "\n" + paint.wrapped(result.reason, 2);
    if (!result.method.empty()) out += paint.wrapped("Method: " + result.method + ".", 2);
    out += "\n";
    add_node(out, paint, result.explanation, "  ", "", "  ", 0);
  }
  return out;
}

base::Json render_explanation_json(const RunView& view, std::string_view prediction) {
  const Contents contents(view);
  base::Json results = base::Json::array();
  for (const judge::PredictionResult& result : contents.judgement().predictions)
    if (goes_by(result, prediction)) results.push_back(prediction_json(contents, result));
  return results;
}

}  // namespace squall::report
