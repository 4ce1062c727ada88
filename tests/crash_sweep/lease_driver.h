#pragma once
// The engine of a sweep, a process of its own so that it can be killed: arms one fault, waits until
// it is effective or a moment, has it reverted, and ends when that is verified.

#include <string>
#include <vector>

namespace squall::crash_sweep {

// 0: verified. Everything else: it ended otherwise.
int drive_lease(const std::string& run, const std::string& folder, const std::string& binding_file,
                std::vector<std::string> keeper_argv);

}  // namespace squall::crash_sweep
