// Uses up inodes: makes files without a name and keeps each by a mapping, not by a descriptor, of
// which a process may have few. The kernel frees the files when this process ends.

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/capability.h>
#include <poll.h>
#include <seccomp.h>
#include <sys/mman.h>

#include <array>
#include <cerrno>

#include "base/clock.h"
#include "base/fd.h"
#include "base/files.h"
#include "inject/json_fields.h"
#include "inject/workers/confinement.h"
#include "inject/workers/workers.h"

namespace squall::inject {

namespace {

using base::Instant;
using base::Json;

constexpr std::uint64_t kAtOnce = 64;  // before the next look at the clock and the channel
constexpr int kLookMilliseconds = 250;

class Inodes {
 public:
  Inodes(base::UniqueFd folder, std::uint64_t count, WorkerChannel& channel)
      : folder_(std::move(folder)), count_(count), channel_(channel) {}

  // Until the starter is gone.
  base::Status serve() {
    report("ready");
    bool taking = false;
    bool over = false;
    while (true) {
      const auto heard = channel_.hear();
      if (!heard.ok()) return {};
      taking = taking || *heard == "take";
      for (std::uint64_t i = 0; taking && !over && i < kAtOnce; ++i) {
        if (taken_ == count_) {
          over = true;
          report("taken");
          break;
        }
        SQUALL_ASSIGN(over, take());
        if (over) report("taken");
      }
      if (base::BootClock::now() >= next_report_) report(state_);
      if (!taking || over) wait();
    }
  }

 private:
  // True when the filesystem has no more.
  base::Result<bool> take() {
    state_ = "taking";
    const base::UniqueFd file{::openat(folder_.get(), ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)};
    if (!file) {
      const int error = errno;
      if (error == ENOSPC || error == EDQUOT) return true;
      if (error == EINTR) return false;
      return base::system_error("make a file without a name", error);
    }
    // The mapping keeps the file when the descriptor is closed; nobody touches it.
    if (::mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE, file.get(), 0) == MAP_FAILED)
      return base::system_error("map a file without a name", errno);
    ++taken_;
    return false;
  }

  void wait() const {
    pollfd request{.fd = channel_.fd(), .events = POLLIN, .revents = 0};
    ::poll(&request, 1, kLookMilliseconds);
  }

  void report(const char* state) {
    state_ = state;
    next_report_ = base::BootClock::now() + kReportEvery;
    channel_.report({{"state", state}, {"number", ++reports_}, {"taken", taken_}});
  }

  base::UniqueFd folder_;
  std::uint64_t count_;
  WorkerChannel& channel_;
  std::uint64_t taken_ = 0;
  const char* state_ = "ready";
  Instant next_report_;
  std::uint64_t reports_ = 0;
};

// {"path": of a folder, "count": of files}
base::Status run_inodes(const Json& configuration, WorkerChannel& channel) {
  const std::string path = text_field(configuration, "path");
  const std::uint64_t count = unsigned_field(configuration, "count");
  if (!path.starts_with('/') || count == 0) {
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = "the configuration names no folder and number of files"};
  }
  SQUALL_ASSIGN(base::UniqueFd folder, base::open_without_links(path, O_PATH | O_DIRECTORY));
  constexpr std::array<int, 1> kCapabilities{CAP_DAC_OVERRIDE};  // the folder is somebody's
  SQUALL_TRY(confine({.capabilities = kCapabilities, .system_calls = {}, .unnamed_files = true}));
  return Inodes{std::move(folder), count, channel}.serve();
}

}  // namespace

extern const Worker kInodes;
const Worker kInodes{.name = "inodes", .run = run_inodes};

}  // namespace squall::inject
