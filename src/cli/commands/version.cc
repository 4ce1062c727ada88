#include <fmt/format.h>

#include <array>
#include <nlohmann/json.hpp>

#include "base/version.h"
#include "cli/commands/table.h"
#include "cli/console.h"
#include "cli/context.h"
#include "evidence/record.h"

namespace squall::cli {

namespace {

base::ExitStatus run(const Arguments& arguments) {
  if (arguments.flag("--json")) {
    print_json({{"squall", std::string(base::kVersion)}, {"record", evidence::kRecordVersion}});
  } else {
    print_line(
        fmt::format("squall {} (record format {})", base::kVersion, evidence::kRecordVersion));
  }
  return base::ExitStatus::kHeld;
}

constexpr std::array kOptions = {kJsonOption};

}  // namespace

const Command kVersionCommand{
    .name = "version",
    .group = "About",
    .summary = "The version of this program",
    .details = {},
    .positionals = {},
    .options = kOptions,
    .examples = {},
    .run = run,
};

}  // namespace squall::cli
