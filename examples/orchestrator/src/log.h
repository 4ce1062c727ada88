#pragma once
// One line an event on standard error; the supervisor points that at the member's log file.

#include <string_view>

namespace orchestrator {

// The name that every line of this process carries, such as "worker-2".
void set_log_name(std::string_view name);

void log_info(std::string_view message);
void log_warning(std::string_view message);

}  // namespace orchestrator
