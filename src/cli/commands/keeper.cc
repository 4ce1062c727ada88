#include "inject/keeper.h"
#include "cli/commands/table.h"

namespace squall::cli {

namespace {

base::ExitStatus run(const Arguments& /*arguments*/) {
  return static_cast<base::ExitStatus>(inject::keeper_main());
}

}  // namespace

// The process that starts a run's holder and watches it. Started by the engine.
const Command kKeeperCommand =
    internal_command("keeper", "Watch the holder of a run (started by `squall run`)", run);

}  // namespace squall::cli
