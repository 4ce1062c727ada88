#include "cli/commands/table.h"
#include "inject/client.h"

namespace squall::cli {

namespace {

base::ExitStatus run(const Arguments& /*arguments*/) {
  return static_cast<base::ExitStatus>(inject::holder_main());
}

}  // namespace

// The process that installs and holds the faults of a run. Started by the keeper.
const Command kHolderCommand =
    internal_command("holder", "Hold the faults of a run (started by its keeper)", run);

}  // namespace squall::cli
