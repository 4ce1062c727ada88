#pragma once
// Records the system calls of engine, keeper, holder, starter or workers, and disturbs one of them.
// The tracer is forked in the process before it becomes what it is, and is nobody's child.

#include <string>
#include <vector>

namespace squall::crash_sweep {

// Can it make calls fail? Killing works everywhere.
#ifdef __x86_64__
inline constexpr bool kCallsCanFail = true;
#else
inline constexpr bool kCallsCanFail = false;
#endif

// What may stand before a role in the arguments of this program:
//   once first|later MARK             what follows counts the first time only, or from the second
//   on trace ROLE FILE|- NAME NUMBER ERROR|-
// ROLE starter: the first process that this one forks. worker: whom the starter forks, until they
// execute a program; their calls count as one sequence. Any other: this process itself, from here
// on.
// The tracer writes each call into FILE, one line each (see calls.cc), and kills the caller at
// entry of the NUMBER-th of NAME, or has it fail with ERROR and do nothing; 0: it only records.
// Then it lets go.
// Takes these words away. False: it cannot be done.
bool take_orders(std::vector<std::string>& words);

}  // namespace squall::crash_sweep
