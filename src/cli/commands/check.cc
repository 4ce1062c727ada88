#include <fmt/format.h>

#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/text.h"
#include "cli/commands/table.h"
#include "cli/console.h"
#include "cli/context.h"

namespace squall::cli {

namespace {

void say_warnings(const std::vector<model::Diagnostic>& warnings) {
  for (const model::Diagnostic& each : warnings) {
    say(fmt::format("{}:{}:{}: {} {}", each.location.file, each.location.line, each.location.column,
                    paint("warning:", Colour::kYellow, colour_on_error()), each.message));
    if (!each.hint.empty()) say(fmt::format("  hint: {}", each.hint));
  }
}

base::ExitStatus run(const Arguments& arguments) {
  const std::vector<std::string> files = arguments.positionals("EXPERIMENT");
  auto map = load_map(arguments, files.empty() ? std::string{} : files.front());
  if (!map.ok()) return fail(map.error());
  say_warnings(map->warnings);
  base::Json checked = base::Json::array();
  checked.push_back({{"file", map->path}, {"kind", "map"}, {"ok", true}});
  std::string lines = fmt::format(
      "{}: {}, {}, environment {}\n", map->path, base::counted(map->map.services.size(), "service"),
      base::counted(map->map.probes.size(), "probe"), map->map.environment.name);
  base::ExitStatus status = base::ExitStatus::kHeld;
  for (const std::string& file : files) {
    std::error_code ignored;
    // `squall check *.yaml` names the map as well.
    if (std::filesystem::equivalent(file, map->path, ignored)) continue;
    auto experiment = engine::load_experiment(file, map->map);
    checked.push_back({{"file", file}, {"kind", "experiment"}, {"ok", experiment.ok()}});
    if (!experiment.ok()) {
      status = fail(experiment.error());
      continue;
    }
    say_warnings(experiment->warnings);
    lines += fmt::format("{}: {}, {}\n", file,
                         base::counted(experiment->experiment.hypothesis.size(), "prediction"),
                         base::counted(experiment->experiment.faults.size(), "fault"));
  }
  if (arguments.flag("--json")) {
    print_json(checked);
  } else {
    print(lines);
  }
  return status;
}

constexpr std::array kPositionals = {
    Positional{"EXPERIMENT", "Experiment files; none: only the system map", false, true}};
constexpr std::array kOptions = {kMapOption, kEnvironmentOption, kJsonOption};
constexpr std::array<std::string_view, 2> kExamples = {"squall check",
                                                       "squall check --env staging *.yaml"};

}  // namespace

const Command kCheckCommand{
    .name = "check",
    .group = "Design",
    .summary = "Read the map and experiments; report every mistake at once",
    .details = "Touches nothing but the files. Exit status 2 when any file has a mistake.",
    .positionals = kPositionals,
    .options = kOptions,
    .examples = kExamples,
    .run = run,
};

}  // namespace squall::cli
