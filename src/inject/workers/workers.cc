#include "inject/workers/workers.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>

#include "inject/json_fields.h"
#include "inject/wire.h"

namespace squall::inject {

// Each is defined in workers/<name>/<name>.cc.
extern const Worker kCpuLoad;
extern const Worker kDiskLoad;
extern const Worker kDnsAnswers;
extern const Worker kFileGate;
extern const Worker kFileReader;
extern const Worker kInodes;
extern const Worker kMemoryFill;
extern const Worker kPacketScheduler;
extern const Worker kStopper;
extern const Worker kTracer;

namespace {

using base::Json;

constexpr std::array kWorkers{&kCpuLoad, &kDiskLoad,   &kDnsAnswers,      &kFileGate, &kFileReader,
                              &kInodes,  &kMemoryFill, &kPacketScheduler, &kStopper,  &kTracer};

// Above the standard streams; everything from here on is closed.
constexpr int kChannelDescriptor = 3;

}  // namespace

base::Instant last_moment(base::Duration asked) {
  constexpr base::Duration kGrace = std::chrono::seconds(1);
  constexpr base::Duration kUnknown = std::chrono::minutes(1);
  constexpr base::Duration kLongest = std::chrono::hours(25);
  const base::Duration life = asked > base::Duration::zero() ? std::min(asked, kLongest) : kUnknown;
  return base::BootClock::now() + life + kGrace;
}

void WorkerChannel::report(const Json& json) {
  const std::string text = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  const auto sent = send_packet(socket_, std::as_bytes(std::span{text.data(), text.size()}));
  if (!sent.ok()) return;
}

void WorkerChannel::report(const base::Error& error) {
  report(Json{{"state", "failed"},
              {"error", error.to_string()},
              {"reason", base::to_string(error.code)},
              {"hint", error.hint}});
}

base::Result<std::string> WorkerChannel::hear() {
  SQUALL_ASSIGN(const auto packet, receive_packet(socket_));
  return std::string(reinterpret_cast<const char*>(packet.data()), packet.size());
}

const Worker* find_worker(std::string_view name) {
  for (const Worker* worker : kWorkers) {
    if (worker->name == name) return worker;
  }
  return nullptr;
}

void worker_main(const Worker& worker, const std::string& configuration, int socket,
                 pid_t starter) {
  if (socket != kChannelDescriptor) ::dup3(socket, kChannelDescriptor, O_CLOEXEC);
  ::syscall(SYS_close_range, kChannelDescriptor + 1u, ~0u, 0u);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != starter) ::_exit(1);  // it ended before we had asked to die with it
  ::prctl(PR_SET_NAME, fmt::format("squall-{}", worker.name).substr(0, 15).c_str());
  ::prctl(PR_SET_DUMPABLE, 0);
  WorkerChannel channel{kChannelDescriptor};
  const auto json = base::parse_json(configuration, kPacketLimit);
  const base::Status done = json.ok() ? worker.run(*json, channel) : base::Status{json.error()};
  if (!done.ok()) channel.report(done.error());
  ::_exit(done.ok() ? 0 : 1);
}

}  // namespace squall::inject
