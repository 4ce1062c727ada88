#include "inject/mechanisms/run_time.h"

#include <fmt/format.h>
#include <poll.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/files.h"
#include "base/json.h"

namespace squall::inject {

namespace {

constexpr base::Duration kStartLimit = std::chrono::seconds(2);
constexpr base::Duration kMeasured = std::chrono::milliseconds(500);

void wait(const Programs& programs, base::Duration time) {
  pollfd request{.fd = programs.fd(), .events = POLLIN, .revents = 0};
  ::poll(&request, 1, static_cast<int>(time / std::chrono::milliseconds(1)));
}

// What the kernel let it run.
base::Duration run_time(const base::ProcessIdentity& process) {
  const auto text = base::read_file(fmt::format("/proc/{}/schedstat", process.pid), 256);
  return base::Duration{text.ok() ? std::strtoll(text->c_str(), nullptr, 10) : 0LL};
}

}  // namespace

base::Result<LoadWorker> LoadWorker::start(Programs& programs, double share) {
  const base::Json configuration = {{"share", share}};
  LoadWorker worker{programs, programs.start({.purpose = ProgramRequest::Purpose::kWorker,
                                              .argv = {"cpu_load", configuration.dump()},
                                              .directory = {},
                                              .limit = {},
                                              .account = {}})};
  const base::Instant deadline = base::BootClock::now() + kStartLimit;
  while (base::BootClock::now() < deadline) {
    const ProgramOutcome outcome = programs.outcome(worker.id_);
    if (outcome.error) return *outcome.error;
    if (outcome.started && !outcome.report.empty()) {
      worker.process_ = *outcome.started;
      return worker;
    }
    wait(programs, std::chrono::milliseconds(100));
  }
  return base::Error{.code = base::ErrorCode::kTimeout, .message = "a worker does not start"};
}

LoadWorker::LoadWorker(LoadWorker&& other) noexcept
    : programs_(std::exchange(other.programs_, nullptr)),
      id_(other.id_),
      process_(other.process_) {}

LoadWorker::~LoadWorker() {
  if (programs_ != nullptr) programs_->end(id_);
}

double LoadWorker::measure_share() const {
  const base::Duration before = run_time(process_);
  const base::Instant start = base::BootClock::now();
  base::Instant now = start;
  while (now - start < kMeasured) {
    (void)programs_->outcome(id_);  // takes its reports, which would wake us at once again
    wait(*programs_, kMeasured - (now - start));
    now = base::BootClock::now();
  }
  return base::to_seconds(run_time(process_) - before) / base::to_seconds(now - start);
}

}  // namespace squall::inject
