#include <fmt/format.h>
#include <poll.h>
#include <pwd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <map>
#include <set>

#include "base/process.h"
#include "inject/client.h"
#include "inject/poll_loop.h"
#include "inject/registry.h"
#include "inject/warden.h"
#include "inject/wire.h"

namespace squall::inject {

namespace {

constexpr base::Duration kReadyLimit = std::chrono::seconds(10);
constexpr base::Duration kRehearsalLimit = std::chrono::seconds(15);
// Longer than any revert may take: `restore: await` waits for a replacement.
constexpr base::Duration kEndLimit = std::chrono::minutes(10);
constexpr base::Duration kEndLook = std::chrono::seconds(1);
constexpr int kRestartLimit = 3;
constexpr base::Duration kWardenLimit = std::chrono::seconds(3);

std::string owner_name() {
  if (const char* sudo = std::getenv("SUDO_USER"); sudo != nullptr && *sudo != '\0') return sudo;
  std::array<char, 4096> buffer;
  passwd entry{};
  passwd* found = nullptr;
  if (::getpwuid_r(::getuid(), &entry, buffer.data(), buffer.size(), &found) == 0 &&
      found != nullptr)
    return found->pw_name;
  return fmt::format("user {}", ::getuid());
}

base::Error holder_died() {
  return base::Error{.code = base::ErrorCode::kUnavailable,
                     .message = "the holder died",
                     .hint = ::geteuid() == 0 ? "run `squall cleanup`, then `squall status`"
                                              : "the warden undoes its faults: `squall status`"};
}

// Our end of the socket to the keeper: this host's warden, or a child of our own.
struct KeeperConnection {
  base::ChildProcess child;  // invalid: the warden
  base::UniqueFd socket;
};

base::Status greet(const KeeperConnection& keeper, const HolderOptions& options, Hello::Mode mode) {
  SQUALL_ASSIGN(const auto engine, base::identify_process(::getpid()));
  SQUALL_ASSIGN(
      const auto hello,
      encode(Hello{.mode = mode, .options = options, .owner = owner_name(), .engine = engine}));
  return send_packet(keeper.socket.get(), hello);
}

base::Result<KeeperConnection> reach_warden(const HolderOptions& options, Hello::Mode mode) {
  KeeperConnection keeper;
  SQUALL_ASSIGN(keeper.socket, connect_to_warden(StateDirectory{options.state_directory}));
  SQUALL_TRY(greet(keeper, options, mode));
  return keeper;
}

base::Result<KeeperConnection> start_keeper(const HolderOptions& options, Hello::Mode mode) {
  SQUALL_ASSIGN(auto pair, make_packet_sockets());
  KeeperConnection keeper;
  keeper.socket = std::move(pair.first);
  const base::UniqueFd theirs = std::move(pair.second);
  base::SpawnOptions spawn;
  spawn.argv = options.keeper_argv;
  if (spawn.argv.empty()) {
    SQUALL_ASSIGN(const std::string executable, base::own_executable());
    spawn.argv = {executable, "keeper"};
  }
  spawn.standard_error = STDERR_FILENO;
  spawn.pass = {{theirs.get(), 3}};
  spawn.new_session = true;
  SQUALL_ASSIGN(keeper.child, base::spawn(spawn));
  SQUALL_TRY(greet(keeper, options, mode));
  return keeper;
}

class Client final : public HolderClient {
 public:
  explicit Client(HolderOptions options) : options_(std::move(options)) {}
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  ~Client() override {
    if (holder_socket_ && !finished_) {
      if (replaying_ || send(EndMessage{}).ok()) wait_until_finished();
    }
    holder_socket_.reset();
    dismiss_keeper();
  }

  base::Status open() {
    SQUALL_ASSIGN(sources_, ReadySet::create());
    SQUALL_ASSIGN(queued_, base::WakeUp::create());
    SQUALL_TRY(sources_->watch(queued_->fd()));
    SQUALL_TRY(attach(Hello::Mode::kHold));
    const base::Instant deadline = base::BootClock::now() + kReadyLimit;
    while (!ready_) {
      SQUALL_TRY(wait(deadline, "the holder to start"));
      SQUALL_TRY(pump());
      if (start_error_) return *start_error_;
      if (replaying_ || finished_) return holder_died();
    }
    return {};
  }

  int fd() const override { return sources_->fd(); }

  base::Result<std::string> rehearse(const model::FaultBinding& binding) override {
    const std::uint64_t id = ++last_rehearsal_;
    SQUALL_TRY(send(RehearseMessage{.id = id, .binding = binding}));
    const base::Instant deadline = base::BootClock::now() + kRehearsalLimit;
    while (true) {
      SQUALL_TRY(wait(deadline, "the rehearsal"));
      SQUALL_TRY(pump());
      if (replaying_ || finished_) return holder_died();
      if (!rehearsed_ || rehearsed_->id != id) continue;
      if (rehearsed_->error) return *rehearsed_->error;
      return rehearsed_->text;
    }
  }

  base::Result<base::LeaseId> arm(const LeaseRequest& request) override {
    const auto lease = base::LeaseId::generate();
    SQUALL_TRY(send(ArmMessage{.lease = lease, .request = request}));
    active_.insert(lease.value);
    return lease;
  }
  base::Status renew() override {
    // Its answers may wait unread when it was us who slept.
    if (is_silent()) SQUALL_TRY(pump());
    if (finished_) return holder_ended();
    if (is_silent() && !replaying_) {
      // It hangs or was stopped. Dead, its kernel-held faults are gone and the rest is replayed.
      unanswered_since_.reset();
      const auto killed = holder_.signal(SIGKILL);
      // Dead already, or not ours to kill: then the warden does it.
      const bool seen_to = !killed.ok() && (killed.error().code == base::ErrorCode::kNotFound ||
                                            killed.error().code == base::ErrorCode::kPermission);
      return seen_to ? base::Status{} : killed;
    }
    const base::Instant now = base::BootClock::now();
    if (now - renewed_ >= options_.renewal_limit * 3 / 10) {
      renewed_ = now;
      SQUALL_TRY(tell(RenewMessage{}));
      if (!unanswered_since_ && !replaying_) unanswered_since_ = now;
    }
    // Until the holder says that it does it: a full socket may have swallowed the first one.
    for (const auto& [lease, cause] : unheard_reverts_)
      SQUALL_TRY(tell(RevertMessage{.lease = {lease}, .cause = cause}));
    return {};
  }
  base::Status revert(base::LeaseId lease, std::string_view cause) override {
    if (active_.contains(lease.value)) unheard_reverts_.try_emplace(lease.value, cause);
    return tell(RevertMessage{.lease = lease, .cause = std::string(cause)});
  }
  base::Status revert_all(std::string_view cause) override {
    for (const std::uint64_t lease : active_) unheard_reverts_.try_emplace(lease, cause);
    return tell(RevertMessage{.lease = {}, .cause = std::string(cause)});
  }

  base::Result<std::vector<LeaseEvent>> take_events() override {
    SQUALL_TRY(pump());
    queued_->clear();
    if (!events_.empty()) return std::exchange(events_, {});
    // Who stopped the run is told before the holder's end is.
    const bool stop_is_news = stop_notice_ && !std::exchange(stop_told_, true);
    if (finished_ && !stop_is_news) return holder_ended();
    return std::vector<LeaseEvent>{};
  }

  std::optional<StopNotice> stop_notice() const override { return stop_notice_; }
  std::vector<std::string> left_behind() const override { return left_; }

 private:
  base::Status attach(Hello::Mode mode) {
    const auto reach = [&] {
      return warden_hangs_ ? base::Result<KeeperConnection>{holder_died()}
                           : reach_warden(options_, mode);
    };
    auto warden = reach();
    // One that was killed with its holder is started again by its supervisor, in a moment.
    const base::Instant patience = base::BootClock::now() + kWardenLimit;
    while (!warden.ok() && mode == Hello::Mode::kReplay && ::geteuid() != 0 &&
           base::BootClock::now() < patience) {
      ::poll(nullptr, 0, 50);
      warden = reach();
    }
    if (warden.ok()) {
      keeper_ = std::move(*warden);
    } else if (::geteuid() == 0) {
      SQUALL_ASSIGN(keeper_, start_keeper(options_, mode));
    } else {
      return std::move(warden).error();
    }
    return sources_->watch(keeper_.socket.get());
  }

  base::Status send(const Message& message) {
    if (!holder_socket_ || replaying_) return holder_died();
    SQUALL_ASSIGN(const auto packet, encode(message));
    return send_packet(holder_socket_.get(), packet);
  }

  // A holder that died has nothing to renew or to revert: that is being done already, and
  // take_events() tells how it ends.
  base::Status tell(const Message& message) {
    if (finished_) return holder_ended();
    auto sent = send(message);
    if (!sent.ok() && (sent.error().code == base::ErrorCode::kUnavailable ||
                       sent.error().code == base::ErrorCode::kExhausted))
      return {};
    return sent;
  }

  base::Error holder_ended() const {
    if (!stop_notice_ || !left_.empty()) return holder_died();
    return base::Error{.code = base::ErrorCode::kUnavailable,
                       .message = fmt::format("the holder ended in order: {} by {}",
                                              stop_notice_->cause, stop_notice_->who)};
  }

  // Takes all that waits, and notices who has died.
  base::Status pump() {
    if (keeper_.socket) SQUALL_TRY(pump_keeper());
    while (holder_socket_) {
      auto packet = receive_packet(holder_socket_.get());
      if (packet.ok() && packet->empty()) break;
      if (!packet.ok()) {
        holder_gone();
        break;
      }
      SQUALL_ASSIGN(Message message, decode(*packet));
      take(std::move(message));
    }
    watch_keeper();
    return {};
  }

  // The holder died, and the keeper does not start another one: it hangs or was stopped.
  void watch_keeper() {
    const bool overdue = alone_since_ && keeper_.socket && !finished_ &&
                         base::BootClock::now() - *alone_since_ > options_.renewal_limit;
    if (!overdue) return;
    const bool ours = keeper_.child.pidfd().valid();
    if (!ours) warden_hangs_ = true;
    if (ours && !keeper_.child.pidfd().signal(SIGKILL).ok()) return;
    dismiss_keeper();
    start_again();
  }

  // The keeper says that it has started a holder, or why it could not.
  base::Status pump_keeper() {
    while (keeper_.socket) {
      base::UniqueFd came;
      auto packet = receive_packet(keeper_.socket.get(), &came);
      if (packet.ok() && packet->empty()) break;
      if (!packet.ok()) {
        keeper_gone();
        break;
      }
      SQUALL_ASSIGN(Message message, decode(*packet));
      if (std::holds_alternative<Ready>(message)) {
        SQUALL_TRY(meet_holder(std::move(came)));
      } else {
        take(std::move(message));
      }
    }
    return {};
  }

  base::Status meet_holder(base::UniqueFd socket) {
    SQUALL_TRY(drain_dead_holder());
    replaying_ = std::exchange(attached_, true);
    alone_since_.reset();
    last_heard_ = base::BootClock::now();
    holder_socket_ = std::move(socket);
    return sources_->watch(holder_socket_.get());
  }

  // What a holder said before it died comes before what its successor says.
  base::Status drain_dead_holder() {
    while (holder_socket_) {
      auto packet = receive_packet(holder_socket_.get());
      if (!packet.ok() || packet->empty()) break;
      SQUALL_ASSIGN(Message message, decode(*packet));
      take(std::move(message));
    }
    holder_socket_.reset();
    return {};
  }

  // For long, and what it was asked it has had the time to answer.
  bool is_silent() const {
    const base::Instant now = base::BootClock::now();
    return unanswered_since_ && now - *unanswered_since_ > options_.renewal_limit * 4 / 10 &&
           now - last_heard_ > options_.renewal_limit;
  }

  void take(Message message) {
    unanswered_since_.reset();
    last_heard_ = base::BootClock::now();
    if (auto* event = std::get_if<LeaseEvent>(&message)) {
      note_progress(*event);
      events_.push_back(std::move(*event));
      queued_->signal();
    } else if (auto* rehearsed = std::get_if<RehearsedMessage>(&message)) {
      if (rehearsed->id == 0) start_error_ = rehearsed->error;
      rehearsed_ = std::move(*rehearsed);
    } else if (auto* stop = std::get_if<StopMessage>(&message)) {
      stop_notice_ = StopNotice{.who = stop->who, .why = stop->why, .cause = stop->cause};
    } else if (auto* finished = std::get_if<Finished>(&message)) {
      said_finished_ = true;
      left_ = std::move(finished->left);
    } else if (const auto* ready = std::get_if<Ready>(&message)) {
      // The answer to the greeting and to each renewal.
      if (!ready_ || !(holder_.identity() == ready->holder)) {
        if (auto opened = base::PidFd::open(ready->holder); opened.ok())
          holder_ = std::move(*opened);
      }
      ready_ = holder_.valid();
    }
  }

  void note_progress(const LeaseEvent& event) {
    if (event.notice || event.state == LeaseState::kArming || event.state == LeaseState::kArmed ||
        event.state == LeaseState::kEffective)
      return;
    unheard_reverts_.erase(event.lease.value);
    const bool over = event.state == LeaseState::kVerified ||
                      (event.state == LeaseState::kFailed && !event.still_active);
    if (over) active_.erase(event.lease.value);
  }

  // The holder's end of its socket is closed. If it did not say that it was finished it died, and
  // the keeper starts another one that undoes what it held.
  void holder_gone() {
    holder_socket_.reset();
    if (said_finished_ || !ready_) {
      finished_ = true;
    } else if (!keeper_.socket) {
      start_again();
    } else {
      alone_since_ = base::BootClock::now();
    }
  }

  // Killed alone, it leaves a holder that reverts by itself and says so. Without a holder its
  // faults are ours to see to.
  void keeper_gone() {
    dismiss_keeper();
    if (finished_ || holder_socket_) return;
    if (said_finished_ || !ready_) {
      finished_ = true;
    } else {
      start_again();
    }
  }

  // Keeper and holder both died: another keeper undoes what they left.
  void start_again() {
    if (++restarts_ <= kRestartLimit) {
      const auto attached = attach(Hello::Mode::kReplay);
      if (attached.ok()) {
        replaying_ = true;
        alone_since_ = base::BootClock::now();
        return;
      }
      left_.push_back(attached.error().to_string());
    }
    give_up();
  }

  void give_up() {
    finished_ = true;
    left_.push_back(
        "the holder and every process that was to undo its faults died: run `squall cleanup`");
  }

  base::Status wait(base::Instant deadline, std::string_view what) const {
    if (sources_->wait(deadline - base::BootClock::now())) return {};
    return base::Error{.code = base::ErrorCode::kTimeout,
                       .message = fmt::format("waited too long for {}", what),
                       .hint = "see `squall status`"};
  }

  void wait_until_finished() {
    const base::Instant deadline = base::BootClock::now() + kEndLimit;
    while (!finished_ && base::BootClock::now() < deadline) {
      sources_->wait(kEndLook);
      if (!pump().ok()) return;
      // Again, as a full socket may have swallowed it. A holder that died shows in pump().
      [[maybe_unused]] const auto asked = send(EndMessage{});
      events_.clear();
      queued_->clear();
    }
  }

  // Without us our own ends as soon as its holder has. True when it ended by itself.
  bool dismiss_keeper() {
    keeper_.socket.reset();
    if (!keeper_.child.pidfd().valid()) return false;
    auto status = keeper_.child.wait(std::chrono::seconds(15));
    if (!status.ok() && keeper_.child.pidfd().signal(SIGKILL).ok())
      status = keeper_.child.wait(std::chrono::seconds(1));
    keeper_ = {};
    return status.ok() && WIFEXITED(*status);
  }

  HolderOptions options_;
  std::optional<ReadySet> sources_;
  KeeperConnection keeper_;
  base::UniqueFd holder_socket_;
  std::vector<LeaseEvent> events_;
  std::set<std::uint64_t> active_;                        // leases, as far as we know
  std::map<std::uint64_t, std::string> unheard_reverts_;  // asked for, not begun as far as we know
  std::optional<StopNotice> stop_notice_;
  std::optional<RehearsedMessage> rehearsed_;
  std::optional<base::Error> start_error_;
  std::vector<std::string> left_;
  std::optional<base::WakeUp> queued_;  // keeps fd() readable while events_ holds something
  base::PidFd holder_;
  base::Instant renewed_;
  base::Instant last_heard_;
  std::optional<base::Instant> unanswered_since_;  // the first renewal without any word after it
  std::optional<base::Instant> alone_since_;       // the holder died, nobody undoes its faults yet
  std::uint64_t last_rehearsal_ = 0;
  int restarts_ = 0;
  bool ready_ = false;
  bool attached_ = false;   // to a first holder
  bool replaying_ = false;  // the first holder died; what is left is being undone
  bool said_finished_ = false;
  bool finished_ = false;
  bool stop_told_ = false;
  bool warden_hangs_ = false;
};

}  // namespace

base::Result<std::unique_ptr<HolderClient>> HolderClient::start(const HolderOptions& options) {
  SQUALL_TRY(check_run_id(options.run));
  auto client = std::make_unique<Client>(options);
  SQUALL_TRY(client->open());
  return std::unique_ptr<HolderClient>{std::move(client)};
}

}  // namespace squall::inject
