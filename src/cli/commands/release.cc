#include "cli/commands/table.h"
#include "cli/console.h"
#include "inject/client.h"

namespace squall::cli {

namespace {

base::ExitStatus run(const Arguments& /*arguments*/) {
  const auto engaged = inject::kill_switch();
  if (engaged.ok() && !engaged->engaged) {
    print_line("the kill switch was off already");
    return base::ExitStatus::kHeld;
  }
  if (const auto released = inject::release_kill_switch(); !released.ok())
    return fail(released.error());
  print_line("the kill switch is off; experiments may run again");
  return base::ExitStatus::kHeld;
}

}  // namespace

const Command kReleaseCommand{
    .name = "release",
    .group = "Run",
    .summary = "Allow new faults again after `squall stop --all`",
    .details =
        "For root and, through the warden, its group. `squall status` says who stopped "
        "everything, when and why.",
    .positionals = {},
    .options = {},
    .examples = {},
    .run = run,
};

}  // namespace squall::cli
