#pragma once
// The common part of every probe that asks one question at fixed times.

#include <atomic>
#include <string>

#include "base/fd.h"
#include "observe/probe.h"
#include "observe/sample_sink.h"

namespace squall::observe {

// The first multiple of `every` after `first` that is later than `now`: ticks that were missed are
// skipped, never made up for in a burst. `first` itself when it is not yet reached.
base::Instant next_tick(base::Instant first, base::Duration every, base::Instant now);

// Waits until `deadline`; true when `stop` was requested before.
bool wait_until(base::Instant deadline, std::stop_token stop, const base::WakeUp& wake_up);

class TickingProbe : public Probe {
 public:
  void run(base::Instant first_tick, std::stop_token stop) final;
  std::optional<base::Instant> busy_since() const final;
  base::Duration patience() const override { return limit_ + std::chrono::seconds(1); }
  void abandon() final { sink_.close(); }

 protected:
  // `limit` is how long one question may take.
  TickingProbe(std::string name, ProbeContext context, base::Duration every, base::Duration limit);
  // Asks and records. `intended` is the tick's place in the schedule.
  virtual void tick(base::Instant intended) = 0;

  const std::string& name() const { return name_; }
  const ProbeContext& context() const { return context_; }
  base::Instant now() const { return context_.clock.now(); }
  base::Duration limit() const { return limit_; }
  SampleSink& sink() { return sink_; }
  base::Result<evidence::SeriesId> declare_gauge(std::string_view field,
                                                 std::string_view unit = "");
  base::Result<evidence::SeriesId> declare_counter(std::string_view field);
  void add(evidence::SeriesId series, double value) {
    sink_.add(series, evidence::GaugeSample{.at = now(), .value = value});
  }
  // Writes a note into the record, but the same one only once in a row.
  void note(const std::string& text);

 private:
  std::string name_;
  ProbeContext context_;
  base::Duration every_;
  base::Duration limit_;
  SampleSink sink_;
  std::string last_note_;
  std::atomic<std::int64_t> busy_since_{0};  // boot time in nanoseconds; 0 while waiting
};

}  // namespace squall::observe
