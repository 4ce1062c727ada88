// The packet scheduler: takes packets out of the kernel's queues, lets the model decide what
// becomes of each, and gives the verdicts when they are due.

#include <fmt/format.h>
#include <linux/capability.h>
#include <poll.h>
#include <seccomp.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <queue>

#include "inject/json_fields.h"
#include "inject/network_namespace.h"
#include "inject/workers/confinement.h"
#include "inject/workers/packet_scheduler/copy_sender.h"
#include "inject/workers/packet_scheduler/delay_histogram.h"
#include "inject/workers/packet_scheduler/packet_fields.h"
#include "inject/workers/packet_scheduler/packet_model.h"
#include "inject/workers/packet_scheduler/packet_queue.h"
#include "inject/workers/quick_turns.h"
#include "inject/workers/workers.h"

namespace squall::inject {

namespace {

using base::Duration;
using base::Instant;
using base::Json;

constexpr std::array<int, 1> kCapabilities{CAP_NET_ADMIN};  // every verdict is checked for it
constexpr std::array<int, 1> kSystemCalls{SCMP_SYS(recvmmsg)};
constexpr std::uint32_t kMostQueues = 4;
constexpr std::uint32_t kMostPackets = 131'072;
// Then we sleep for a moment, so that others get a turn even under a flood.
constexpr Duration kLongestTurn = std::chrono::milliseconds(20);
constexpr timespec kNap{.tv_sec = 0, .tv_nsec = 1'000'000};

// What is to be done with one queue.
struct QueueWork {
  PacketModel model;
  bool repairs_checksum = false;
  std::uint64_t newest_passed = 0;  // number of the latest packet that passed
};

class PacketScheduler {
 public:
  PacketScheduler(PacketQueues queues, std::vector<QueueWork> work,
                  std::optional<CopySender> copies, bool quick, WorkerChannel& channel)
      : queues_(std::move(queues)),
        work_(std::move(work)),
        copies_(std::move(copies)),
        quick_(quick),
        channel_(channel) {}

  // Until the starter is gone.
  base::Status serve() {
    report("ready");
    while (true) {
      SQUALL_TRY(wait());
      if (!listen()) return {};
      SQUALL_TRY(queues_.receive([this](const QueuedPacket& packet) { take(packet); }));
      release_due();
      queues_.flush();
      report_in_time();
    }
  }

 private:
  struct Held {
    Instant due;
    std::uint64_t order = 0;
    Instant arrived;
    std::uint32_t id = 0;
    std::uint16_t queue = 0;
    bool operator>(const Held& other) const {
      return due != other.due ? due > other.due : order > other.order;
    }
  };

  base::Status wait() {
    Instant until = next_report_;
    if (!held_.empty()) until = std::min(until, held_.top().due);
    const Duration left = std::max(Duration::zero(), until - base::BootClock::now());
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
    const timespec timeout{.tv_sec = seconds.count(), .tv_nsec = (left - seconds).count()};
    requests_ = {{{.fd = queues_.fd(), .events = POLLIN, .revents = 0},
                  {.fd = channel_.fd(), .events = POLLIN, .revents = 0}}};
    // Nothing to do now: the kernel counts that as the end of our turn.
    if (::poll(requests_.data(), requests_.size(), 0) == 0 && left > Duration::zero()) {
      if (::ppoll(requests_.data(), requests_.size(), &timeout, nullptr) < 0 && errno != EINTR)
        return base::system_error("wait for packets", errno);
      turn_began_ = base::BootClock::now();
    } else if (base::BootClock::now() - turn_began_ > kLongestTurn) {
      ::nanosleep(&kNap, nullptr);
      turn_began_ = base::BootClock::now();
    }
    return {};
  }

  bool listen() {
    if (requests_[1].revents == 0) return true;
    const auto heard = channel_.hear();
    if (!heard.ok()) return false;
    if (*heard == "drain") drain();
    return true;
  }

  // Everything passes at once from now on, in the order in which it came.
  void drain() {
    draining_ = true;
    const auto received = queues_.receive([this](const QueuedPacket& packet) { take(packet); });
    std::vector<Held> rest;
    for (; !held_.empty(); held_.pop()) rest.push_back(held_.top());
    std::sort(rest.begin(), rest.end(),
              [](const Held& a, const Held& b) { return a.order < b.order; });
    for (const Held& packet : rest) queues_.accept(packet.queue, packet.id);
    drained_ = rest.size();
    queues_.flush();
    report(received.ok() ? "drained" : "failed");
  }

  void take(const QueuedPacket& packet) {
    const Instant now = base::BootClock::now();
    ++received_;
    if (draining_) return queues_.accept(packet.queue, packet.id);
    QueueWork& work = work_[packet.queue];
    const PacketFate fate = work.model.decide(flow_of(packet.start), packet.bytes, now);
    if (fate.dropped) {
      ++dropped_;
      return queues_.drop(packet.queue, packet.id);
    }
    if (fate.due <= now) {
      ++passed_;
      work.newest_passed = received_;
      return pass_now(packet, fate);
    }
    held_.push({.due = fate.due,
                .order = received_,
                .arrived = now,
                .id = packet.id,
                .queue = packet.queue});
  }

  void pass_now(const QueuedPacket& packet, const PacketFate& fate) {
    const bool whole = packet.start.size() == packet.bytes;
    bool changed = false;
    if (fate.corrupted && whole) {
      changed_.assign(packet.start.begin(), packet.start.end());
      changed = corrupt(changed_, *fate.corrupted, work_[packet.queue].repairs_checksum);
    }
    if (changed) {
      ++corrupted_;
      queues_.accept_changed(packet.queue, packet.id, changed_);
    } else {
      queues_.accept(packet.queue, packet.id);
    }
    if (fate.duplicated && whole && copies_) {
      queues_.flush();  // the packet before its copy
      if (copies_->send(packet.start)) ++duplicated_;
    }
  }

  void release_due() {
    if (held_.empty()) return;
    const Instant now = base::BootClock::now();
    while (!held_.empty() && held_.top().due <= now) {
      const Held& packet = held_.top();
      queues_.accept(packet.queue, packet.id);
      lateness_.add(now - packet.due);
      delays_.add(now - packet.arrived);
      std::uint64_t& newest = work_[packet.queue].newest_passed;
      if (newest > packet.order) ++overtaken_;
      newest = std::max(newest, packet.order);
      held_.pop();
    }
  }

  void report_in_time() {
    // The fault waits for its effect, whichever it is.
    const int effects = (delays_.count() > 0) + (dropped_ > 0) + (duplicated_ > 0) +
                        (corrupted_ > 0) + (overtaken_ > 0);
    if (effects > effects_told_) next_report_ = base::BootClock::now();
    effects_told_ = effects;
    if (base::BootClock::now() >= next_report_) report(draining_ ? "drained" : "running");
  }

  void report(const char* state) {
    next_report_ = base::BootClock::now() + kReportEvery;
    channel_.report({{"state", state},
                     {"number", ++reports_},
                     {"real_time", quick_},
                     {"first_queue", queues_.first()},
                     {"received", received_},
                     {"held", held_.size()},
                     {"delayed", delays_.count()},
                     {"passed", passed_},
                     {"dropped", dropped_},
                     {"duplicated", duplicated_},
                     {"corrupted", corrupted_},
                     {"overtaken", overtaken_},
                     {"drained", drained_},
                     {"vanished", queues_.vanished()},
                     {"delay_p50_ns", delays_.quantile(0.5).count()},
                     {"delay_p99_ns", delays_.quantile(0.99).count()},
                     {"late_p50_ns", lateness_.quantile(0.5).count()},
                     {"late_p99_ns", lateness_.quantile(0.99).count()},
                     {"late_longest_ns", lateness_.longest().count()}});
  }

  PacketQueues queues_;
  std::vector<QueueWork> work_;  // one a queue
  std::optional<CopySender> copies_;
  bool quick_;
  WorkerChannel& channel_;
  std::array<pollfd, 2> requests_{};
  std::priority_queue<Held, std::vector<Held>, std::greater<>> held_;
  bool draining_ = false;
  Instant turn_began_ = base::BootClock::now();
  Instant next_report_ = base::BootClock::now();
  std::uint64_t reports_ = 0;
  std::uint64_t received_ = 0;
  std::uint64_t passed_ = 0;
  std::uint64_t dropped_ = 0;
  std::uint64_t duplicated_ = 0;
  std::uint64_t corrupted_ = 0;
  std::uint64_t overtaken_ = 0;  // held packets that came after later ones
  int effects_told_ = 0;
  std::vector<std::uint8_t> changed_;
  std::uint64_t drained_ = 0;
  DelayHistogram delays_;    // from arrival to verdict
  DelayHistogram lateness_;  // from the moment due to the verdict
};

// {"profiles": [one a queue], "seed": N, "limit": packets}
base::Status run_packet_scheduler(const Json& configuration, WorkerChannel& channel) {
  const Json& list = field(configuration, "profiles");
  const std::uint64_t seed = unsigned_field(configuration, "seed");
  const std::uint64_t limit = unsigned_field(configuration, "limit");
  if (!list.is_array() || list.empty() || list.size() > kMostQueues || limit == 0 ||
      limit > kMostPackets) {
    return base::Error{.code = base::ErrorCode::kCorrupt,
                       .message = "the packet scheduler's configuration makes no sense"};
  }
  if (const auto place = namespace_from_json(field(configuration, "network_namespace")))
    SQUALL_TRY(move_to_namespace(*place));
  PacketQueueOptions options;
  options.queues = static_cast<std::uint16_t>(list.size());
  options.limit = static_cast<std::uint32_t>(limit);
  std::vector<QueueWork> work;
  std::optional<CopySender> copies;
  for (const Json& item : list) {
    SQUALL_ASSIGN(const PacketProfile profile, profile_from_json(item));
    work.push_back({.model = PacketModel{profile, seed + work.size()},
                    .repairs_checksum = profile.repairs_checksum});
    options.whole = options.whole || profile.needs_whole_packets();
    if (profile.duplicated_share > 0 && !copies) {
      SQUALL_ASSIGN(copies, CopySender::open());
    }
  }
  SQUALL_ASSIGN(PacketQueues queues, PacketQueues::open(options));
  const bool quick = ask_for_quick_turns();
  SQUALL_TRY(confine({.capabilities = kCapabilities, .system_calls = kSystemCalls}));
  PacketScheduler scheduler{std::move(queues), std::move(work), std::move(copies), quick, channel};
  return scheduler.serve();
}

}  // namespace

extern const Worker kPacketScheduler;
const Worker kPacketScheduler{.name = "packet_scheduler", .run = run_packet_scheduler};

}  // namespace squall::inject
