// Keeps a disk busy: reads and writes blocks of a file of its own that has no name, past the page
// cache, many at a time.

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/aio_abi.h>
#include <poll.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/files.h"
#include "base/random.h"
#include "inject/json_fields.h"
#include "inject/workers/confinement.h"
#include "inject/workers/workers.h"

namespace squall::inject {

namespace {

using base::Duration;
using base::Instant;
using base::Json;

constexpr Duration kPeriod = std::chrono::milliseconds(100);
constexpr Duration kAnswerWait = std::chrono::milliseconds(50);
constexpr std::uint64_t kMostDepth = 128;
constexpr std::uint64_t kMostBlock = 4 * 1024 * 1024;

struct Work {
  std::string path;
  std::uint64_t bytes = 0;  // size of the file; a whole number of blocks
  std::uint64_t block = 0;
  std::uint64_t depth = 0;
  std::uint64_t limit = 0;  // of all bytes; 0: none
  double share = 1;
  bool reads = false;
  bool writes = false;
};

class DiskLoad {
 public:
  DiskLoad(Work work, WorkerChannel& channel) : work_(std::move(work)), channel_(channel) {}

  // While this process may still open files.
  base::Status prepare() {
    SQUALL_ASSIGN(const base::UniqueFd folder,
                  base::open_without_links(work_.path, O_PATH | O_DIRECTORY));
    file_.reset(::openat(folder.get(), ".", O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600));
    if (!file_) {
      base::Error error = base::system_error("make a file without a name in " + work_.path, errno);
      error.code = base::ErrorCode::kUnsupported;
      error.hint = "its filesystem must have unnamed files and direct I/O (ext4, xfs)";
      return error;
    }
    // Where that is not known, writing sets the space aside.
    if (::fallocate(file_.get(), 0, 0, static_cast<off_t>(work_.bytes)) != 0 && errno != EOPNOTSUPP)
      return base::system_error("set space aside in " + work_.path, errno);
    if (::syscall(SYS_io_setup, work_.depth, &context_) != 0)
      return base::system_error("set up asynchronous I/O", errno);
    void* memory = ::mmap(nullptr, work_.depth * work_.block, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return base::system_error("get memory for blocks", errno);
    memory_ = static_cast<std::byte*>(memory);
    // Not zeros, which some disks store as nothing.
    for (std::uint64_t i = 0; i < work_.depth * work_.block; i += sizeof(std::uint64_t)) {
      const std::uint64_t value = random_.next();
      __builtin_memcpy(memory_ + i, &value, sizeof value);
    }
    requests_.resize(work_.depth);
    for (std::uint64_t i = 0; i < work_.depth; ++i) idle_.push_back(i);
    return {};
  }

  // Until the starter is gone.
  base::Status serve() {
    report("ready");
    Instant period_end = base::BootClock::now();
    bool working = false;
    while (true) {
      const auto heard = channel_.hear();
      if (!heard.ok()) return {};
      working = working || *heard == "work";
      const Instant now = base::BootClock::now();
      if (now >= next_report_) report(working ? state() : "ready");
      if (!working) {
        wait_until(now + kPeriod);
        continue;
      }
      if (now >= period_end) {
        period_end = now + kPeriod;
        busy_until_ = now + Duration{std::llround(work_.share * kPeriod.count())};
      }
      // What must be written first, so that reads reach the disk, is written without a pause.
      const bool active = !prepared() || (now < busy_until_ && !exhausted());
      if (active) SQUALL_TRY(submit());
      if (idle_.size() < work_.depth) {
        SQUALL_TRY(take_answers());
      } else if (!active) {
        wait_until(exhausted() ? now + kPeriod : period_end);
      }
    }
  }

 private:
  bool prepared() const { return written_first_ >= work_.bytes; }
  bool exhausted() const { return work_.limit > 0 && read_ + written_ >= work_.limit; }
  const char* state() const {
    return !prepared() ? "preparing" : exhausted() ? "exhausted" : "running";
  }

  base::Status submit() {
    std::array<iocb*, kMostDepth> list{};
    std::size_t count = 0;
    while (!idle_.empty() && (prepared() || next_first_ < work_.bytes)) {
      const std::uint64_t slot = idle_.back();
      idle_.pop_back();
      const bool first = !prepared();
      const bool write = first || (work_.writes && (!work_.reads || random_.below(2) == 0));
      iocb& request = requests_[slot];
      request = {};
      request.aio_data = slot;
      request.aio_lio_opcode = write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD;
      request.aio_fildes = static_cast<std::uint32_t>(file_.get());
      request.aio_buf = reinterpret_cast<std::uint64_t>(memory_ + slot * work_.block);
      request.aio_nbytes = work_.block;
      request.aio_offset = static_cast<std::int64_t>(
          first ? next_first_ : random_.below(work_.bytes / work_.block) * work_.block);
      if (first) next_first_ += work_.block;
      list[count++] = &request;
    }
    for (std::size_t sent = 0; sent < count;) {
      const long done = ::syscall(SYS_io_submit, context_, count - sent, list.data() + sent);
      if (done < 0 && errno != EAGAIN && errno != EINTR)
        return base::system_error("ask the disk", errno);
      if (done > 0) sent += static_cast<std::size_t>(done);
    }
    return {};
  }

  base::Status take_answers() {
    std::array<io_event, kMostDepth> events{};
    timespec timeout{.tv_sec = 0, .tv_nsec = kAnswerWait.count()};
    const long got = ::syscall(SYS_io_getevents, context_, 1, work_.depth, events.data(), &timeout);
    if (got < 0 && errno != EINTR) return base::system_error("hear from the disk", errno);
    for (long i = 0; i < got; ++i) {
      const io_event& event = events[static_cast<std::size_t>(i)];
      const auto slot = static_cast<std::size_t>(event.data);
      if (event.res < 0) {
        base::Error error =
            base::system_error("read or write in " + work_.path, static_cast<int>(-event.res));
        return error;
      }
      const bool write = requests_[slot].aio_lio_opcode == IOCB_CMD_PWRITE;
      (write ? written_ : read_) += static_cast<std::uint64_t>(event.res);
      if (write && !prepared()) written_first_ += work_.block;
      ++operations_;
      idle_.push_back(slot);
    }
    return {};
  }

  void wait_until(Instant end) const {
    const Duration left = std::min(end - base::BootClock::now(), kPeriod);
    if (left <= Duration::zero()) return;
    const timespec timeout{.tv_sec = 0, .tv_nsec = std::min<long>(left.count(), 999'999'999)};
    pollfd request{.fd = channel_.fd(), .events = POLLIN, .revents = 0};
    ::ppoll(&request, 1, &timeout, nullptr);
  }

  void report(const char* state) {
    next_report_ = base::BootClock::now() + kReportEvery;
    channel_.report({{"state", state},
                     {"number", ++reports_},
                     {"read", read_},
                     {"written", written_},
                     {"operations", operations_}});
  }

  Work work_;
  WorkerChannel& channel_;
  base::UniqueFd file_;
  aio_context_t context_ = 0;
  std::byte* memory_ = nullptr;
  base::Random random_{1};  // which block is touched does not matter
  std::vector<iocb> requests_;
  std::vector<std::uint64_t> idle_;
  std::uint64_t next_first_ = 0;
  std::uint64_t written_first_ = 0;
  std::uint64_t read_ = 0;
  std::uint64_t written_ = 0;
  std::uint64_t operations_ = 0;
  Instant busy_until_;
  Instant next_report_;
  std::uint64_t reports_ = 0;
};

// {"path": of a folder, "bytes", "block", "depth", "limit", "share", "reads", "writes"}
base::Status run_disk_load(const Json& configuration, WorkerChannel& channel) {
  Work work{.path = text_field(configuration, "path"),
            .bytes = unsigned_field(configuration, "bytes"),
            .block = unsigned_field(configuration, "block"),
            .depth = unsigned_field(configuration, "depth"),
            .limit = unsigned_field(configuration, "limit"),
            .reads = boolean_field(configuration, "reads"),
            .writes = boolean_field(configuration, "writes")};
  const Json& share = field(configuration, "share");
  work.share = share.is_number() ? share.get<double>() : 0;
  if (!work.path.starts_with('/') || work.block < 4096 || work.block > kMostBlock ||
      work.block % 4096 != 0 || work.bytes < work.block || work.bytes % work.block != 0 ||
      work.depth < 1 || work.depth > kMostDepth || !(work.share > 0 && work.share <= 1) ||
      (!work.reads && !work.writes)) {
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = "the disk load's configuration makes no sense"};
  }
  DiskLoad load{std::move(work), channel};
  // An ordinary neighbour of ordinary programs, whatever the holder's own priority is.
  const sched_param ordinary{};
  ::sched_setscheduler(0, SCHED_OTHER, &ordinary);
  ::setpriority(PRIO_PROCESS, 0, 0);
  SQUALL_TRY(load.prepare());
  constexpr std::array<int, 2> kSystemCalls{SCMP_SYS(io_submit), SCMP_SYS(io_getevents)};
  SQUALL_TRY(confine({.capabilities = {}, .system_calls = kSystemCalls}));
  return load.serve();
}

}  // namespace

extern const Worker kDiskLoad;
const Worker kDiskLoad{.name = "disk_load", .run = run_disk_load};

}  // namespace squall::inject
