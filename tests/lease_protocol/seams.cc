// What the product asks of Linux, answered by the simulated machine. The linker takes these instead
// of the files of the same functions: base/{clock,fd,process,log}.cc, inject/{poll_loop,
// packet_socket,programs}.cc and inject/faults/kinds.cc.

#include <unistd.h>

#include <algorithm>
#include <csignal>

#include "base/clock.h"
#include "base/fd.h"
#include "base/files.h"
#include "base/log.h"
#include "base/process.h"
#include "fake_faults.h"
#include "inject/caller.h"
#include "inject/faults/kinds.h"
#include "inject/packet_socket.h"
#include "inject/poll_loop.h"
#include "inject/programs.h"
#include "protocol.h"
#include "simulation.h"

namespace squall {

namespace {

using lease_protocol::Machine;
using lease_protocol::Object;
using lease_protocol::ObjectRef;
using lease_protocol::Process;

Machine* machine() {
  return Machine::current();
}

bool dying() {
  return machine() == nullptr || machine()->self().dying;
}

base::Error gone(const char* what) {
  return base::Error{.code = base::ErrorCode::kUnavailable, .message = what};
}

base::Error no_such_process() {
  return base::Error{.code = base::ErrorCode::kNotFound, .message = "no such process"};
}

base::UniqueFd add(ObjectRef object) {
  return base::UniqueFd{machine()->add(std::move(object))};
}

ObjectRef make(Object::Kind kind) {
  auto object = std::make_shared<Object>();
  object->kind = kind;
  return object;
}

base::UniqueFd pidfd_of(Process& process) {
  ObjectRef object = make(Object::Kind::kProcess);
  object->process = &process;
  return add(std::move(object));
}

base::ProcessIdentity identity_of(const Process& process) {
  return {.pid = process.number, .start_time = static_cast<std::uint64_t>(process.number)};
}

}  // namespace

namespace base {

// ---- base/clock.h ----
BootClock::time_point BootClock::now() {
  return time_point{duration{machine() == nullptr ? 0 : machine()->boot()}};
}
MonotonicClock::time_point MonotonicClock::now() {
  return time_point{duration{machine() == nullptr ? 0 : machine()->monotonic()}};
}
WallTime RealClock::wall_now() const {
  return WallTime{Duration{0}};
}
const Clock& real_clock() {
  static const RealClock clock;
  return clock;
}
std::string format_wall_time(WallTime) {
  return "now";
}

// ---- base/log.h ----
void set_log_level(LogLevel) {}
void set_log_format(LogFormat) {}
void log(LogLevel, std::string_view, LogFields) {}
std::string redacted(std::string_view text) {
  return std::string(text);
}

// ---- base/fd.h ----
void UniqueFd::reset(int fd) {
  if (fd_ >= 0) {
    if (!Machine::is_ours(fd_))
      ::close(fd_);
    else if (machine() != nullptr)
      machine()->close(fd_);
  }
  fd_ = fd;
}

Result<ProcessIdentity> identify_process(pid_t pid) {
  if (pid == ::getpid()) return identity_of(machine()->self());
  Process* process = machine()->find(pid);
  if (process == nullptr || process->ended) return no_such_process();
  return identity_of(*process);
}
Result<PidFd> PidFd::open(const ProcessIdentity& identity) {
  SQUALL_ASSIGN(PidFd found, open(identity.pid));
  if (found.identity_ == identity) return found;
  return no_such_process();
}
Result<PidFd> PidFd::open(pid_t pid) {
  Process* process = machine()->find(pid);
  if (process == nullptr || process->ended) return no_such_process();
  return PidFd{pidfd_of(*process), identity_of(*process)};
}
Status PidFd::signal(int number) const {
  if (dying()) return no_such_process();
  Process* process = machine()->find(identity_.pid);
  if (process == nullptr || process->ended) return no_such_process();
  machine()->step("signal");
  if (dying()) return no_such_process();
  if (number == SIGKILL) machine()->kill(*process);
  return {};
}
bool PidFd::ended() const {
  const Process* process = machine()->find(identity_.pid);
  return process == nullptr || process->ended;
}

Result<WakeUp> WakeUp::create() {
  return WakeUp{add(make(Object::Kind::kEvent))};
}
void WakeUp::signal() const {
  if (const ObjectRef event = machine()->get(fd_.get())) event->raised = true;
}
void WakeUp::clear() const {
  if (const ObjectRef event = machine()->get(fd_.get())) event->raised = false;
}

// ---- base/process.h ----
Result<int> ChildProcess::wait(Duration limit) {
  if (status_) return *status_;
  const auto end = machine()->monotonic() + limit.count();
  while (!pidfd_.ended()) {
    if (dying() || machine()->monotonic() >= end) return gone("it still runs");
    machine()->wait({{pidfd_.get(), false}}, end);
  }
  status_ = machine()->find(pid())->status;
  return *status_;
}

Result<ChildProcess> spawn(const SpawnOptions& options) {
  if (dying()) return gone("dying");
  machine()->step("spawn " + options.argv[0]);
  if (dying()) return gone("dying");
  auto descriptors = std::make_shared<std::vector<UniqueFd>>();
  for (const auto& [ours, theirs] : options.pass)
    descriptors->emplace_back(machine()->add(machine()->get(ours)));
  const std::string name = options.argv[0];
  Process& process = machine()->start(
      name, [name, descriptors] { return lease_protocol::main_of(name, *descriptors); });
  ChildProcess child;
  child.pidfd_ = PidFd{pidfd_of(process), identity_of(process)};
  return child;
}

Result<CommandOutput> run_command(SpawnOptions, Duration, std::size_t) {
  return gone("no programs here");
}
Result<std::string> own_executable() {
  return std::string("none");
}

}  // namespace base

namespace inject {

// ---- inject/packet_socket.h ----
base::Result<std::pair<base::UniqueFd, base::UniqueFd>> make_packet_sockets() {
  ObjectRef one = make(Object::Kind::kSocket);
  ObjectRef other = make(Object::Kind::kSocket);
  one->peer = other;
  other->peer = one;
  one->owner = other->owner = machine()->self().number;
  auto first = add(std::move(one));
  return std::pair{std::move(first), add(std::move(other))};
}

base::Status send_packet(int socket, std::span<const std::byte> packet, int descriptor) {
  if (dying() || !Machine::is_ours(socket)) return gone("dying");
  const bool lost = machine()->step("send", true);
  if (dying()) return gone("dying");
  const ObjectRef object = machine()->get(socket);
  const ObjectRef peer = object == nullptr ? nullptr : object->peer.lock();
  if (peer == nullptr) return gone("the peer is gone");
  machine()->self().spoke = true;
  if (lost) return {};
  peer->inbox.push_back({.bytes = {packet.begin(), packet.end()},
                         .descriptor = descriptor < 0 ? nullptr : machine()->get(descriptor)});
  return {};
}

base::Result<std::vector<std::byte>> receive_packet(int socket, base::UniqueFd* descriptor) {
  if (dying()) return gone("dying");
  const ObjectRef object = machine()->get(socket);
  if (object == nullptr) return gone("not open");
  if (object->inbox.empty()) {
    if (object->peer.expired()) return gone("the peer is gone");
    return std::vector<std::byte>{};
  }
  lease_protocol::Packet packet = std::move(object->inbox.front());
  object->inbox.pop_front();
  if (descriptor != nullptr && packet.descriptor != nullptr) *descriptor = add(packet.descriptor);
  return packet.bytes;
}

// ---- inject/caller.h ----
base::Result<Account> peer_account(int) {
  return Account{};
}

base::Result<base::UniqueFd> peer_process(int socket, const base::ProcessIdentity& claimed) {
  const ObjectRef object = machine()->get(socket);
  Process* process = machine()->find(object == nullptr ? claimed.pid : object->owner);
  if (process == nullptr) return gone("nobody");
  return pidfd_of(*process);
}

// ---- inject/poll_loop.h ----
void PollSet::watch(int fd, short events) {
  if (fd >= 0) requests_.push_back({.fd = fd, .events = events, .revents = 0});
}
void PollSet::wait(int milliseconds) {
  ready_.clear();
  std::vector<std::pair<int, bool>> descriptors;
  for (const pollfd& request : requests_)
    descriptors.emplace_back(request.fd, (request.events & POLLOUT) != 0);
  machine()->wait(descriptors, milliseconds < 0 ? lease_protocol::kNever
                                                : machine()->monotonic() +
                                                      milliseconds * lease_protocol::kMillisecond);
  for (const auto& [fd, writable] : descriptors) {
    if (writable || machine()->readable(fd)) ready_.push_back(fd);
  }
  std::sort(ready_.begin(), ready_.end());
}
bool PollSet::is_ready(int fd) const {
  return fd >= 0 && std::binary_search(ready_.begin(), ready_.end(), fd);
}

base::Result<ReadySet> ReadySet::create() {
  return ReadySet{add(make(Object::Kind::kReadySet))};
}
base::Status ReadySet::watch(int descriptor) const {
  const ObjectRef set = machine()->get(epoll_.get());
  const ObjectRef object = machine()->get(descriptor);
  if (set == nullptr || object == nullptr) return gone("not open");
  set->watched.emplace_back(descriptor, object);
  return {};
}
bool ReadySet::wait(base::Duration limit) const {
  if (limit <= base::Duration::zero() || dying()) return false;
  machine()->wait({{epoll_.get(), false}}, machine()->monotonic() + limit.count());
  return machine()->readable(epoll_.get());
}

base::Result<base::UniqueFd> open_termination_signals() {
  return add(make(Object::Kind::kSignals));
}
base::Result<base::UniqueFd> open_timer(int clock) {
  ObjectRef timer = make(Object::Kind::kTimer);
  timer->boot_clock = clock == CLOCK_BOOTTIME;
  return add(std::move(timer));
}
void set_timer(const base::UniqueFd& timer, std::int64_t at) {
  if (const ObjectRef object = machine()->get(timer.get())) object->rings = at;
}

// ---- inject/programs.h ----
namespace {
class NoPrograms final : public Programs {
 public:
  std::uint64_t start(const ProgramRequest&) override { return 1; }
  ProgramOutcome outcome(std::uint64_t) override {
    ProgramOutcome outcome;
    outcome.error = gone("no programs here");
    return outcome;
  }
  int fd() const override { return -1; }
  base::ProcessIdentity process() const override { return {}; }
  void end(std::uint64_t) override {}
  void tell(std::uint64_t, const std::string&) override {}
};
}  // namespace
base::Result<std::unique_ptr<Programs>> fork_starter() {
  return std::unique_ptr<Programs>{std::make_unique<NoPrograms>()};
}

// ---- inject/faults/kinds.h ----
std::span<const FaultKind* const> all_kinds() {
  return lease_protocol::fake_kinds();
}
const FaultKind* find_kind(std::string_view name) {
  for (const FaultKind* kind : all_kinds()) {
    if (kind->descriptor->name == name) return kind;
  }
  return nullptr;
}
std::span<const model::FaultKindDescriptor* const> fault_kinds() {
  return {};
}

}  // namespace inject
}  // namespace squall
