#include <fmt/format.h>

#include <array>
#include <filesystem>

#include "cli/commands/table.h"
#include "cli/console.h"
#include "cli/context.h"
#include "evidence/record.h"

namespace squall::cli {

namespace {

base::ExitStatus run(const Arguments& arguments) {
  const std::string file = arguments.positional("FILE");
  auto archived = engine::open_archived(file);
  if (!archived.ok()) return fail(archived.error());
  auto workspace = open_workspace(arguments);
  if (!workspace.ok()) return fail(workspace.error());
  if (const auto created = workspace->create(); !created.ok()) return fail(created.error());
  const std::string run = (*archived)->record.header().run.text();
  const std::string target = workspace->record_path(run);
  std::error_code ignored;
  if (!std::filesystem::exists(target, ignored)) {
    if (const auto copied = evidence::copy_record(file, target); !copied.ok()) {
      return fail(copied.error());
    }
  }
  if (const auto indexed = engine::index_run(*workspace, target); !indexed.ok()) {
    return fail(indexed.error());
  }
  for (const std::string& damage : (*archived)->record.damage()) {
    say(fmt::format("damaged: {}", damage));
  }
  print_line(run);
  return base::ExitStatus::kHeld;
}

constexpr std::array kPositionals = {Positional{"FILE", "A file made by `squall export`"}};
constexpr std::array kOptions = {kMapOption};

}  // namespace

const Command kImportCommand{
    .name = "import",
    .group = "Learn",
    .summary = "Take in a run that was exported elsewhere",
    .details = "Importing the same run twice is harmless.",
    .positionals = kPositionals,
    .options = kOptions,
    .examples = {},
    .run = run,
};

}  // namespace squall::cli
