#include "inject/keeper.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <span>

#include "base/log.h"
#include "base/process.h"
#include "inject/registry.h"

namespace squall::inject {

namespace {

constexpr int kEngineDescriptor = 3;
// What a holder finds open: its engine, a pidfd of it, and the link to us.
constexpr int kHolderControl = 3;
constexpr int kHolderEngine = 4;
constexpr int kHolderLink = 5;
// A rehearsal takes at most 15 s, and taking up a dead holder's journals a few.
constexpr auto kBusyLimit = std::chrono::seconds(30);
constexpr auto kStartLimit = std::chrono::seconds(5);
constexpr int kReplayLimit = 2;
constexpr std::size_t kRunLimit = 256;
// One user cannot keep the others out.
constexpr std::size_t kRunLimitOfOne = 16;
constexpr int kMostAccepted = 16;  // in one turn
constexpr auto kGreetingLimit = std::chrono::seconds(5);
constexpr base::Duration kLongestSilence = std::chrono::seconds(60);

// Heartbeats are counted without the time that the machine was suspended: nobody answers then.
using Heartbeat = base::MonotonicClock;  // as the timer

base::Result<base::ProcessIdentity> peer_identity(int socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
    return base::system_error("ask who connected", errno);
  return base::identify_process(peer.pid);
}

}  // namespace

base::Status send_word(int link, LinkWord word) {
  const LinkMessage message{.word = word, .said = Heartbeat::now()};
  return send_packet(link, std::as_bytes(std::span{&message, 1}));
}

// Both ends are the same program on the same host.
base::Result<std::optional<LinkMessage>> receive_word(int link) {
  SQUALL_ASSIGN(const auto packet, receive_packet(link));
  LinkMessage message;
  if (packet.size() != sizeof message) return std::optional<LinkMessage>{};
  std::memcpy(&message, packet.data(), sizeof message);
  return std::optional{message};
}

// One engine's run: who asked, who holds.
struct Keeper::Run {
  base::UniqueFd engine;  // closed once the engine is gone
  base::UniqueFd engine_process;
  Account caller;
  Heartbeat::time_point greets_until = Heartbeat::time_point::max();
  std::optional<Hello> hello;
  std::optional<base::ChildProcess> holder;
  base::UniqueFd link;
  Heartbeat::time_point last_word;
  std::optional<Heartbeat::time_point> asked;
  Heartbeat::time_point next_look;
  bool starting = false;  // until its first word
  bool busy = false;
  int replays = 0;

  bool over() const { return !holder && (hello || !engine); }
  Heartbeat::duration patience() const {
    if (busy) return kBusyLimit;
    return starting ? std::max<Heartbeat::duration>(kStartLimit, hello->options.renewal_limit)
                    : hello->options.renewal_limit;
  }
  // Of silence, before it is asked: one renewal may have got lost. A holder that stops is killed
  // when its lease's silence is over by a fifth at most.
  Heartbeat::duration silence() const { return per_cent_of_limit(70); }
  Heartbeat::duration question_interval() const { return per_cent_of_limit(15); }
  Heartbeat::duration answer_limit() const { return per_cent_of_limit(40); }
  Heartbeat::duration per_cent_of_limit(int per_cent) const {
    return std::max<Heartbeat::duration>(hello->options.renewal_limit * per_cent / 100,
                                         std::chrono::milliseconds(1));
  }
};

Keeper::Keeper(std::vector<std::string> holder_argv) : holder_argv_(std::move(holder_argv)) {}
Keeper::~Keeper() = default;

void Keeper::adopt(base::UniqueFd engine) {
  runs_.push_back(std::make_unique<Run>());
  runs_.back()->engine = std::move(engine);
}

// A run without an engine: its holder finds out by itself that there is nobody to tell.
void Keeper::replay_all(const std::string& state_directory) {
  auto run = std::make_unique<Run>();
  run->hello = Hello{.mode = Hello::Mode::kReplay, .options = {}, .owner = "root"};
  run->hello->options.state_directory = state_directory;
  run->engine_process.reset(static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0)));
  start_holder(*run, Hello::Mode::kReplay);
  runs_.push_back(std::move(run));
}

void Keeper::serve_host(WardenDuty duty) {
  duty_ = std::move(duty);
  next_word_ = Heartbeat::now();
}

void Keeper::accept_engines() {
  for (int i = 0; i < kMostAccepted; ++i) {
    base::UniqueFd engine{
        ::accept4(duty_.control.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
    if (!engine) return;
    const auto caller = peer_account(engine.get());
    adopt(std::move(engine));
    Run& run = *runs_.back();
    run.greets_until = Heartbeat::now() + kGreetingLimit;
    if (!caller.ok()) {
      turn_away(run, caller.error());
    } else if (is_crowded(*caller)) {
      turn_away(run, {.code = base::ErrorCode::kExhausted,
                      .message = "the warden serves as many runs as it can",
                      .hint = "`squall status` shows them; wait, or stop one"});
    } else {
      run.caller = *caller;
    }
  }
}

// The newest is counted, too.
bool Keeper::is_crowded(const Account& caller) const {
  const auto of_one = std::count_if(runs_.begin(), runs_.end(), [&](const auto& run) {
    return run->caller.user == caller.user && run->engine;
  });
  return runs_.size() > kRunLimit ||
         (!caller.is_root() && static_cast<std::size_t>(of_one) >= kRunLimitOfOne);
}

void Keeper::turn_away(Run& run, const base::Error& error) {
  // A flood must not fill the log.
  if (const auto now = Heartbeat::now(); now >= next_complaint_) {
    next_complaint_ = now + std::chrono::seconds(1);
    base::log_warning("an engine is turned away",
                      {{"caller", user_text(run.caller.user)}, {"error", error.to_string()}});
  }
  const auto packet = encode(RehearsedMessage{.id = 0, .text = {}, .error = error});
  if (packet.ok() && run.engine) (void)send_packet(run.engine.get(), *packet);
  run.engine.reset();
}

// Ready from the first turn on: what must be undone is being undone, and whoever comes is refused
// what is not free yet.
void Keeper::tell_manager() {
  const auto now = Heartbeat::now();
  if (!duty_.control || now < next_word_) return;
  duty_.manager.say_ready(fmt::format("{} runs", runs_.size()));
  duty_.manager.say_alive();
  const auto interval = duty_.manager.watchdog();
  next_word_ = interval ? now + *interval / 3 : Heartbeat::time_point::max();
}

base::Status Keeper::prepare() {
  SQUALL_ASSIGN(signals_, open_termination_signals());
  SQUALL_ASSIGN(timer_, open_timer(CLOCK_MONOTONIC));
  return {};
}

int Keeper::run() {
  if (const auto prepared = prepare(); !prepared.ok()) {
    base::log_error("the keeper cannot start", {{"error", prepared.error().to_string()}});
    return 1;
  }
  while (duty_.control || !runs_.empty()) {
    tell_manager();
    const PollSet events = wait_for_events();
    if (events.is_ready(signals_.get())) take_signals();
    if (events.is_ready(duty_.control.get())) accept_engines();
    if (duty_.everybody && duty_.everybody->serve(events)) replay_all(duty_.state_directory);
    for (const auto& run : runs_) serve(*run, events);
    std::erase_if(runs_, [](const auto& run) { return run->over(); });
  }
  return exit_status_;
}

PollSet Keeper::wait_for_events() const {
  PollSet events;
  events.watch(signals_.get());
  events.watch(timer_.get());
  events.watch(duty_.control.get());
  auto next = next_word_;
  if (duty_.everybody) next = std::min(next, duty_.everybody->watch(events));
  for (const auto& run : runs_) {
    events.watch(run->engine.get());
    if (run->engine && !run->hello) next = std::min(next, run->greets_until);
    events.watch(run->link.get(), 0);  // its end only: words are read when it is time to look
    if (run->holder) events.watch(run->holder->pidfd().get());
    if (run->holder && run->link) next = std::min(next, run->next_look);
  }
  set_timer(timer_, next.time_since_epoch().count());
  events.wait();
  return events;
}

// Whoever ends the keeper ends the runs: each holder reverts and ends in order.
void Keeper::take_signals() {
  signalfd_siginfo info{};
  while (::read(signals_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
    duty_.manager.say_stopping();
    duty_.control.reset();
    duty_.everybody.reset();
    next_word_ = Heartbeat::time_point::max();
    for (const auto& run : runs_) {
      if (!run->holder) {
        run->engine.reset();
      } else if (const auto sent = run->holder->pidfd().signal(SIGTERM); !sent.ok()) {
        base::log_info("a holder has ended already", {{"run", run->hello->options.run}});
      }
    }
  }
}

void Keeper::serve(Run& run, const PollSet& events) {
  if (run.engine && !run.hello && Heartbeat::now() >= run.greets_until) run.engine.reset();
  if (events.is_ready(run.engine.get())) take_engine(run);
  if (events.is_ready(run.link.get())) take_link(run);
  if (run.holder && run.holder->pidfd().ended()) return holder_ended(run);
  watch_heartbeat(run);
}

void Keeper::take_engine(Run& run) {
  const auto packet = receive_packet(run.engine.get());
  if (packet.ok() && packet->empty()) return;
  auto message = packet.ok() ? decode(*packet) : base::Result<Message>{packet.error()};
  auto* hello = message.ok() ? std::get_if<Hello>(&*message) : nullptr;
  if (message.ok() && duty_.control && !run.hello &&
      std::holds_alternative<ReleaseMessage>(*message))
    return release_switch(run);
  // Gone, or it says what we do not know. Its holder sees to the faults.
  if (hello == nullptr || run.hello) return run.engine.reset();
  if (auto admitted = admit(run, std::move(*hello)); !admitted.ok())
    return turn_away(run, admitted.error());
  start_holder(run, run.hello->mode);
}

// The engine's word counts only where it can do no harm.
base::Status Keeper::admit(Run& run, Hello hello) {
  SQUALL_TRY(check_run_id(hello.options.run));
  SQUALL_ASSIGN(run.caller, peer_account(run.engine.get()));
  SQUALL_ASSIGN(run.engine_process, peer_process(run.engine.get(), hello.engine));
  hello.caller = run.caller;
  if (duty_.control) {
    hello.options.state_directory = duty_.state_directory;
    hello.policy_file = duty_.policy_file;
  }
  if (!run.caller.is_root()) {
    SQUALL_ASSIGN(hello.engine, peer_identity(run.engine.get()));
    hello.owner = user_text(run.caller.user);
    if (hello.options.renewal_limit > kLongestSilence) {
      return base::Error{.code = base::ErrorCode::kUsage,
                         .message = "an engine may be silent for a minute at most"};
    }
  }
  run.hello = std::move(hello);
  return {};
}

void Keeper::release_switch(Run& run) {
  const auto released = release_kill_switch(duty_.state_directory);
  if (!released.ok()) return turn_away(run, released.error());
  base::log_info("the kill switch is released", {{"by", user_text(run.caller.user)}});
  const auto packet = encode(Finished{});
  if (packet.ok()) (void)send_packet(run.engine.get(), *packet);
  run.engine.reset();
}

void Keeper::take_link(Run& run) {
  while (run.link) {
    const auto message = receive_word(run.link.get());
    if (!message.ok()) return run.link.reset();
    if (!*message) return;
    run.last_word = (*message)->said;
    if (run.asked && run.last_word >= *run.asked) run.asked.reset();
    run.starting = false;
    run.busy = (*message)->word == LinkWord::kBusy;
  }
}

void Keeper::watch_heartbeat(Run& run) {
  const auto now = Heartbeat::now();
  if (!run.holder || !run.link || now < run.next_look) return;
  take_link(run);
  if (!run.link) return;
  const auto silence = now - run.last_word;
  if (silence < run.silence()) {
    run.next_look = run.last_word + run.silence();
    return;
  }
  // It may have been us who slept: what it was not asked it need not have answered.
  if (silence > run.patience() && run.asked && now - *run.asked > run.answer_limit()) {
    base::log_error("a holder does not answer and is killed", {{"run", run.hello->options.run}});
    if (const auto killed = run.holder->pidfd().signal(SIGKILL); !killed.ok()) return;
    return run.link.reset();
  }
  run.next_look = now + run.question_interval();
  if (const auto asked = send_word(run.link.get(), LinkWord::kAlive); !asked.ok()) return;
  if (!run.asked) run.asked = now;
}

// A holder that ends in order has undone everything or said what is left. One that was killed, or
// could not go on, has not: its journal says what to undo.
void Keeper::holder_ended(Run& run) {
  const auto status = run.holder->wait(std::chrono::seconds(1));
  run.holder.reset();
  run.link.reset();
  run.asked.reset();
  run.busy = false;
  // One that could not even begin to undo has undone nothing.
  const bool replayed = run.replays > 0 || run.hello->mode == Hello::Mode::kReplay;
  const bool in_order = status.ok() && WIFEXITED(*status) &&
                        WEXITSTATUS(*status) != kHolderHelpless &&
                        (!replayed || WEXITSTATUS(*status) == 0 || WEXITSTATUS(*status) == 8);
  if (in_order) {
    exit_status_ = std::max(exit_status_, WEXITSTATUS(*status));
    return run.engine.reset();
  }
  if (++run.replays <= kReplayLimit) return start_holder(run, Hello::Mode::kReplay);
  base::log_error("every process that was to undo the faults of a run died; `squall cleanup`",
                  {{"run", run.hello->options.run}});
  exit_status_ = 8;
  run.engine.reset();
}

void Keeper::start_holder(Run& run, Hello::Mode mode) {
  auto started = try_to_start_holder(run, mode);
  while (!started.ok() && mode == Hello::Mode::kReplay && ++run.replays <= kReplayLimit)
    started = try_to_start_holder(run, mode);
  if (started.ok()) return;
  base::log_error("a holder could not be started", {{"error", started.error().to_string()}});
  exit_status_ = mode == Hello::Mode::kReplay ? 8 : std::max(exit_status_, 1);
  const auto packet = encode(RehearsedMessage{.id = 0, .text = {}, .error = started.error()});
  if (packet.ok() && run.engine) (void)send_packet(run.engine.get(), *packet);
  run.engine.reset();
}

base::Status Keeper::try_to_start_holder(Run& run, Hello::Mode mode) {
  SQUALL_ASSIGN(auto control, make_packet_sockets());
  SQUALL_ASSIGN(auto link, make_packet_sockets());
  base::SpawnOptions spawn;
  spawn.argv = holder_argv_;
  spawn.standard_error = STDERR_FILENO;
  spawn.pass = {{control.second.get(), kHolderControl},
                {run.engine_process.get(), kHolderEngine},
                {link.second.get(), kHolderLink}};
  spawn.new_session = true;
  Hello hello = *run.hello;
  hello.mode = mode;
  SQUALL_ASSIGN(const auto greeting, encode(hello));
  SQUALL_ASSIGN(base::ChildProcess holder, base::spawn(spawn));
  run.holder = std::move(holder);
  run.link = std::move(link.first);
  run.starting = true;
  run.busy = false;
  run.asked.reset();
  run.last_word = Heartbeat::now();
  run.next_look = run.last_word + run.silence();
  SQUALL_TRY(send_packet(run.link.get(), greeting));
  SQUALL_ASSIGN(const auto ready, encode(Ready{.holder = run.holder->pidfd().identity()}));
  if (!run.engine) return {};
  // An engine that is gone has nobody to talk to; the holder knows that by itself.
  if (const auto told = send_packet(run.engine.get(), ready, control.first.get()); !told.ok())
    run.engine.reset();
  return {};
}

int keeper_main(std::vector<std::string> holder_argv) {
  ::signal(SIGPIPE, SIG_IGN);
  ::prctl(PR_SET_PDEATHSIG, 0);  // we must outlive the engine to undo its faults
  ::prctl(PR_SET_NAME, "squall-keeper");
  ::setsid();  // fails when we lead a session already: that is what we want
  ::umask(022);
  if (::chdir("/") != 0) return 1;
  if (::fcntl(kEngineDescriptor, F_SETFD, FD_CLOEXEC) != 0) {
    base::log_error("`squall keeper` is started by `squall run`, not by hand");
    return 2;
  }
  if (holder_argv.empty()) {
    auto executable = base::own_executable();
    if (!executable.ok()) return 1;
    holder_argv = {std::move(*executable), "holder"};
  }
  Keeper keeper(std::move(holder_argv));
  keeper.adopt(base::UniqueFd{kEngineDescriptor});
  return keeper.run();
}

}  // namespace squall::inject
