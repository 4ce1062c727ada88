#include "inject/warden.h"
#include "cli/commands/table.h"

namespace squall::cli {

namespace {

base::ExitStatus run(const Arguments& /*arguments*/) {
  return static_cast<base::ExitStatus>(inject::warden_main({}));
}

}  // namespace

const Command kWardenCommand{
    .name = "warden",
    .group = "Run",
    .summary = "Serve the runs of this host, and undo what a crash or a power cut left",
    .details =
        "A service for systemd (squall-warden.service). Without it every run starts a keeper of "
        "its "
        "own, which does the same except after a power cut, and when keeper and engine and holder "
        "are killed together: then `squall cleanup` is left. SIGTERM reverts every run first.",
    .positionals = {},
    .options = {},
    .examples = {},
    .run = run,
};

}  // namespace squall::cli
