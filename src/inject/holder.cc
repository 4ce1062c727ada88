#include "inject/holder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "base/files.h"
#include "base/log.h"
#include "inject/faults/kinds.h"

namespace squall::inject {

namespace {

constexpr int kControlDescriptor = 3;
constexpr int kEngineDescriptor = 4;
constexpr int kLinkDescriptor = 5;
constexpr int kGreetingLimitMilliseconds = 5000;
constexpr base::Duration kLongestLease = std::chrono::hours(24);
// A revert that keeps failing is left to the journal when the holder ends.
constexpr base::Duration kGiveUpAfter = std::chrono::seconds(10);
constexpr std::size_t kUnsentLimit = 4096;
constexpr std::size_t kStopClientLimit = 16;
constexpr std::size_t kLeaseLimit = 64;  // each has a journal of its own
constexpr int kMostMessages = 32;        // of the engine in one turn: deadlines come in between

base::Result<Hello> receive_greeting(int link) {
  pollfd request{.fd = link, .events = POLLIN, .revents = 0};
  while (::poll(&request, 1, kGreetingLimitMilliseconds) < 0 && errno == EINTR) {
  }
  SQUALL_ASSIGN(const auto packet, receive_packet(link));
  SQUALL_ASSIGN(Message message, decode(packet));
  if (auto* hello = std::get_if<Hello>(&message)) return std::move(*hello);
  return base::Error{.code = base::ErrorCode::kCorrupt, .message = "the keeper did not greet"};
}

}  // namespace

Holder::Holder(base::UniqueFd control, base::UniqueFd engine, base::UniqueFd link, Hello hello,
               std::unique_ptr<Programs> programs)
    : control_(std::move(control)),
      engine_(std::move(engine)),
      link_(std::move(link)),
      hello_(std::move(hello)),
      directory_(hello_.options.state_directory),
      programs_(std::move(programs)),
      last_renewal_(base::BootClock::now()) {}

Holder::~Holder() = default;

base::Status Holder::prepare() {
  SQUALL_ASSIGN(signals_, open_termination_signals());
  SQUALL_ASSIGN(timer_, open_timer(CLOCK_BOOTTIME));
  SQUALL_TRY(directory_.create());
  SQUALL_ASSIGN(self_, base::identify_process(::getpid()));
  if (hello_.mode == Hello::Mode::kReplay) return {};
  SQUALL_TRY(check_run_id(hello_.options.run));
  SQUALL_ASSIGN(gate_, Gate::open(hello_.caller, hello_.policy_file));
  for (const RunFile& run : run_files(directory_)) {
    if (run.run == hello_.options.run && alive(run.holder, run.boot_id)) {
      return base::Error{.code = base::ErrorCode::kConflict,
                         .message = fmt::format("run {} has a holder already, process {}", run.run,
                                                run.holder.pid)};
    }
  }
  SQUALL_TRY(open_stop_socket());
  return write_run_file(directory_, {.path = {},
                                     .socket = {},
                                     .run = hello_.options.run,
                                     .experiment = hello_.options.experiment,
                                     .owner = hello_.owner,
                                     .boot_id = boot_id(),
                                     .holder = self_,
                                     .engine = hello_.engine});
}

base::Status Holder::open_stop_socket() {
  stop_socket_.reset(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!stop_socket_) return base::system_error("create the stop socket", errno);
  const base::UniqueFd folder{
      ::open(directory_.runs().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  // Through /proc/self/fd the path always fits into sun_path, however long the folder's is.
  const std::string path =
      fmt::format("/proc/self/fd/{}/{}.sock", folder.get(), hello_.options.run);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (!folder || path.size() >= sizeof address.sun_path)
    return base::system_error("open " + directory_.runs(), folder ? ENAMETOOLONG : errno);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  ::unlink(path.c_str());
  if (::bind(stop_socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      // Stopping is allowed to anyone: connecting needs the permission to write.
      ::chmod(path.c_str(), 0666) != 0 || ::listen(stop_socket_.get(), 8) != 0)
    return base::system_error("open the stop socket in " + directory_.runs(), errno);
  return {};
}

int Holder::run() {
  if (auto prepared = prepare(); !prepared.ok()) {
    base::Error error = std::move(prepared).error();
    say(RehearsedMessage{.id = 0, .text = {}, .error = error});
    flush();
    return 1;
  }
  tell_keeper(LinkWord::kAlive);  // from here on silence counts
  say_ready();
  std::vector<std::string> left;
  if (hello_.mode == Hello::Mode::kReplay) replay();
  tell_keeper(LinkWord::kAlive);
  while (!finished()) {
    handle(wait_for_events());
    if (!can_undo()) return kHolderHelpless;
  }
  drop_finished_leases();
  for (const auto& lease : leases_) {
    if (!lease->over()) left.push_back(describe_lease(lease->record(), lease->trouble()));
  }
  for (std::string& line : set_aside(std::move(damaged_))) left.push_back(std::move(line));
  left.insert(left.end(), left_.begin(), left_.end());
  const auto last = encode(Finished{.leases = ended_leases_, .left = left});
  if (last.ok()) {
    for (const auto& client : stop_clients_) {
      if (auto sent = send_packet(client.get(), *last); !sent.ok()) continue;
    }
    unsent_.push_back(*last);
  }
  flush();
  const std::string stem = base::join_path(directory_.runs(), hello_.options.run);
  ::unlink((stem + ".sock").c_str());
  ::unlink((stem + ".json").c_str());
  return left.empty() ? 0 : 8;
}

// What undoes a fault may have to be started. A replay has a starter of its own; without a keeper
// there is none.
bool Holder::can_undo() const {
  const bool undoes = std::any_of(leases_.begin(), leases_.end(), [](const auto& lease) {
    return lease->reverting() && !lease->over();
  });
  if (!undoes || !link_ || !programs_->lost()) return true;
  base::log_error("the process that starts programs is gone: a replay undoes the faults",
                  {{"run", hello_.options.run}});
  return false;
}

bool Holder::finished() const {
  if (!ending_) return false;
  const base::Instant now = base::BootClock::now();
  return std::all_of(leases_.begin(), leases_.end(), [&](const auto& lease) {
    const bool hopeless =
        !lease->trouble().empty() && now - lease->reverting_since() > kGiveUpAfter;
    return lease->over() || hopeless;
  });
}

PollSet Holder::wait_for_events() {
  PollSet events;
  events.watch(control_.get(), unsent_.empty() ? POLLIN : POLLIN | POLLOUT);
  events.watch(engine_.get());
  events.watch(link_.get());
  events.watch(signals_.get());
  events.watch(timer_.get());
  events.watch(stop_socket_.get());
  for (const auto& client : stop_clients_) events.watch(client.get());
  base::Instant due = base::Instant::max();
  for (const auto& lease : leases_) {
    due = std::min(due, lease->due());
    if (!lease->reverting()) due = std::min(due, last_renewal_ + hello_.options.renewal_limit);
    for (const int fd : lease->descriptors()) events.watch(fd);
  }
  set_timer(timer_, base::to_nanoseconds(due));
  events.wait();
  return events;
}

void Holder::handle(const PollSet& events) {
  // First what asks for a revert.
  if (events.is_ready(engine_.get())) {
    engine_.reset();
    end("engine gone");
  }
  if (events.is_ready(link_.get())) take_link();
  if (events.is_ready(control_.get())) {
    flush();
    take_control();
  }
  if (events.is_ready(signals_.get())) take_signal();
  for (std::size_t i = stop_clients_.size(); i-- > 0;) {
    if (events.is_ready(stop_clients_[i].get())) take_stop_request(static_cast<int>(i));
  }
  if (events.is_ready(stop_socket_.get())) take_stop_client();
  check_heartbeat();
  for (const auto& lease : leases_) lease->advance(events.ready());
  drop_finished_leases();
}

void Holder::take_control() {
  for (int i = 0; control_ && i < kMostMessages; ++i) {
    auto packet = receive_packet(control_.get());
    if (packet.ok() && packet->empty()) return;
    auto message = packet.ok() ? decode(*packet) : base::Result<Message>{packet.error()};
    if (!message.ok()) {
      const bool gone = message.error().code == base::ErrorCode::kUnavailable;
      if (!gone) base::log_error("the engine sent garbage", {{"error", message.error().message}});
      control_.reset();
      return end(gone ? "engine gone" : "engine sent garbage");
    }
    last_renewal_ = base::BootClock::now();
    take_message(std::move(*message));
  }
}

// The keeper asks whether we live. Without it nobody would undo what we leave: we end.
void Holder::take_link() {
  while (link_) {
    const auto word = receive_word(link_.get());
    if (!word.ok()) {
      link_.reset();
      return end("keeper gone");
    }
    if (!*word) return;
    tell_keeper(LinkWord::kAlive);
  }
}

void Holder::tell_keeper(LinkWord word) {
  if (!link_) return;
  // That it is gone shows when the link is read.
  if (const auto told = send_word(link_.get(), word); !told.ok()) return;
}

void Holder::take_message(Message message) {
  if (auto* arm_message = std::get_if<ArmMessage>(&message)) return arm(std::move(*arm_message));
  if (const auto* request = std::get_if<RehearseMessage>(&message)) return rehearse(*request);
  if (std::holds_alternative<EndMessage>(message)) return end("asked");
  if (std::holds_alternative<RenewMessage>(message)) {
    tell_keeper(LinkWord::kAlive);
    return say_ready();
  }
  if (const auto* request = std::get_if<RevertMessage>(&message)) {
    const std::string cause = request->cause.empty() ? "asked" : request->cause;
    for (const auto& lease : leases_) {
      if (request->lease.value == 0 || lease->record().lease == request->lease)
        lease->revert(cause);
    }
  }
}

void Holder::take_signal() {
  signalfd_siginfo info{};
  while (::read(signals_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
    const int number = static_cast<int>(info.ssi_signo);
    const std::string name = fmt::format("SIG{}", ::sigabbrev_np(number));
    stop({.who = fmt::format("process {} of user {}", info.ssi_pid, info.ssi_uid),
          .why = fmt::format("{} was sent to the holder", name),
          .cause = "signal"});
  }
}

void Holder::take_stop_client() {
  base::UniqueFd client{
      ::accept4(stop_socket_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
  if (!client) return;
  if (stop_clients_.size() >= kStopClientLimit) stop_clients_.erase(stop_clients_.begin());
  stop_clients_.push_back(std::move(client));
}

void Holder::take_stop_request(int client) {
  const int socket = stop_clients_[static_cast<std::size_t>(client)].get();
  const auto peer = peer_account(socket);
  const auto packet = receive_packet(socket);
  if (packet.ok() && packet->empty()) return;
  auto message = packet.ok() ? decode(*packet) : base::Result<Message>{packet.error()};
  auto* request = message.ok() ? std::get_if<StopMessage>(&*message) : nullptr;
  if (request == nullptr) {
    stop_clients_.erase(stop_clients_.begin() + client);
    return;
  }
  // Root's word is believed: it is the warden's, or root's own.
  const bool believed = peer.ok() && peer->is_root();
  stop({.who = believed    ? request->who
               : peer.ok() ? user_text(peer->user)
                           : std::string("somebody"),
        .why = request->why,
        .cause = "stopped"});
}

void Holder::stop(const StopMessage& request) {
  base::log_info("asked to stop", {{"who", request.who}, {"why", request.why}});
  say(request);
  end(request.cause);
}

void Holder::end(std::string_view cause) {
  ending_ = true;
  revert_all(cause);
}

void Holder::revert_all(std::string_view cause) {
  for (const auto& lease : leases_) lease->revert(cause);
}

void Holder::check_heartbeat() {
  const bool silent = base::BootClock::now() - last_renewal_ >= hello_.options.renewal_limit;
  if (silent) revert_all("heartbeat missing");
}

void Holder::drop_finished_leases() {
  // A replay may have nobody else to tell: the host's log says what it undid.
  for (const auto& lease : leases_) {
    if (hello_.mode == Hello::Mode::kReplay && lease->over())
      base::log_warning("undone for a dead holder",
                        {{"fault", describe_lease(lease->record(), lease->last_text())}});
  }
  ended_leases_ +=
      static_cast<int>(std::erase_if(leases_, [](const auto& lease) { return lease->over(); }));
}

Lease::Means Holder::means() {
  return {.host = host::real_host(),
          .programs = *programs_,
          .tell = [this](const LeaseEvent& event) { say(event); },
          .claim =
              [this](const LeaseRecord& record, const base::ProcessIdentity& process,
                     const std::function<base::Status()>& note) {
                return claim(directory_, record, process, note);
              }};
}

void Holder::fail_arming(const ArmMessage& message, const base::Error& error) {
  std::string text = error.to_string();
  if (!error.hint.empty()) text += ". Next: " + error.hint;
  LeaseEvent event;
  event.lease = message.lease;
  event.fault = message.request.binding.fault;
  event.state = LeaseState::kFailed;
  event.at = base::BootClock::now();
  event.text = text;
  event.proof = "{}";
  say(event);
}

base::Result<LeaseRecord> Holder::record_of(const ArmMessage& message,
                                            const FaultKind& kind) const {
  const model::FaultBinding& binding = message.request.binding;
  const base::Duration duration = message.request.duration;
  if (duration <= base::Duration::zero() || duration > kLongestLease)
    return base::Error{.code = base::ErrorCode::kUsage,
                       .message = "a lease lasts more than zero and at most 24 hours"};
  if (leases_.size() >= kLeaseLimit)
    return base::Error{.code = base::ErrorCode::kExhausted,
                       .message = fmt::format("a run holds at most {} faults", kLeaseLimit)};
  SQUALL_ASSIGN(Grant grant, gate_->check(kind, binding, duration, directory_, host::real_host()));
  const std::string boot = boot_id();
  if (boot.empty())
    return base::Error{.code = base::ErrorCode::kUnavailable,
                       .message = "the boot id cannot be read"};
  return LeaseRecord{.lease = message.lease,
                     .run = hello_.options.run,
                     .experiment = hello_.options.experiment,
                     .reason = hello_.options.reason,
                     .owner = hello_.owner,
                     .grant = std::move(grant),
                     .system_directory = hello_.options.system_directory,
                     .boot_id = boot,
                     .holder = self_,
                     .engine = hello_.engine,
                     .starter = programs_->process(),
                     .binding = binding,
                     .duration = duration,
                     .requested = base::BootClock::now(),
                     .resources = resources_of(binding)};
}

void Holder::arm(ArmMessage message) {
  const auto refuse = [&](base::ErrorCode code, std::string text) {
    fail_arming(message, base::Error{.code = code, .message = std::move(text)});
  };
  if (ending_) return refuse(base::ErrorCode::kStopped, "the run is being stopped");
  const FaultKind* kind = find_kind(message.request.binding.kind);
  if (kind == nullptr) return refuse(base::ErrorCode::kUnsupported, "no such kind of fault");
  auto record = record_of(message, *kind);
  if (!record.ok()) return fail_arming(message, record.error());
  auto journal = acquire(directory_, *record, *kind);
  if (!journal.ok()) return fail_arming(message, journal.error());
  leases_.push_back(
      std::make_unique<Lease>(std::move(*record), *kind, std::move(*journal), means()));
  leases_.back()->arm();
}

void Holder::rehearse(const RehearseMessage& message) {
  const auto answer = [&](base::Result<std::string> result) {
    RehearsedMessage reply{.id = message.id, .text = {}, .error = {}};
    if (result.ok())
      reply.text = *result;
    else
      reply.error = result.error();
    say(reply);
  };
  const FaultKind* kind = find_kind(message.binding.kind);
  if (kind == nullptr)
    return answer(
        base::Error{.code = base::ErrorCode::kUnsupported, .message = "no such kind of fault"});
  drop_finished_leases();  // one may have ended by the message before this one
  if (!leases_.empty())
    return answer(base::Error{.code = base::ErrorCode::kConflict,
                              .message = "no rehearsal while faults are active"});
  if (!gate_)
    return answer(base::Error{.code = base::ErrorCode::kStopped, .message = "the run is over"});
  auto grant = gate_->check(*kind, message.binding, {}, directory_, host::real_host());
  if (!grant.ok()) return answer(std::move(grant).error());
  LeaseRecord record;
  record.lease = base::LeaseId::generate();
  record.run = hello_.options.run;
  record.binding = message.binding;
  record.resources = resources_of(message.binding);
  if (auto free = check_free(directory_, record); !free.ok())
    return answer(std::move(free).error());
  record.grant = std::move(*grant);
  record.grant.targets.push_back(::geteuid());  // scratch processes are ours
  Lease scratch{record,
                *kind,
                std::nullopt,
                {.host = host::real_host(), .programs = *programs_, .tell = [](const auto&) {}}};
  tell_keeper(LinkWord::kBusy);
  answer(kind->rehearse(message.binding, scratch));
  tell_keeper(LinkWord::kAlive);
  last_renewal_ = base::BootClock::now();
}

void Holder::replay() {
  ending_ = true;
  DeadLeases dead = take_up_dead_leases(directory_, hello_.options.run, means(),
                                        [this] { tell_keeper(LinkWord::kBusy); });
  left_ = std::move(dead.left);
  damaged_ = std::move(dead.damaged);
  leases_ = std::move(dead.leases);
  // Without a run it is the warden's first: then nobody else removes what dead holders left.
  if (hello_.options.run.empty()) remove_dead_run_files(directory_);
  revert_all("holder gone");
}

void Holder::say_ready() {
  say(Ready{.holder = self_});
}

void Holder::say(const Message& message) {
  auto packet = encode(message);
  if (!packet.ok() || !control_) return;
  if (unsent_.size() >= kUnsentLimit) return;  // the engine hangs; the leases do not depend on it
  unsent_.push_back(std::move(*packet));
  flush();
}

void Holder::flush() {
  while (!unsent_.empty() && control_) {
    const auto sent = send_packet(control_.get(), unsent_.front());
    if (!sent.ok() && sent.error().code == base::ErrorCode::kExhausted) return;
    unsent_.pop_front();
  }
}

int holder_main() {
  ::signal(SIGPIPE, SIG_IGN);
  ::prctl(PR_SET_PDEATHSIG, 0);  // we must outlive the engine to undo its faults
  ::prctl(PR_SET_NAME, "squall-holder");
  ::setsid();  // fails when we lead a session already: that is what we want
  ::umask(022);
  if (::chdir("/") != 0) return 1;
  for (const int descriptor : {kControlDescriptor, kEngineDescriptor, kLinkDescriptor}) {
    if (::fcntl(descriptor, F_SETFD, FD_CLOEXEC) == 0) continue;
    base::log_error("`squall holder` is started by the keeper of `squall run`, not by hand");
    return 2;
  }
  base::UniqueFd control{kControlDescriptor};
  base::UniqueFd engine{kEngineDescriptor};
  base::UniqueFd link{kLinkDescriptor};
  auto programs = fork_starter();
  if (!programs.ok()) {
    base::log_error("the holder cannot start", {{"error", programs.error().to_string()}});
    return 1;
  }
  auto hello = receive_greeting(link.get());
  if (!hello.ok()) return 1;
  Holder holder{std::move(control), std::move(engine), std::move(link), std::move(*hello),
                std::move(*programs)};
  return holder.run();
}

}  // namespace squall::inject
