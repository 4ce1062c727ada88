#pragma once
// Time. Everything that is measured or has a deadline runs on CLOCK_BOOTTIME, which counts through
// suspend and which nobody can set back. Wall-clock time labels records for people and is never
// used to compare or to wait.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>

namespace squall::base {

using Duration = std::chrono::nanoseconds;

struct BootClock {
  using duration = Duration;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<BootClock, duration>;
  static constexpr bool is_steady = true;
  static time_point now();
};

// Stands still while the machine is suspended: for how long somebody else had to answer.
struct MonotonicClock {
  using duration = Duration;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<MonotonicClock, duration>;
  static constexpr bool is_steady = true;
  static time_point now();
};

using Instant = BootClock::time_point;
using WallTime = std::chrono::sys_time<Duration>;

inline std::int64_t to_nanoseconds(Instant instant) {
  return instant.time_since_epoch().count();
}
inline Instant instant_from_nanoseconds(std::int64_t value) {
  return Instant{Duration{value}};
}
inline double to_seconds(Duration duration) {
  return std::chrono::duration<double>(duration).count();
}

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual Instant now() const = 0;
  virtual WallTime wall_now() const = 0;
};

// The machine's clocks.
class RealClock final : public Clock {
 public:
  Instant now() const override { return BootClock::now(); }
  WallTime wall_now() const override;
};
const Clock& real_clock();

// A clock for tests: moves only when told; the wall clock can be set back on its own.
class VirtualClock final : public Clock {
 public:
  Instant now() const override { return instant_from_nanoseconds(now_); }
  WallTime wall_now() const override { return WallTime{Duration{wall_}}; }
  void advance(Duration by) {
    now_ += by.count();
    wall_ += by.count();
  }
  void set_wall(WallTime wall) { wall_ = wall.time_since_epoch().count(); }

 private:
  std::atomic<std::int64_t> now_{Duration{std::chrono::hours(1)}.count()};
  std::atomic<std::int64_t> wall_{Duration{std::chrono::hours(24 * 365 * 50)}.count()};
};

// "2026-11-21T09:51:05.123Z"
std::string format_wall_time(WallTime time);

}  // namespace squall::base
