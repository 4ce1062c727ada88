#include <fmt/format.h>
#include <pwd.h>
#include <unistd.h>

#include <array>

#include "cli/commands/table.h"
#include "cli/console.h"
#include "cli/context.h"
#include "inject/client.h"

namespace squall::cli {

namespace {

std::string user_name() {
  const passwd* entry = getpwuid(getuid());
  return entry == nullptr ? fmt::format("uid {}", getuid()) : std::string(entry->pw_name);
}

base::ExitStatus run(const Arguments& arguments) {
  const bool all = arguments.flag("--all");
  const std::string run = arguments.positional("RUN");
  if (!all && run.empty()) {
    return fail(base::Error{.code = base::ErrorCode::kUsage,
                            .message = "name the run to stop, or --all",
                            .hint = "`squall status` lists what is active",
                            .context = {}});
  }
  const std::string who = user_name();
  const std::string why = arguments.option_or("--reason", "stopped by hand");
  auto stopped = all ? inject::stop_everything(who, why) : inject::stop(run, who, why);
  if (!stopped.ok()) return fail(stopped.error());
  print_line(*stopped == 0 ? std::string("nothing was active")
                           : fmt::format("{} fault{} reverted and verified", *stopped,
                                         *stopped == 1 ? "" : "s"));
  if (all) print_line("new experiments are refused until `squall release`");
  return base::ExitStatus::kHeld;
}

constexpr std::array kPositionals = {Positional{"RUN", "Run id, or a part of it", false}};
constexpr std::array kOptions = {
    Option{"--all", {}, "End every fault on this host and refuse new ones"},
    Option{"--reason", "TEXT", "Why; recorded and shown to the others"}};
constexpr std::array<std::string_view, 2> kExamples = {
    "squall stop 3f2a", "squall stop --all --reason 'incident 4711'"};

}  // namespace

const Command kStopCommand{
    .name = "stop",
    .group = "Run",
    .summary = "Revert faults now: those of one run, or all on this host",
    .details =
        "Anybody may. Works when the engine is dead or hangs. Returns when the reverts are "
        "verified. After --all new faults are refused until `squall release`.",
    .positionals = kPositionals,
    .options = kOptions,
    .examples = kExamples,
    .run = run,
};

}  // namespace squall::cli
