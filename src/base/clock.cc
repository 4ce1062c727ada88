#include "base/clock.h"

#include <fmt/format.h>

#include <ctime>

#include "base/check.h"

namespace squall::base {

namespace {

std::int64_t read_clock(clockid_t clock) {
  timespec time{};
  SQUALL_CHECK(clock_gettime(clock, &time) == 0);
  return static_cast<std::int64_t>(time.tv_sec) * 1'000'000'000 + time.tv_nsec;
}

}  // namespace

BootClock::time_point BootClock::now() {
  return time_point{duration{read_clock(CLOCK_BOOTTIME)}};
}

MonotonicClock::time_point MonotonicClock::now() {
  return time_point{duration{read_clock(CLOCK_MONOTONIC)}};
}

WallTime RealClock::wall_now() const {
  return WallTime{Duration{read_clock(CLOCK_REALTIME)}};
}

const Clock& real_clock() {
  static const RealClock clock;
  return clock;
}

std::string format_wall_time(WallTime time) {
  using namespace std::chrono;
  const auto day = floor<days>(time);
  const year_month_day date{day};
  const hh_mm_ss clock{floor<milliseconds>(time - day)};
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", static_cast<int>(date.year()),
                     static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                     clock.hours().count(), clock.minutes().count(), clock.seconds().count(),
                     clock.subseconds().count());
}

}  // namespace squall::base
