// Holds memory that was really touched, and watches what the host has left: when that runs out, it
// gives all of its own back at once.

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string_view>

#include "base/clock.h"
#include "base/fd.h"
#include "base/files.h"
#include "inject/json_fields.h"
#include "inject/workers/confinement.h"
#include "inject/workers/workers.h"

namespace squall::inject {

namespace {

using base::Duration;
using base::Instant;
using base::Json;

constexpr std::uint64_t kPiece = 4 * 1024 * 1024;
constexpr int kLookMilliseconds = 50;
constexpr std::array<int, 1> kSystemCalls{SCMP_SYS(pread64)};

class Memory {
 public:
  Memory(std::uint64_t bytes, std::uint64_t reserve, WorkerChannel& channel)
      : bytes_(bytes), reserve_(reserve), channel_(channel) {}

  // While this process may still do what it wants: the address space, and the file that says what
  // the host has left. Nothing is touched yet.
  base::Status prepare() {
    information_.reset(::open("/proc/meminfo", O_RDONLY | O_CLOEXEC));
    if (!information_) return base::system_error("open /proc/meminfo", errno);
    void* start = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED) return base::system_error("reserve address space", errno);
    start_ = static_cast<volatile char*>(start);
    // Kept out of swap where that is permitted.
    locked_ = ::mlock2(start, bytes_, MLOCK_ONFAULT) == 0;
    // When memory runs out all the same, the kernel shall take this process and no other.
    const base::UniqueFd score{::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC)};
    if (!score) return base::system_error("open /proc/self/oom_score_adj", errno);
    return base::write_all(score.get(), "1000");
  }

  // Until the starter is gone.
  void serve() {
    report("ready");
    while (true) {
      const auto heard = channel_.hear();
      if (!heard.ok()) return;
      if (*heard == "fill") filling_ = true;
      step();
      if (base::BootClock::now() >= next_report_) report(state_);
      if (!filling_ || filled_ == bytes_ || start_ == nullptr) wait();
    }
  }

 private:
  void step() {
    if (!filling_ || start_ == nullptr) return;
    const bool full = filled_ == bytes_;
    const std::uint64_t piece = std::min(kPiece, bytes_ - filled_);
    // A fault that has its memory endures others who take half of the reserve.
    if (available() < (full ? reserve_ / 2 : reserve_ + piece)) return give_back();
    if (full) return;
    state_ = "filling";
    for (std::uint64_t i = 0; i < piece; i += 4096) start_[filled_ + i] = static_cast<char>(i | 1);
    filled_ += piece;
    if (filled_ == bytes_) report("full");
  }

  void give_back() {
    ::munmap(const_cast<char*>(start_), bytes_);
    start_ = nullptr;
    report("short");
  }

  // 0 when the kernel does not say.
  std::uint64_t available() const {
    std::array<char, 512> text{};
    const ssize_t got = ::pread(information_.get(), text.data(), text.size() - 1, 0);
    if (got <= 0) return 0;
    constexpr std::string_view kKey = "MemAvailable:";
    const std::size_t at = std::string_view(text.data()).find(kKey);
    if (at == std::string_view::npos) return 0;
    return std::strtoull(text.data() + at + kKey.size(), nullptr, 10) * 1024;
  }

  void wait() const {
    pollfd request{.fd = channel_.fd(), .events = POLLIN, .revents = 0};
    ::poll(&request, 1, kLookMilliseconds);
  }

  void report(const char* state) {
    state_ = state;
    next_report_ = base::BootClock::now() + kReportEvery;
    channel_.report({{"state", state},
                     {"number", ++reports_},
                     {"filled", filled_},
                     {"available", available()},
                     {"locked", locked_}});
  }

  std::uint64_t bytes_;
  std::uint64_t reserve_;
  WorkerChannel& channel_;
  base::UniqueFd information_;
  volatile char* start_ = nullptr;
  bool locked_ = false;
  bool filling_ = false;
  std::uint64_t filled_ = 0;
  const char* state_ = "ready";
  Instant next_report_;
  std::uint64_t reports_ = 0;
};

// {"bytes": to hold, "reserve": of the host's memory that must stay available}
base::Status run_memory_fill(const Json& configuration, WorkerChannel& channel) {
  const std::uint64_t bytes = unsigned_field(configuration, "bytes");
  if (bytes == 0 || bytes > (std::uint64_t{1} << 46)) {
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = "the configuration names no memory to hold"};
  }
  Memory memory{bytes, unsigned_field(configuration, "reserve"), channel};
  SQUALL_TRY(memory.prepare());
  SQUALL_TRY(confine({.capabilities = {}, .system_calls = kSystemCalls}));
  memory.serve();
  return {};
}

}  // namespace

extern const Worker kMemoryFill;
const Worker kMemoryFill{.name = "memory_fill", .run = run_memory_fill};

}  // namespace squall::inject
