#include "inject/keeper.h"
#include "cli/commands/table.h"

namespace squall::cli {

namespace {

base::ExitStatus run(const Arguments& /*arguments*/) {
  return static_cast<base::ExitStatus>(inject::keeper_main());
}

}  // namespace

// Started by the engine, never by people: the process that starts a run's holder and watches it.
const Command kKeeperCommand{
    .name = "keeper",
    .group = "Internal",
    .summary = "Watch the holder of a run (started by `squall run`)",
    .details = {},
    .positionals = {},
    .options = {},
    .examples = {},
    .run = run,
    .hidden = true,
};

}  // namespace squall::cli
