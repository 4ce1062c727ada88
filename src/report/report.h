#pragma once
// One run as terminal text, JSON, JUnit XML, Markdown or one HTML page. Pure functions: the same
// view gives the same text. All text of the record is untrusted and is escaped.

#include <string>
#include <string_view>

#include "base/json.h"
#include "evidence/record.h"
#include "judge/judgement.h"
#include "model/experiment.h"
#include "model/plan.h"
#include "model/system_map.h"

namespace squall::report {

// What a report is made of. What the pointers point to must outlive the view; null: not known, and
// the report goes without (the plan and the binding are then taken from the record if it has them;
// graphs need the experiment and the map).
struct RunView {
  const evidence::Record& record;
  const judge::Judgement& judgement;
  const model::Plan* plan = nullptr;
  const model::Binding* binding = nullptr;
  const model::Experiment* experiment = nullptr;
  const model::SystemMap* map = nullptr;
};

struct TerminalOptions {
  bool colour = false;
  int width = 80;       // columns; below 40 counts as 40
  bool unicode = true;  // false: ASCII only (LANG=C)
};

std::string render_terminal(const RunView& view, const TerminalOptions& options = {});

// Documented in docs/reports.md; its schema is schema/report.schema.json.
base::Json render_json(const RunView& view);

// A test case per prediction: violated is a failure; inconclusive and no data are skipped, or
// failures when `strict`. A run that was blocked, aborted, stopped or errored, or whose revert
// could not be verified, is an error, also of the predictions that it left undecided.
enum class Strictness { kLenient, kStrict };
std::string render_junit(const RunView& view, Strictness strictness = Strictness::kLenient);

// Fits a comment on a pull request and a CI step summary (below 60 kB).
std::string render_markdown(const RunView& view);

// One self-contained page: no script, no request to anywhere, legible in light, dark and print.
std::string render_html(const RunView& view);

// A prediction as a tree with values and evidence, for `squall explain`. `prediction` is a name;
// all results of that name (steady state is judged in two phases). Empty when there is none.
std::string render_explanation(const RunView& view, std::string_view prediction,
                               const TerminalOptions& options = {});
base::Json render_explanation_json(const RunView& view, std::string_view prediction);

}  // namespace squall::report
