// What the starter starts: a worker that loads a processor, and a program.

#include <fmt/format.h>
#include <unistd.h>

#include <poll.h>
#include <algorithm>

#include "base/text.h"
#include "base/units.h"
#include "host/containers.h"
#include "host/host.h"
#include "inject/json_fields.h"
#include "inject/mechanisms/mechanism_trial.h"
#include "inject/mechanisms/run_time.h"

namespace squall::inject {

namespace {

using base::Json;

constexpr double kAsked = 0.3;
constexpr base::Duration kLimit = std::chrono::seconds(5);

}  // namespace

base::Result<TrialResult> try_processor_load(Programs& programs) {
  SQUALL_ASSIGN(const LoadWorker worker, LoadWorker::start(programs, kAsked));
  return TrialResult{.detail = "loaded a processor for half a second",
                     .precision = fmt::format("{:.0f} % of a processor asked: {:.1f} %",
                                              100 * kAsked, 100 * worker.measure_share())};
}

base::Result<TrialResult> try_command(Programs& programs) {
  const base::Instant start = base::BootClock::now();
  const std::uint64_t id = programs.start({.purpose = ProgramRequest::Purpose::kCommand,
                                           .argv = {"true"},
                                           .directory = "/",
                                           .limit = kLimit,
                                           .account = {}});
  while (true) {
    const ProgramOutcome outcome = programs.outcome(id);
    if (outcome.error) return *outcome.error;
    if (outcome.exit_status) break;
    if (base::BootClock::now() - start > kLimit)
      return base::Error{.code = base::ErrorCode::kTimeout, .message = "`true` does not end"};
    pollfd request{.fd = programs.fd(), .events = POLLIN, .revents = 0};
    ::poll(&request, 1, 100);
  }
  return TrialResult{
      .detail = fmt::format("ran `true` in {}", base::humanize(base::BootClock::now() - start)),
      .precision = {}};
}

base::Result<TrialResult> try_container_engine(Programs& /*programs*/) {
  const auto sockets = host::default_engine_sockets();
  if (std::none_of(sockets.begin(), sockets.end(),
                   [](const auto& path) { return ::access(path.c_str(), F_OK) == 0; })) {
    return base::Error{.code = base::ErrorCode::kUnsupported,
                       .message = "no engine listens at " + base::join(sockets, " or "),
                       .hint = "start Docker, or `podman system service --time=0`"};
  }
  SQUALL_ASSIGN(const auto containers, host::real_host().containers());
  return TrialResult{
      .detail = fmt::format("it answers and has {}", base::counted(containers.size(), "container")),
      .precision = {}};
}

}  // namespace squall::inject
