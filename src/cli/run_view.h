#pragma once
// From an archived run to what reports are made of, and how this terminal wants them.

#include "engine/archive.h"
#include "report/report.h"

namespace squall::cli {

// Points into `run`, which must outlive it.
report::RunView view_of(const engine::ArchivedRun& run);

// Colour, width and character set of standard output.
report::TerminalOptions terminal_options();

}  // namespace squall::cli
