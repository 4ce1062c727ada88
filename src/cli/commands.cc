#include <array>

#include "cli/commands/table.h"

namespace squall::cli {

std::span<const Command* const> commands() {
  static constexpr std::array<const Command*, 23> kAll = {
      &kInitCommand,    &kDoctorCommand, &kCheckCommand,  &kKindsCommand,   &kPlanCommand,
      &kRunCommand,     &kStatusCommand, &kStopCommand,   &kReleaseCommand, &kCleanupCommand,
      &kListCommand,    &kShowCommand,   &kReportCommand, &kExplainCommand, &kDiffCommand,
      &kReindexCommand, &kExportCommand, &kImportCommand, &kVersionCommand, &kCompletionCommand,
      &kHolderCommand,  &kKeeperCommand, &kWardenCommand,
  };
  return kAll;
}

}  // namespace squall::cli
