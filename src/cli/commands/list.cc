#include <fmt/chrono.h>
#include <fmt/format.h>

#include <array>
#include <charconv>
#include <chrono>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/units.h"
#include "cli/commands/table.h"
#include "cli/console.h"
#include "cli/context.h"

namespace squall::cli {

namespace {

base::Json as_json(const store::RunRow& row) {
  return {{"run", row.run},
          {"experiment", row.experiment},
          {"system", row.system},
          {"environment", row.environment},
          {"started", base::format_wall_time(base::WallTime{base::Duration{row.started_ns}})},
          {"duration_seconds", static_cast<double>(row.duration_ns) / 1e9},
          {"outcome", row.outcome},
          {"verdict", row.verdict},
          {"exit_status", row.exit_status},
          {"plan", row.plan_hash}};
}

Colour colour_of(const store::RunRow& row) {
  if (row.exit_status == 0) return Colour::kGreen;
  return row.exit_status == 5 || row.exit_status == 3 ? Colour::kYellow : Colour::kRed;
}

base::ExitStatus run(const Arguments& arguments) {
  store::RunFilter filter;
  filter.experiment = arguments.option_or("--experiment", "");
  const std::string limit = arguments.option_or("--limit", "20");
  const auto [end, error] =
      std::from_chars(limit.data(), limit.data() + limit.size(), filter.limit);
  if (error != std::errc{} || end != limit.data() + limit.size() || filter.limit < 0) {
    return fail(base::Error{.code = base::ErrorCode::kUsage,
                            .message = fmt::format("--limit takes a whole number, not `{}`", limit),
                            .hint = "--limit 0 lists all",
                            .context = {}});
  }
  auto workspace = open_workspace(arguments);
  if (!workspace.ok()) return fail(workspace.error());
  auto store = workspace->open_store();
  if (!store.ok()) return fail(store.error());
  auto rows = store->list(filter);
  if (!rows.ok()) return fail(rows.error());
  if (arguments.flag("--json")) {
    base::Json list = base::Json::array();
    for (const store::RunRow& row : *rows) list.push_back(as_json(row));
    print_json(list);
    return base::ExitStatus::kHeld;
  }
  if (rows->empty()) print_line("no runs yet; start one: squall run EXPERIMENT.yaml");
  for (const store::RunRow& row : *rows) {
    const std::string verdict = row.outcome == "completed" ? row.verdict : row.outcome;
    print_line(fmt::format(
        "{}  {}  {}  {:<28} {:>8}  {}", row.run.substr(row.run.size() - 8),
        base::format_wall_time(base::WallTime{base::Duration{row.started_ns}}).substr(0, 19),
        paint(fmt::format("{:<12}", verdict), colour_of(row), colour_on_output()), row.experiment,
        base::humanize(base::Duration{row.duration_ns}), row.environment));
  }
  return base::ExitStatus::kHeld;
}

constexpr std::array kOptions = {
    kMapOption, kJsonOption, Option{"--experiment", "NAME", "Only runs of this experiment"},
    Option{"--limit", "COUNT", "At most so many, newest first (default 20; 0: all)"}};

}  // namespace

const Command kListCommand{
    .name = "list",
    .group = "Learn",
    .summary = "The runs of this system, newest first",
    .details = {},
    .positionals = {},
    .options = kOptions,
    .examples = {},
    .run = run,
};

}  // namespace squall::cli
