// Answers questions to name servers in their stead: takes them out of a packet queue, reads them,
// and lets pass untouched whatever the pattern does not name.

#include <arpa/inet.h>
#include <fmt/format.h>
#include <linux/capability.h>
#include <poll.h>
#include <seccomp.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <deque>

#include "base/clock.h"
#include "inject/faults/network/nft_table.h"
#include "inject/json_fields.h"
#include "inject/network_namespace.h"
#include "inject/workers/confinement.h"
#include "inject/workers/dns_answers/dns_message.h"
#include "inject/workers/packet_scheduler/copy_sender.h"
#include "inject/workers/packet_scheduler/packet_queue.h"
#include "inject/workers/workers.h"

namespace squall::inject {

namespace {

using base::Duration;
using base::Instant;
using base::Json;

constexpr std::array<int, 1> kCapabilities{CAP_NET_ADMIN};  // every verdict is checked for it
constexpr std::array<int, 1> kSystemCalls{SCMP_SYS(recvmmsg)};
constexpr std::uint32_t kMostWaiting = 8192;
constexpr std::size_t kMostAddresses = 16;
constexpr Duration kLongestDelay = std::chrono::seconds(60);

enum class Answer { kNoSuchName, kServerFailed, kTimeout, kDelay, kSpoof };

struct Work {
  DnsPattern pattern;
  Answer answer = Answer::kTimeout;
  Duration delay{};
  std::vector<std::vector<std::uint8_t>> addresses;
};

class DnsAnswers {
 public:
  DnsAnswers(PacketQueues queues, CopySender sender, Work work, WorkerChannel& channel)
      : queues_(std::move(queues)),
        sender_(std::move(sender)),
        work_(std::move(work)),
        channel_(channel) {}

  // Until the starter is gone.
  base::Status serve() {
    report("ready");
    while (true) {
      SQUALL_TRY(wait());
      const auto heard = channel_.hear();
      if (!heard.ok()) return {};
      if (*heard == "drain") drain();
      SQUALL_TRY(queues_.receive([this](const QueuedPacket& packet) { take(packet); }));
      release_due();
      queues_.flush();
      send_answers();
      if (answered_ + dropped_ + delayed_ > 0 && !std::exchange(told_, true))
        next_report_ = base::BootClock::now();  // the fault waits for its effect
      if (base::BootClock::now() >= next_report_) report(draining_ ? "drained" : "running");
    }
  }

 private:
  struct Held {
    Instant due;
    std::uint32_t id = 0;
  };

  base::Status wait() const {
    Instant until = next_report_;
    if (!held_.empty()) until = std::min(until, held_.front().due);
    const Duration left = std::clamp(until - base::BootClock::now(), Duration{}, kReportEvery);
    const timespec timeout{.tv_sec = 0, .tv_nsec = left.count()};
    std::array<pollfd, 2> requests{{{.fd = queues_.fd(), .events = POLLIN, .revents = 0},
                                    {.fd = channel_.fd(), .events = POLLIN, .revents = 0}}};
    if (::ppoll(requests.data(), requests.size(), &timeout, nullptr) < 0 && errno != EINTR)
      return base::system_error("wait for packets", errno);
    return {};
  }

  // Everything passes at once from now on.
  void drain() {
    draining_ = true;
    for (const Held& packet : held_) queues_.accept(0, packet.id);
    held_.clear();
    queues_.flush();
    report("drained");
  }

  void take(const QueuedPacket& packet) {
    ++received_;
    const auto payload = udp_payload(packet.start);
    const auto question = payload ? read_dns_question(*payload) : std::nullopt;
    if (draining_ || !question || !work_.pattern.matches(*question) || !concerns(*question)) {
      ++passed_;
      return queues_.accept(0, packet.id);
    }
    last_ = question->text();
    if (work_.answer == Answer::kDelay) {
      ++delayed_;
      // All wait equally long, so they are due in their order.
      held_.push_back({.due = base::BootClock::now() + work_.delay, .id = packet.id});
      return;
    }
    queues_.drop(0, packet.id);
    if (work_.answer == Answer::kTimeout) {
      ++dropped_;
      return;
    }
    const DnsCode code = work_.answer == Answer::kNoSuchName     ? DnsCode::kNoSuchName
                         : work_.answer == Answer::kServerFailed ? DnsCode::kServerFailed
                                                                 : DnsCode::kFine;
    answers_.push_back(
        make_udp_reply(packet.start, make_dns_answer(*payload, *question, code, work_.addresses)));
  }

  // Other addresses than the true ones can only be told to who asks for addresses.
  bool concerns(const DnsQuestion& question) const {
    return work_.answer != Answer::kSpoof || question.type == kDnsTypeA ||
           question.type == kDnsTypeAaaa;
  }

  void release_due() {
    const Instant now = base::BootClock::now();
    for (; !held_.empty() && held_.front().due <= now; held_.pop_front())
      queues_.accept(0, held_.front().id);
  }

  void send_answers() {
    for (const auto& answer : answers_) ++(sender_.send(answer) ? answered_ : unsent_);
    answers_.clear();
  }

  void report(const char* state) {
    next_report_ = base::BootClock::now() + kReportEvery;
    channel_.report({{"state", state},
                     {"number", ++reports_},
                     {"first_queue", queues_.first()},
                     {"received", received_},
                     {"passed", passed_},
                     {"matched", answered_ + dropped_ + delayed_},
                     {"answered", answered_},
                     {"dropped", dropped_},
                     {"held", held_.size()},
                     {"held_back", delayed_},
                     {"unsent", unsent_},
                     {"last", last_}});
  }

  PacketQueues queues_;
  CopySender sender_;
  Work work_;
  WorkerChannel& channel_;
  std::deque<Held> held_;
  std::vector<std::vector<std::uint8_t>> answers_;
  bool draining_ = false;
  bool told_ = false;
  std::uint64_t received_ = 0;
  std::uint64_t passed_ = 0;
  std::uint64_t answered_ = 0;
  std::uint64_t dropped_ = 0;
  std::uint64_t delayed_ = 0;
  std::uint64_t unsent_ = 0;
  std::string last_;  // name that was asked for
  Instant next_report_;
  std::uint64_t reports_ = 0;
};

base::Result<Work> work_from(const Json& configuration) {
  constexpr std::array<std::string_view, 5> kAnswers{"nxdomain", "servfail", "timeout", "delay",
                                                     "spoof"};
  const base::Error wrong{.code = base::ErrorCode::kCorrupt,
                          .message = "the configuration of the DNS answers makes no sense"};
  Work work;
  SQUALL_ASSIGN(work.pattern, DnsPattern::parse(text_field(configuration, "name")));
  const std::string answer = text_field(configuration, "answer");
  const auto* found = std::find(kAnswers.begin(), kAnswers.end(), answer);
  if (found == kAnswers.end()) return wrong;
  work.answer = static_cast<Answer>(found - kAnswers.begin());
  work.delay = Duration{integer_field(configuration, "delay_ns")};
  if (work.delay < Duration{} || work.delay > kLongestDelay) return wrong;
  for (const std::string& text : texts_field(configuration, "addresses")) {
    SQUALL_ASSIGN(const PacketEndpoint endpoint, PacketEndpoint::parse(text, 0));
    if (endpoint.address.empty() || work.addresses.size() == kMostAddresses) return wrong;
    work.addresses.push_back(endpoint.address);
  }
  return work;
}

// {"name": pattern, "answer": one of kAnswers, "delay_ns", "addresses": [texts]}
base::Status run_dns_answers(const Json& configuration, WorkerChannel& channel) {
  SQUALL_ASSIGN(Work work, work_from(configuration));
  if (const auto place = namespace_from_json(field(configuration, "network_namespace")))
    SQUALL_TRY(move_to_namespace(*place));
  SQUALL_ASSIGN(CopySender sender, CopySender::open());
  SQUALL_ASSIGN(PacketQueues queues,
                PacketQueues::open({.queues = 1, .limit = kMostWaiting, .whole = true}));
  SQUALL_TRY(confine({.capabilities = kCapabilities, .system_calls = kSystemCalls}));
  return DnsAnswers{std::move(queues), std::move(sender), std::move(work), channel}.serve();
}

}  // namespace

extern const Worker kDnsAnswers;
const Worker kDnsAnswers{.name = "dns_answers", .run = run_dns_answers};

}  // namespace squall::inject
