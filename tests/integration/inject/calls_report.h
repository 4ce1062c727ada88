#pragma once
// What calls_for_tests has seen of its own system calls: one page of a file that it and the test
// have mapped, so that telling it is no system call.

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>

namespace squall::inject {

enum CallOfTests : std::size_t { kOpen, kRead, kWrite, kSync, kCallsOfTests };

struct CallsReport {
  struct Call {
    std::atomic<std::uint64_t> made;
    std::atomic<std::uint64_t> failed;
    std::atomic<std::int64_t> error;    // of the last one; 0: it succeeded
    std::atomic<std::int64_t> took_ns;  // the last one
  };
  std::array<Call, kCallsOfTests> calls;
  // checks: what it wrote was there (or it was told EIO, and it was not there), its signals came,
  // its children ended as they should.
  std::atomic<std::uint64_t> turns;
  std::atomic<std::uint64_t> refused;  // writes that got EIO
  std::atomic<std::uint64_t> wrong;    // everything else; `wrong_at` says where, the last time
  std::atomic<std::int64_t> wrong_at;
  std::atomic<std::int64_t> wrong_value;
  std::atomic<std::uint64_t> interrupted;  // sleeps: epoll_wait with EINTR

  static CallsReport* open(const char* path) {
    const int file = ::open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (file < 0 || ::ftruncate(file, sizeof(CallsReport)) != 0) return nullptr;
    void* memory =
        ::mmap(nullptr, sizeof(CallsReport), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    ::close(file);
    return memory == MAP_FAILED ? nullptr : static_cast<CallsReport*>(memory);
  }
};

}  // namespace squall::inject
