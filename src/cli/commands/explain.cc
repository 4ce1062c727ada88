#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "base/text.h"
#include "cli/commands/table.h"
#include "cli/console.h"
#include "cli/context.h"
#include "cli/run_view.h"

namespace squall::cli {

namespace {

base::ExitStatus run(const Arguments& arguments) {
  auto archived = open_run(arguments, arguments.positional("RUN"));
  if (!archived.ok()) return fail(archived.error());
  const report::RunView view = view_of(**archived);
  std::vector<std::string> wanted;
  std::vector<std::string> known;
  for (const judge::PredictionResult& result : view.judgement.predictions) {
    if (std::find(known.begin(), known.end(), result.name) == known.end()) {
      known.push_back(result.name);
    }
  }
  const std::string name = arguments.positional("PREDICTION");
  if (name.empty()) {
    wanted = known;
  } else if (report::render_explanation_json(view, name).empty()) {
    return fail(base::Error{.code = base::ErrorCode::kNotFound,
                            .message = fmt::format("the run has no prediction `{}`.{}", name,
                                                   base::did_you_mean(name, known)),
                            .hint = fmt::format("it has {}", base::enumerate(known))});
  } else {
    wanted = {name};
  }
  base::Json all = base::Json::array();
  for (const std::string& each : wanted) {
    if (arguments.flag("--json")) {
      all.push_back(report::render_explanation_json(view, each));
    } else {
      print(report::render_explanation(view, each, terminal_options()));
    }
  }
  if (arguments.flag("--json")) print_json(all);
  return base::ExitStatus::kHeld;
}

constexpr std::array kPositionals = {
    Positional{"RUN", "Run id, part of it, a record file, or `last`"},
    Positional{"PREDICTION", "Its name; none: all of them", false}};
constexpr std::array kOptions = {kMapOption, kJsonOption};
constexpr std::array<std::string_view, 1> kExamples = {"squall explain last reads-stay-fast"};

}  // namespace

const Command kExplainCommand{
    .name = "explain",
    .group = "Learn",
    .summary = "Why a prediction got its verdict: its parts, their values, the evidence",
    .details = {},
    .positionals = kPositionals,
    .options = kOptions,
    .examples = kExamples,
    .run = run,
};

}  // namespace squall::cli
