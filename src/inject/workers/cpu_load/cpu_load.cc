// Uses up a share of one processor, measured on its own processor time, in periods so short that
// neighbours see a steady load.

#include <poll.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "base/clock.h"
#include "inject/json_fields.h"
#include "inject/workers/confinement.h"
#include "inject/workers/workers.h"

namespace squall::inject {

namespace {

using base::Duration;
using base::Instant;
using base::Json;

constexpr Duration kPeriod = std::chrono::milliseconds(10);
// What a busy machine withheld is made up for, but no more than this: longer at one go would be
// another load than a steady one.
constexpr Duration kMostDebt = std::chrono::milliseconds(100);

Duration processor_time() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return std::chrono::seconds(time.tv_sec) + Duration{time.tv_nsec};
}

// Some ten microseconds of arithmetic that the compiler cannot leave out.
void work() {
  volatile std::uint64_t value = 88172645463325252u;
  for (int i = 0; i < 4000; ++i) {
    std::uint64_t next = value;
    next ^= next << 13;
    next ^= next >> 7;
    value = next;
  }
}

class Load {
 public:
  Load(double share, WorkerChannel& channel) : share_(share), channel_(channel) {}

  // Until the starter is gone.
  void serve() {
    report("ready");
    const Duration at_first = processor_time();
    Duration forgiven{};
    Instant period_end = began_;
    while (!gone()) {
      period_end = std::max(period_end + kPeriod, base::BootClock::now());
      // Of all the time so far, not of this period: neither what our own waiting and telling costs
      // nor a period that came late adds up.
      const Duration wanted{
          std::llround(share_ * static_cast<double>((period_end - began_).count()))};
      used_ = processor_time() - at_first;
      forgiven += std::max(Duration::zero(), wanted - forgiven - used_ - kMostDebt);
      while (processor_time() - at_first < wanted - forgiven && base::BootClock::now() < period_end)
        work();
      if (base::BootClock::now() >= next_report_) report("running");
      wait_until(period_end);
    }
  }

 private:
  bool gone() {
    const auto heard = channel_.hear();
    return !heard.ok();
  }

  void wait_until(Instant end) const {
    const Duration left = end - base::BootClock::now();
    if (left <= Duration::zero()) return;
    const timespec timeout{.tv_sec = 0, .tv_nsec = left.count()};
    pollfd request{.fd = channel_.fd(), .events = POLLIN, .revents = 0};
    ::ppoll(&request, 1, &timeout, nullptr);
  }

  void report(const char* state) {
    next_report_ = base::BootClock::now() + kReportEvery;
    channel_.report({{"state", state},
                     {"number", ++reports_},
                     {"used_ns", used_.count()},
                     {"elapsed_ns", (base::BootClock::now() - began_).count()}});
  }

  double share_;
  WorkerChannel& channel_;
  Instant began_ = base::BootClock::now();
  Instant next_report_ = began_;
  Duration used_{};
  std::uint64_t reports_ = 0;
};

// {"share": of one processor}
base::Status run_cpu_load(const Json& configuration, WorkerChannel& channel) {
  const Json& share = field(configuration, "share");
  if (!share.is_number() || share.get<double>() <= 0 || share.get<double>() > 1) {
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = "the processor load's configuration makes no sense"};
  }
  // An ordinary neighbour of ordinary programs, whatever the holder's own priority is.
  const sched_param ordinary{};
  ::sched_setscheduler(0, SCHED_OTHER, &ordinary);
  ::setpriority(PRIO_PROCESS, 0, 0);
  SQUALL_TRY(confine({.capabilities = {}, .system_calls = {}}));
  Load{share.get<double>(), channel}.serve();
  return {};
}

}  // namespace

extern const Worker kCpuLoad;
const Worker kCpuLoad{.name = "cpu_load", .run = run_cpu_load};

}  // namespace squall::inject
