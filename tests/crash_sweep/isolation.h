#pragma once
// Process numbers of its own for a sweep: a namespace whose first process ends with it, however it
// ends, and takes every process in it along. Nothing of a sweep outlives it, and who looks through
// all processes finds a dozen.

#include <sys/types.h>

#include <functional>

namespace squall::crash_sweep {

// Forks a process that runs `body` and ends with its exit status, and with this process.
// `isolated`: in a namespace of process numbers and mounts of its own, with an init that buries
// orphans. -1 and errno when it cannot.
pid_t fork_sweep(bool isolated, const std::function<int()>& body);

}  // namespace squall::crash_sweep
