#pragma once
// The watch over the services that a run touches and those that depend on them: what their
// processes use, whether they come and go, and what they write to their logs. Not asked for by any
// prediction; it is what one wants to see afterwards.

#include <atomic>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "evidence/recorder.h"
#include "host/host.h"
#include "model/system_map.h"
#include "observe/log_tail.h"
#include "observe/member_tracker.h"

namespace squall::observe {

inline constexpr base::Duration kWatchInterval = std::chrono::milliseconds(250);
// Members are looked for anew so often, and while one is missing at every sample, but never at a
// cost above one per cent of a processor.
inline constexpr base::Duration kLookInterval = std::chrono::seconds(1);
inline constexpr int kLookCostFactor = 100;
// Of each log file.
inline constexpr int kLogLinesPerSecond = 20;
inline constexpr int kLogLinesPerRun = 2000;

// How many lines of a log are recorded: at most so many a second and a run. The rest is counted.
class LineBudget {
 public:
  // Whether a line at this time may be recorded.
  bool take(base::Instant now);
  std::uint64_t suppressed() const { return suppressed_; }

 private:
  base::Instant second_{};
  int this_second_ = 0;
  int this_run_ = 0;
  std::uint64_t suppressed_ = 0;
};

class ServiceWatch {
 public:
  // `services` point into the system map and are not external. All must outlive the watch.
  ServiceWatch(std::vector<const model::Service*> services, const host::Host& host,
               const base::Clock& clock, evidence::Recorder& recorder);
  ~ServiceWatch();
  base::Status declare();
  // One round at the present time; called every kWatchInterval from one thread.
  void sample();
  // Changes of this service are ours from now on. Any thread.
  void expect_changes(const std::string& service);
  // Says how many log lines were left out. After the last sample().
  void finish();

 private:
  struct Watched;
  void look(base::Instant now);
  void record(Watched& watched, base::Instant now);
  void tell(Watched& watched, base::Instant now);
  void follow_logs(Watched& watched, base::Instant now);

  const host::Host& host_;
  const base::Clock& clock_;
  evidence::Recorder& recorder_;
  std::vector<std::unique_ptr<Watched>> watched_;
  base::Instant next_look_{};
};

}  // namespace squall::observe
