#pragma once
// Draws a run on standard error: on a terminal a block that is redrawn in place (phase, countdown,
// one row a prediction with a sparkline), elsewhere one plain line an event.

#include <memory>

#include "engine/progress.h"

namespace squall::cli {

enum class DisplayStyle { kQuiet, kPlain, kTerminal };

std::unique_ptr<engine::Progress> make_progress_display(DisplayStyle style);

}  // namespace squall::cli
