#include <fmt/format.h>

#include <array>

#include "cli/commands/table.h"
#include "cli/console.h"
#include "cli/context.h"
#include "evidence/record.h"

namespace squall::cli {

namespace {

base::ExitStatus run(const Arguments& arguments) {
  auto archived = open_run(arguments, arguments.positional("RUN"));
  if (!archived.ok()) return fail(archived.error());
  const engine::ArchivedRun& run = **archived;
  const std::string name = run.record.header().run.text();
  const std::string target = arguments.option_or(
      "--output", fmt::format("{}-{}.record", run.experiment.name, name.substr(name.size() - 8)));
  if (const auto copied = evidence::copy_record(run.record_path, target); !copied.ok()) {
    return fail(copied.error());
  }
  print_line(target);
  return base::ExitStatus::kHeld;
}

constexpr std::array kPositionals = {Positional{"RUN", "Run id, part of it, or `last`"}};
constexpr std::array kOptions = {kMapOption, Option{"--output", "FILE", "Where to write it"}};
constexpr std::array<std::string_view, 2> kExamples = {
    "squall export last", "squall export 3f2a --output worker-dies.record"};

}  // namespace

const Command kExportCommand{
    .name = "export",
    .group = "Learn",
    .summary = "Write one run as one file, to be read elsewhere",
    .details =
        "The file carries the system map and the experiment as they were. Look through it "
        "before you give it away: log lines and answers are in it.",
    .positionals = kPositionals,
    .options = kOptions,
    .examples = kExamples,
    .run = run,
};

}  // namespace squall::cli
