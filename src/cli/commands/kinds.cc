#include <fmt/format.h>

#include <array>
#include <nlohmann/json.hpp>

#include "base/text.h"
#include "cli/commands/table.h"
#include "cli/console.h"
#include "cli/context.h"
#include "engine/kinds_document.h"
#include "model/schema.h"

namespace squall::cli {

namespace {

std::string one_line_each() {
  const model::Vocabulary& all = engine::vocabulary();
  std::string text = paint("Faults", Colour::kBold, colour_on_output()) + "\n";
  for (const auto* kind : all.faults) {
    text += fmt::format("  {:<22} {}\n", kind->name, kind->summary);
  }
  text += paint("Probes", Colour::kBold, colour_on_output()) + "\n";
  for (const auto* kind : all.probes) {
    text += fmt::format("  {:<22} {}\n", kind->name, kind->summary);
  }
  return text;
}

base::ExitStatus print_schema(const std::string& which) {
  if (which == "map") {
    print_json(model::system_map_schema(engine::vocabulary()));
  } else if (which == "experiment") {
    print_json(model::experiment_schema(engine::vocabulary()));
  } else {
    return fail(base::Error{.code = base::ErrorCode::kUsage,
                            .message = fmt::format("there is no schema `{}`", which),
                            .hint = "--schema map, or --schema experiment",
                            .context = {}});
  }
  return base::ExitStatus::kHeld;
}

base::ExitStatus print_document(const std::string& which) {
  if (which == "faults") {
    print(engine::faults_document());
  } else if (which == "probes") {
    print(engine::probes_document());
  } else {
    return fail(base::Error{.code = base::ErrorCode::kUsage,
                            .message = fmt::format("there is no document `{}`", which),
                            .hint = "--markdown faults, or --markdown probes",
                            .context = {}});
  }
  return base::ExitStatus::kHeld;
}

base::ExitStatus run(const Arguments& arguments) {
  if (const auto schema = arguments.option("--schema")) return print_schema(*schema);
  if (const auto markdown = arguments.option("--markdown")) return print_document(*markdown);
  const model::Vocabulary& all = engine::vocabulary();
  const std::string name = arguments.positional("KIND");
  if (name.empty()) {
    if (arguments.flag("--json")) {
      base::Json kinds = base::Json::array();
      for (const auto* kind : all.faults) kinds.push_back(engine::kind_as_json(*kind));
      for (const auto* kind : all.probes) kinds.push_back(engine::kind_as_json(*kind));
      print_json(kinds);
    } else {
      print(one_line_each());
    }
    return base::ExitStatus::kHeld;
  }
  const auto* fault = all.fault(name);
  const auto* probe = all.probe(name);
  if (fault == nullptr && probe == nullptr) {
    std::vector<std::string> names;
    for (const auto* kind : all.faults) names.emplace_back(kind->name);
    for (const auto* kind : all.probes) names.emplace_back(kind->name);
    return fail(base::Error{
        .code = base::ErrorCode::kNotFound,
        .message = fmt::format("there is no kind `{}`.{}", name, base::did_you_mean(name, names)),
        .hint = "`squall kinds` lists them",
        .context = {}});
  }
  if (arguments.flag("--json")) {
    print_json(fault != nullptr ? engine::kind_as_json(*fault) : engine::kind_as_json(*probe));
  } else {
    print(fault != nullptr ? engine::kind_as_text(*fault) : engine::kind_as_text(*probe));
  }
  return base::ExitStatus::kHeld;
}

constexpr std::array kPositionals = {Positional{"KIND", "A kind to explain in full", false}};
constexpr std::array kOptions = {
    kJsonOption, Option{"--schema", "FILE-KIND", "JSON Schema (draft-07) of `map` or `experiment`"},
    Option{"--markdown", "PAGE", "The documentation page `faults` or `probes`"}};
constexpr std::array<std::string_view, 3> kExamples = {
    "squall kinds", "squall kinds process.kill",
    "squall kinds --schema experiment > experiment.schema.json"};

}  // namespace

const Command kKindsCommand{
    .name = "kinds",
    .group = "Design",
    .summary = "The faults and probes there are, with their parameters",
    .details = {},
    .positionals = kPositionals,
    .options = kOptions,
    .examples = kExamples,
    .run = run,
};

}  // namespace squall::cli
