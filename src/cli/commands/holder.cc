#include "cli/commands/table.h"
#include "inject/client.h"

namespace squall::cli {

namespace {

base::ExitStatus run(const Arguments& /*arguments*/) {
  return static_cast<base::ExitStatus>(inject::holder_main());
}

}  // namespace

// Started by the keeper, never by people: the process that installs and holds the faults of a run.
const Command kHolderCommand{
    .name = "holder",
    .group = "Internal",
    .summary = "Hold the faults of a run (started by its keeper)",
    .details = {},
    .positionals = {},
    .options = {},
    .examples = {},
    .run = run,
    .hidden = true,
};

}  // namespace squall::cli
