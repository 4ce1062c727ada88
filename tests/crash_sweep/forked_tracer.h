#pragma once
// Disturbs the processes that a holder forks and does not execute: its starter, and what that forks
// (workers, and programs until they are executed). strace counts the calls of each process it
// follows, the holder's too, and would disturb all of them; this one knows whose are meant.

namespace squall::crash_sweep {

// Can it make their calls fail? Killing works everywhere.
#ifdef __x86_64__
inline constexpr bool kForkedCallsCanFail = true;
#else
inline constexpr bool kForkedCallsCanFail = false;
#endif

// `trace starter|worker FILE NAME|- NUMBER ERROR|- SELF holder FOLDER`: forks a tracer of this
// process and becomes the holder. The tracer writes each call into FILE as strace would, and kills
// the caller at the NUMBER-th of NAME, or has it fail. What the starter forks counts as one
// sequence. Ends with them.
int exec_traced(int argc, char** argv);

}  // namespace squall::crash_sweep
