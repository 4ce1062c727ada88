#include <fmt/format.h>

#include <array>

#include "base/text.h"
#include "cli/commands/table.h"
#include "cli/console.h"
#include "cli/context.h"

namespace squall::cli {

namespace {

base::ExitStatus run(const Arguments& arguments) {
  auto workspace = open_workspace(arguments);
  if (!workspace.ok()) return fail(workspace.error());
  std::vector<std::string> failures;
  auto count = engine::reindex(*workspace, failures);
  if (!count.ok()) return fail(count.error());
  for (const std::string& failure : failures) say(fmt::format("skipped: {}", failure));
  print_line(base::counted(static_cast<std::size_t>(*count), "run") + " indexed");
  return failures.empty() ? base::ExitStatus::kHeld : base::ExitStatus::kToolError;
}

constexpr std::array kOptions = {kMapOption};

}  // namespace

const Command kReindexCommand{
    .name = "reindex",
    .group = "Learn",
    .summary = "Make the index of runs anew from their records",
    .details = "The records in .squall/runs are the truth; the index is only for finding them.",
    .positionals = {},
    .options = kOptions,
    .examples = {},
    .run = run,
};

}  // namespace squall::cli
