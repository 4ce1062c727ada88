#include "observe/load_generator.h"

#include <sched.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <ctime>
#include <string>
#include <vector>

namespace squall::observe {
namespace {

using base::Duration;
using base::Instant;
using evidence::Outcome;

constexpr std::size_t kReceiveBuffer = 64 * 1024;
constexpr int kEventsPerWait = 128;
// Sends in a row before answers are looked at again, so that a generator that is behind does not
// leave answers lying and count its own delay as the target's.
constexpr int kSendsInARow = 64;
constexpr Duration kLongestWait = std::chrono::seconds(1);
constexpr Duration kBreath = std::chrono::milliseconds(50);
constexpr std::uint64_t kWakeUpTag = ~std::uint64_t{0};

struct Connection {
  enum class Phase { kFree, kConnecting, kHandshaking, kIdle, kSending, kReceiving };
  Connection(HttpResponseParser::Body body, std::uint64_t limit, std::uint32_t number)
      : parser(body, limit), index(number) {}

  Phase phase = Phase::kFree;
  Transport transport;
  HttpResponseParser parser;
  std::uint32_t index;
  std::uint32_t generation = 0;  // counts openings: tells stale events from ours
  // The request that it carries.
  Instant intended;
  Instant sent;
  std::uint64_t sequence = 0;
  base::WallTime arrived{};  // the last bytes of the answer
  bool took_bytes = false;
  bool reused = false;
  bool tainted = false;  // must not carry another request
  std::string unsent;    // what the kernel has not taken yet
  std::size_t addresses_tried = 0;
  Instant idle_since;
  Connection* previous = nullptr;
  Connection* next = nullptr;
};

// An intrusive list; a connection is in at most one.
struct ConnectionList {
  Connection* first = nullptr;
  Connection* last = nullptr;
  int size = 0;

  void push_back(Connection* c) {
    c->previous = last;
    c->next = nullptr;
    (last != nullptr ? last->next : first) = c;
    last = c;
    ++size;
  }
  void push_front(Connection* c) {
    c->next = first;
    c->previous = nullptr;
    (first != nullptr ? first->previous : last) = c;
    first = c;
    ++size;
  }
  void remove(Connection* c) {
    (c->previous != nullptr ? c->previous->next : first) = c->next;
    (c->next != nullptr ? c->next->previous : last) = c->previous;
    c->previous = c->next = nullptr;
    --size;
  }
};

class EpollLoadGenerator final : public LoadGenerator {
 public:
  EpollLoadGenerator(LoadOptions options, LoadSink& sink, base::UniqueFd epoll,
                     base::WakeUp wake_up)
      : options_(std::move(options)),
        sink_(sink),
        epoll_(std::move(epoll)),
        wake_up_(std::move(wake_up)),
        grouped_(options_.schedule.peak_rate() >= kGroupingRate && options_.tls == nullptr),
        buffer_(std::make_unique<char[]>(kReceiveBuffer)) {}

  void run(std::stop_token stop) override;

 private:
  Instant now() const { return options_.clock.now(); }
  void advance_schedule();
  void launch_due();
  void launch(Instant intended);
  void expire();
  void close_long_idle(Instant at);
  void wait();
  void handle(const epoll_event& event);

  void open(Connection* c);
  void connected(Connection* c);
  void shake_hands(Connection* c);
  void send_request(Connection* c);
  void send_rest(Connection* c);
  void lost_while_sending(Connection* c);
  enum class Peer { kThere, kHungUp };
  void receive(Connection* c, Peer peer);
  void on_idle_event(Connection* c);
  bool drained(Connection* c);
  Instant done_at(const Connection& c, Outcome outcome) const;
  bool sleep_to_grid(Instant at, Instant until) const;
  void finish(Connection* c, Outcome outcome);
  void finish_unsent(Connection* c, Outcome outcome);
  void give_up_as_dropped(Connection* c);
  void close(Connection* c);

  LoadOptions options_;
  LoadSink& sink_;
  base::UniqueFd epoll_;
  base::WakeUp wake_up_;
  bool grouped_;
  std::unique_ptr<char[]> buffer_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::vector<Connection*> free_;
  ConnectionList idle_;       // most recently used first
  ConnectionList in_flight_;  // by intended time: all have the same timeout
  std::optional<Instant> next_intended_;
  std::uint64_t next_sequence_ = 0;
  std::shared_ptr<const SocketAddresses> addresses_;
  std::size_t address_ = 0;  // the one that accepted last
  Instant last_breath_{};
};

// Asks the scheduler for short turns that come soon (Linux 6.12: sched_runtime of a normal thread
// is the length of its turn; older kernels ignore it). The share of the processor stays what it
// was, and no privilege is needed. Struct and number as in sched_setattr(2), which glibc does not
// wrap.
void ask_for_short_turns() {
  struct {
    std::uint32_t size;
    std::uint32_t policy;
    std::uint64_t flags;
    std::int32_t nice;
    std::uint32_t priority;
    std::uint64_t runtime;
    std::uint64_t deadline;
    std::uint64_t period;
  } attributes{};
  attributes.size = sizeof attributes;
  if (syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) != 0) return;
  if (attributes.policy != SCHED_OTHER) return;
  attributes.runtime = 100'000;  // nanoseconds, the shortest that is taken
  syscall(SYS_sched_setattr, 0, &attributes, 0);
}

void EpollLoadGenerator::run(std::stop_token stop) {
  block_broken_pipe_signal();
  ask_for_short_turns();
  // The default slack of 50 us would be half of an interval at 10,000/s.
  prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0);
  addresses_ = options_.resolver.addresses();
  const std::stop_callback wake(stop, [this] { wake_up_.signal(); });
  advance_schedule();
  while (true) {
    if (stop.stop_requested()) next_intended_.reset();
    if (stop.stop_requested() && in_flight_.first == nullptr) break;
    launch_due();
    expire();
    wait();
  }
  while (idle_.first != nullptr) {
    Connection* c = idle_.first;
    idle_.remove(c);
    close(c);
  }
  sink_.breathe();
}

void EpollLoadGenerator::advance_schedule() {
  const std::optional<Duration> offset = options_.schedule.next();
  if (offset) {
    next_intended_ =
        options_.start + (grouped_ ? *offset / kGroupingGrid * kGroupingGrid : *offset);
  } else {
    next_intended_.reset();
  }
}

void EpollLoadGenerator::launch_due() {
  for (int sends = 0; next_intended_ && sends < kSendsInARow; ++sends) {
    if (*next_intended_ > now()) return;
    const Instant intended = *next_intended_;
    advance_schedule();
    launch(intended);
  }
}

void EpollLoadGenerator::launch(Instant intended) {
  const std::uint64_t sequence = next_sequence_++;
  Connection* c = idle_.first;
  const bool reused = c != nullptr;
  const Instant at = now();
  // Too late to send: this process was stopped or starved for longer than the timeout.
  if (intended + options_.timeout <= at) return sink_.dropped(intended);
  if (reused) {
    idle_.remove(c);
  } else {
    if (in_flight_.size >= options_.in_flight) return sink_.dropped(intended);
    if (free_.empty()) {
      connections_.push_back(std::make_unique<Connection>(
          options_.body, options_.response_limit, static_cast<std::uint32_t>(connections_.size())));
      free_.push_back(connections_.back().get());
    }
    c = free_.back();
    free_.pop_back();
  }
  c->intended = intended;
  c->sent = at;
  c->sequence = sequence;
  c->arrived = {};
  c->took_bytes = false;
  c->reused = reused;
  c->addresses_tried = 0;
  in_flight_.push_back(c);
  if (reused) {
    send_request(c);
  } else {
    open(c);
  }
}

void EpollLoadGenerator::open(Connection* c) {
  ConnectFailure failure;
  while (c->addresses_tried < addresses_->size()) {
    const std::size_t index = (address_ + c->addresses_tried) % addresses_->size();
    ++c->addresses_tried;
    std::optional<PendingConnect> pending = start_connect((*addresses_)[index], failure);
    if (!pending) {
      if (failure.ours()) return give_up_as_dropped(c);
      continue;
    }
    ++c->generation;
    c->transport = Transport(std::move(pending->fd), options_.tls);
    if (options_.tls == nullptr) c->transport.stamp_arrivals();
    epoll_event event{};
    event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    event.data.u64 = (std::uint64_t{c->generation} << 32) | c->index;
    if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, c->transport.fd(), &event) != 0) {
      return give_up_as_dropped(c);
    }
    c->phase = Connection::Phase::kConnecting;
    if (!pending->in_progress) connected(c);
    return;
  }
  options_.resolver.refresh();
  addresses_ = options_.resolver.addresses();
  address_ %= addresses_->size();
  finish_unsent(c, Outcome::kConnect);
}

void EpollLoadGenerator::connected(Connection* c) {
  address_ = (address_ + c->addresses_tried - 1) % addresses_->size();
  if (options_.tls == nullptr) return send_request(c);
  c->phase = Connection::Phase::kHandshaking;
  shake_hands(c);
}

void EpollLoadGenerator::shake_hands(Connection* c) {
  switch (c->transport.handshake().state) {
    case IoState::kDone:
      return send_request(c);
    case IoState::kWantRead:
    case IoState::kWantWrite:
      return;
    default:
      return finish_unsent(c, Outcome::kTls);
  }
}

void EpollLoadGenerator::send_request(Connection* c) {
  c->parser.start(options_.request.head() ? HttpResponseParser::Request::kHead
                                          : HttpResponseParser::Request::kOther);
  c->unsent.clear();
  c->tainted = false;
  c->phase = Connection::Phase::kSending;
  const std::string_view bytes = options_.request.render(c->sequence);
  const IoResult result = c->transport.send(bytes);
  // TLS may have sent a part of a record even when it asks to try again.
  if (result.state == IoState::kDone || options_.tls != nullptr) c->took_bytes = true;
  if (result.state == IoState::kDone && result.bytes == bytes.size()) {
    c->phase = Connection::Phase::kReceiving;
    return;
  }
  if (result.state == IoState::kLost || result.state == IoState::kTls) return lost_while_sending(c);
  c->unsent.assign(bytes.substr(result.bytes));
  if (result.state == IoState::kDone) send_rest(c);
}

void EpollLoadGenerator::send_rest(Connection* c) {
  while (!c->unsent.empty()) {
    const IoResult result = c->transport.send(c->unsent);
    if (result.state == IoState::kWantRead || result.state == IoState::kWantWrite) return;
    if (result.state != IoState::kDone) return lost_while_sending(c);
    c->took_bytes = true;
    c->unsent.erase(0, result.bytes);
  }
  c->phase = Connection::Phase::kReceiving;
}

// The peer has closed while we were sending. It may have answered before (413, 503), so that what
// arrived is read first.
void EpollLoadGenerator::lost_while_sending(Connection* c) {
  if (!c->took_bytes && c->reused) {
    c->reused = false;
    c->addresses_tried = 0;
    c->transport.close();
    return open(c);
  }
  c->phase = Connection::Phase::kReceiving;
  receive(c, Peer::kHungUp);
  if (c->phase == Connection::Phase::kReceiving) finish(c, Outcome::kReset);
}

void EpollLoadGenerator::receive(Connection* c, Peer peer) {
  while (true) {
    const IoResult result = c->transport.receive(buffer_.get(), kReceiveBuffer);
    if (result.state == IoState::kWantRead || result.state == IoState::kWantWrite) return;
    if (result.state == IoState::kClosed && c->parser.end_of_stream()) {
      return finish(c, Outcome::kOk);
    }
    if (result.state != IoState::kDone) return finish(c, Outcome::kReset);
    c->arrived = result.arrived;
    const std::size_t used = c->parser.feed({buffer_.get(), result.bytes});
    switch (c->parser.state()) {
      case ResponseState::kMalformed:
        return finish(c, Outcome::kProtocol);
      case ResponseState::kTooLarge:
        return finish(c, Outcome::kBadBody);
      case ResponseState::kComplete: {
        // Bytes beyond the response answer nothing that we asked; with a full buffer there may be
        // some that we have not seen.
        c->tainted =
            used != result.bytes || result.bytes == kReceiveBuffer || peer == Peer::kHungUp;
        return finish(c, Outcome::kOk);
      }
      case ResponseState::kMore:
        break;
    }
    // A read that did not fill the buffer has emptied the socket (epoll(7)), but the end of the
    // stream that came with the same event would not be announced again.
    if (options_.tls == nullptr && result.bytes < kReceiveBuffer && peer == Peer::kThere) return;
  }
}

// Whether nothing is left to read: with edge-triggered events nobody would tell us again.
bool EpollLoadGenerator::drained(Connection* c) {
  if (options_.tls == nullptr) return true;
  char byte = 0;
  return c->transport.receive(&byte, 1).state == IoState::kWantRead;
}

// The kernel's stamp is on the wall clock, which may be set at any moment: a stamp that does not
// lie between sending and now is not believed.
Instant EpollLoadGenerator::done_at(const Connection& c, Outcome outcome) const {
  const Instant at = now();
  if (outcome != Outcome::kOk || c.arrived == base::WallTime{}) return at;
  const Instant stamped = at - (options_.clock.wall_now() - c.arrived);
  return stamped > c.sent && stamped < at ? stamped : at;
}

void EpollLoadGenerator::finish(Connection* c, Outcome outcome) {
  in_flight_.remove(c);
  Exchange exchange{.intended = c->intended,
                    .sent = c->sent,
                    .done = done_at(*c, outcome),
                    .outcome = outcome,
                    .took_bytes = c->took_bytes,
                    .sequence = c->sequence,
                    .response = outcome == Outcome::kOk ? &c->parser : nullptr};
  sink_.completed(exchange);
  if (outcome != Outcome::kOk || c->tainted || !c->parser.reusable() || !drained(c))
    return close(c);
  c->phase = Connection::Phase::kIdle;
  c->idle_since = exchange.done;
  idle_.push_front(c);
}

void EpollLoadGenerator::finish_unsent(Connection* c, Outcome outcome) {
  c->took_bytes = false;
  finish(c, outcome);
}

// The failure is on this side: the target never saw the request.
void EpollLoadGenerator::give_up_as_dropped(Connection* c) {
  in_flight_.remove(c);
  const Instant intended = c->intended;
  close(c);
  sink_.dropped(intended);
}

void EpollLoadGenerator::close(Connection* c) {
  c->transport.close();  // which also takes it out of the epoll set
  c->phase = Connection::Phase::kFree;
  free_.push_back(c);
}

void EpollLoadGenerator::expire() {
  if (in_flight_.first == nullptr && idle_.last == nullptr) return;
  const Instant at = now();
  while (in_flight_.first != nullptr && in_flight_.first->intended + options_.timeout <= at) {
    Connection* c = in_flight_.first;
    if (c->phase == Connection::Phase::kConnecting) {
      options_.resolver.refresh();
      addresses_ = options_.resolver.addresses();
      address_ = 0;
      finish_unsent(c, Outcome::kConnect);
    } else if (c->phase == Connection::Phase::kHandshaking) {
      finish_unsent(c, Outcome::kTimeout);
    } else {
      finish(c, Outcome::kTimeout);
    }
  }
  close_long_idle(at);
}

void EpollLoadGenerator::close_long_idle(Instant at) {
  while (idle_.last != nullptr && at - idle_.last->idle_since > kIdleLimit) {
    Connection* c = idle_.last;
    idle_.remove(c);
    close(c);
  }
}

void EpollLoadGenerator::on_idle_event(Connection* c) {
  char byte = 0;
  const IoResult result = c->transport.receive(&byte, 1);
  if (result.state == IoState::kWantRead || result.state == IoState::kWantWrite) return;
  idle_.remove(c);
  close(c);
}

void EpollLoadGenerator::handle(const epoll_event& event) {
  if (event.data.u64 == kWakeUpTag) return wake_up_.clear();
  const auto index = static_cast<std::uint32_t>(event.data.u64);
  Connection* c = connections_[index].get();
  if (c->generation != static_cast<std::uint32_t>(event.data.u64 >> 32)) return;
  const Peer peer = (event.events & (EPOLLRDHUP | EPOLLHUP)) != 0 ? Peer::kHungUp : Peer::kThere;
  switch (c->phase) {
    case Connection::Phase::kFree:
      return;
    case Connection::Phase::kConnecting: {
      int error = 0;
      socklen_t length = sizeof error;
      getsockopt(c->transport.fd(), SOL_SOCKET, SO_ERROR, &error, &length);
      if (error != 0 || (event.events & EPOLLOUT) == 0) {
        c->transport.close();
        return open(c);  // the next address, or the end
      }
      return connected(c);
    }
    case Connection::Phase::kHandshaking:
      return shake_hands(c);
    case Connection::Phase::kIdle:
      return on_idle_event(c);
    case Connection::Phase::kSending:
      // A response before the request is out (413) ends it as well.
      if ((event.events & EPOLLOUT) != 0 || options_.tls != nullptr) send_rest(c);
      if (c->phase == Connection::Phase::kFree || (event.events & (EPOLLIN | EPOLLRDHUP)) == 0) {
        return;
      }
      if (c->phase == Connection::Phase::kSending || c->phase == Connection::Phase::kReceiving) {
        receive(c, peer);
      }
      return;
    case Connection::Phase::kReceiving:
      if ((event.events & ~static_cast<std::uint32_t>(EPOLLOUT)) == 0 && options_.tls == nullptr) {
        return;  // writable is no news while we wait for the answer
      }
      return receive(c, peer);
  }
}

// Waits for the next step without being woken by answers. False when there is nothing to wait for
// in this way.
bool EpollLoadGenerator::sleep_to_grid(Instant at, Instant until) const {
  if (!grouped_ || in_flight_.first == nullptr || until <= at) return false;
  const std::int64_t target = base::to_nanoseconds(std::min(until, at + kGroupingGrid));
  const timespec time{.tv_sec = static_cast<time_t>(target / 1'000'000'000),
                      .tv_nsec = static_cast<long>(target % 1'000'000'000)};
  return clock_nanosleep(CLOCK_BOOTTIME, TIMER_ABSTIME, &time, nullptr) == 0;
}

void EpollLoadGenerator::wait() {
  const Instant at = now();
  Instant until = at + kLongestWait;
  if (next_intended_) until = std::min(until, *next_intended_);
  if (in_flight_.first != nullptr) {
    until = std::min(until, in_flight_.first->intended + options_.timeout);
  }
  const bool slept = sleep_to_grid(at, until);
  const Duration left = slept ? Duration::zero() : std::max(Duration::zero(), until - at);
  const timespec timeout{.tv_sec = static_cast<time_t>(left.count() / 1'000'000'000),
                         .tv_nsec = static_cast<long>(left.count() % 1'000'000'000)};
  std::array<epoll_event, kEventsPerWait> events;
  const int ready = epoll_pwait2(epoll_.get(), events.data(), kEventsPerWait, &timeout, nullptr);
  for (int i = 0; i < ready; ++i) handle(events[static_cast<std::size_t>(i)]);
  if (at - last_breath_ >= kBreath) {
    last_breath_ = at;
    sink_.breathe();
  }
}

}  // namespace

base::Result<std::unique_ptr<LoadGenerator>> LoadGenerator::create(LoadOptions options,
                                                                   LoadSink& sink) {
  const auto addresses = options.resolver.addresses();
  if (addresses == nullptr || addresses->empty()) {
    return base::Error{.code = base::ErrorCode::kUnavailable,
                       .message = options.resolver.host() + " has no known address",
                       .hint = "check the name in the system map, or write the IP address"};
  }
  base::UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return base::system_error("epoll_create1", errno);
  // The wait needs nanoseconds: Linux 5.11. Asked once here, so that the loop need not.
  epoll_event none{};
  const timespec at_once{};
  if (epoll_pwait2(epoll.get(), &none, 1, &at_once, nullptr) < 0) {
    return base::Error{.code = base::ErrorCode::kUnsupported,
                       .message = "this kernel has no epoll_pwait2",
                       .hint = "the load generator needs Linux 5.11 or newer"};
  }
  SQUALL_ASSIGN(base::WakeUp wake_up, base::WakeUp::create());
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = kWakeUpTag;
  if (epoll_ctl(epoll.get(), EPOLL_CTL_ADD, wake_up.fd(), &event) != 0) {
    return base::system_error("epoll_ctl", errno);
  }
  return std::unique_ptr<LoadGenerator>(std::make_unique<EpollLoadGenerator>(
      std::move(options), sink, std::move(epoll), std::move(wake_up)));
}

int natural_in_flight(double peak_rate, base::Duration timeout) {
  const double wanted = std::ceil(peak_rate * base::to_seconds(timeout) * 1.1) + 16;
  return static_cast<int>(std::clamp(wanted, 16.0, 10'000.0));
}

int connections_within_descriptor_limit(int wanted) {
  constexpr rlim_t kOthers = 256;       // descriptors for everything else in this process
  constexpr rlim_t kGenerous = 65'536;  // for several probes at once
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return wanted;
  if (limit.rlim_cur < static_cast<rlim_t>(wanted) + kOthers && limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = std::min(limit.rlim_max, std::max(kGenerous, limit.rlim_cur));
    setrlimit(RLIMIT_NOFILE, &limit);
    getrlimit(RLIMIT_NOFILE, &limit);
  }
  const rlim_t room = limit.rlim_cur > kOthers ? limit.rlim_cur - kOthers : 16;
  return static_cast<int>(std::min<rlim_t>(static_cast<rlim_t>(wanted), room));
}

}  // namespace squall::observe
