#pragma once
// The system calls of one process as its tracer recorded them, and how each of them may fail.

#include <string>
#include <string_view>
#include <vector>

namespace squall::crash_sweep {

// The `number`-th call of this name, from 1.
struct Call {
  std::string name;
  int number = 0;
  bool creates = false;  // openat with O_CREAT
  bool operator==(const Call&) const = default;
  std::string text() const;  // "pwrite64#3"
};

// In the order in which they were made.
std::vector<Call> recorded_calls(const std::string& trace_file);

// What a power cut could take from the revert journal in that life: a lease or a note that is not
// synced by the very next call, a journal that was named and whose folder is not synced. Killing
// cannot show that: what was written survives the writer.
std::vector<std::string> unsynced_notes(const std::string& trace_file);

// Of EINTR, ENOMEM, EIO, ENOSPC, EPERM and EBUSY those with which this call can fail on Linux when
// its arguments are right; empty for calls that cannot fail then (getpid, close, munmap).
std::vector<std::string_view> possible_errors(const Call& call);

}  // namespace squall::crash_sweep
