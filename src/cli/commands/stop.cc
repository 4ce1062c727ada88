#include <fmt/format.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "base/text.h"
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

// Is a fault left whose holder is dead?
bool has_orphans() {
  const auto leases = inject::active_leases();
  return leases.ok() && std::any_of(leases->begin(), leases->end(),
                                    [](const auto& lease) { return !lease.holder_alive; });
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
  if (all) print_line("new experiments are refused until `squall release`");
  // Faults whose holder is dead are nobody's to stop; their journals say how they are undone.
  std::vector<std::string> undone;
  if (all && has_orphans()) {
    auto lines = inject::cleanup();
    if (!lines.ok()) return fail(lines.error());
    undone = std::move(*lines);
  }
  for (const std::string& line : undone) print_line(line);
  if (*stopped > 0) {
    print_line(base::counted(static_cast<std::size_t>(*stopped), "fault") +
               " reverted and verified");
  } else if (undone.empty()) {
    print_line("nothing was active");
  }
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
