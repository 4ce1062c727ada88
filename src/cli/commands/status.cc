#include <fmt/format.h>

#include <array>
#include <nlohmann/json.hpp>

#include "base/units.h"
#include "cli/commands/table.h"
#include "cli/console.h"
#include "cli/context.h"
#include "inject/client.h"

namespace squall::cli {

namespace {

base::Json as_json(const inject::ActiveLease& lease) {
  return {{"lease", lease.lease.text()},
          {"run", lease.run},
          {"experiment", lease.experiment},
          {"fault", lease.fault},
          {"kind", lease.kind},
          {"reason", lease.reason},
          {"targets", lease.targets},
          {"owner", lease.owner},
          {"state", std::string(inject::to_string(lease.state))},
          {"ends_in_seconds", base::to_seconds(lease.ends - base::BootClock::now())},
          {"holder_pid", lease.holder.pid},
          {"holder_alive", lease.holder_alive}};
}

std::string as_text(const inject::ActiveLease& lease) {
  const base::Duration left = lease.ends - base::BootClock::now();
  std::string text =
      fmt::format("{} ({}), {}\n", lease.fault, lease.kind, inject::to_string(lease.state));
  text += fmt::format("  what   {}\n", fmt::join(lease.targets, ", "));
  text +=
      fmt::format("  who    {}, experiment {}, run {}\n", lease.owner, lease.experiment, lease.run);
  text += fmt::format("  why    {}\n", lease.reason);
  if (!lease.holder_alive) {
    text += "  ends   its holder is dead: end it now with `squall cleanup`\n";
  } else {
    text +=
        fmt::format("  ends   {}\n", left > base::Duration::zero()
                                         ? fmt::format("in {} at the latest", base::humanize(left))
                                         : std::string("now"));
    text += fmt::format("  stop   squall stop {}\n", lease.run);
  }
  return text;
}

base::ExitStatus run(const Arguments& arguments) {
  auto leases = inject::active_leases();
  if (!leases.ok()) return fail(leases.error());
  auto engaged = inject::kill_switch();
  if (!engaged.ok()) return fail(engaged.error());
  if (arguments.flag("--json")) {
    base::Json json = {{"leases", base::Json::array()}, {"kill_switch", engaged->engaged}};
    for (const auto& lease : *leases) json["leases"].push_back(as_json(lease));
    if (engaged->engaged) {
      json["kill_switch_by"] = engaged->who;
      json["kill_switch_reason"] = engaged->why;
    }
    print_json(json);
    return base::ExitStatus::kHeld;
  }
  if (leases->empty()) print_line("clean: no fault is active on this host");
  for (const auto& lease : *leases) print(as_text(lease));
  if (engaged->engaged) {
    print_line(
        fmt::format("kill switch: engaged by {} since {}: {}\n  release it with `squall release`",
                    engaged->who, engaged->since, engaged->why));
  }
  return base::ExitStatus::kHeld;
}

constexpr std::array kOptions = {kJsonOption};

}  // namespace

const Command kStatusCommand{
    .name = "status",
    .group = "Run",
    .summary = "Every fault that is active on this host: what, who, why, until when",
    .details = "Needs no running engine.",
    .positionals = {},
    .options = kOptions,
    .examples = {},
    .run = run,
};

}  // namespace squall::cli
