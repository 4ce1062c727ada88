#include "observe/ticking_probe.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>

#include "base/log.h"
#include "observe/address.h"
#include "observe/transport.h"

namespace squall::observe {

base::Instant next_tick(base::Instant first, base::Duration every, base::Instant now) {
  if (now < first) return first;
  return first + ((now - first) / every + 1) * every;
}

bool wait_until(base::Instant deadline, std::stop_token stop, const base::WakeUp& wake_up) {
  const std::stop_callback wake(stop, [&wake_up] { wake_up.signal(); });
  while (!stop.stop_requested()) {
    const base::Duration left = deadline - base::BootClock::now();
    if (left <= base::Duration::zero()) return false;
    const timespec timeout{.tv_sec = static_cast<time_t>(left.count() / 1'000'000'000),
                           .tv_nsec = static_cast<long>(left.count() % 1'000'000'000)};
    pollfd entry{.fd = wake_up.fd(), .events = POLLIN, .revents = 0};
    ppoll(&entry, 1, &timeout, nullptr);
  }
  return true;
}

TickingProbe::TickingProbe(std::string name, ProbeContext context, base::Duration every,
                           base::Duration limit)
    : name_(std::move(name)),
      context_(std::move(context)),
      every_(every),
      limit_(limit),
      sink_(context_.recorder) {}

void TickingProbe::run(base::Instant first_tick, std::stop_token stop) {
  block_broken_pipe_signal();
  auto wake_up = base::WakeUp::create();
  if (!wake_up.ok()) {
    note("this probe cannot run: " + wake_up.error().to_string());
    return;
  }
  const WaitInterruption interruption(*wake_up);
  // A question that is open when the run ends is dropped: whatever would be recorded of it now is
  // not an answer of the target.
  const std::stop_callback end(stop, [this, &wake_up] {
    sink_.close();
    wake_up->signal();
  });
  base::Instant tick_at = first_tick;
  while (!wait_until(tick_at, stop, *wake_up)) {
    const base::Instant begun = base::BootClock::now();
    busy_since_.store(base::to_nanoseconds(begun), std::memory_order_relaxed);
    tick(tick_at);
    busy_since_.store(0, std::memory_order_relaxed);
    tick_at = next_tick(first_tick, every_, std::max(tick_at, base::BootClock::now()));
  }
}

std::optional<base::Instant> TickingProbe::busy_since() const {
  const std::int64_t since = busy_since_.load(std::memory_order_relaxed);
  if (since == 0) return std::nullopt;
  return base::instant_from_nanoseconds(since);
}

base::Result<evidence::SeriesId> TickingProbe::declare_gauge(std::string_view field,
                                                             std::string_view unit) {
  return sink_.declare({.name = name_ + "." + std::string(field),
                        .kind = evidence::SeriesKind::kGauge,
                        .unit = std::string(unit),
                        .source = name_});
}

base::Result<evidence::SeriesId> TickingProbe::declare_counter(std::string_view field) {
  return sink_.declare({.name = name_ + "." + std::string(field),
                        .kind = evidence::SeriesKind::kCounter,
                        .unit = "",
                        .source = name_});
}

void TickingProbe::note(const std::string& text) {
  if (text == last_note_) return;
  last_note_ = text;
  sink_.add(
      evidence::Event{.at = now(), .type = "note", .subject = name_, .text = text, .details = {}});
}

}  // namespace squall::observe
