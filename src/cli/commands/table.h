#pragma once
// One constant a command, defined in the file of its name; ../commands.cc lists them.

#include "cli/command.h"

namespace squall::cli {

extern const Command kInitCommand;
extern const Command kDoctorCommand;
extern const Command kCheckCommand;
extern const Command kKindsCommand;
extern const Command kPlanCommand;
extern const Command kRunCommand;
extern const Command kStatusCommand;
extern const Command kStopCommand;
extern const Command kReleaseCommand;
extern const Command kCleanupCommand;
extern const Command kListCommand;
extern const Command kShowCommand;
extern const Command kReportCommand;
extern const Command kExplainCommand;
extern const Command kDiffCommand;
extern const Command kReindexCommand;
extern const Command kExportCommand;
extern const Command kImportCommand;
extern const Command kCompletionCommand;
extern const Command kVersionCommand;
extern const Command kHolderCommand;
extern const Command kKeeperCommand;
extern const Command kWardenCommand;

}  // namespace squall::cli
