// How exact and how fast the packet scheduler is, with real packets through the loopback interface:
// one-way error of a delay, TCP throughput through it, and loss at 100,000 packets/s. Rounds of all
// measurements are interleaved; each figure is the median of its rounds.
//   packet_delay_bench [ROUNDS]

#include <arpa/inet.h>
#include <fmt/format.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <map>
#include <thread>

#include "base/units.h"
#include "figures.h"
#include "host/host.h"
#include "inject/faults/network/scheduled_fault.h"
#include "inject/json_fields.h"
#include "loopback_channel.h"

namespace {

using namespace squall;  // NOLINT: a program of its own
using namespace std::chrono_literals;
using base::BootClock;
using base::Duration;
using base::Instant;

class BenchContext final : public inject::FaultContext {
 public:
  explicit BenchContext(inject::Programs& programs)
      : programs_(programs), lease_(base::LeaseId::generate()) {}
  base::Status note(const base::Json&) override { return {}; }
  const host::Host& host() override { return host::real_host(); }
  inject::Programs& programs() override { return programs_; }
  base::Status check_process(const base::ProcessIdentity&) const override { return {}; }
  uid_t caller() const override { return 0; }
  base::LeaseId lease() const override { return lease_; }

 private:
  inject::Programs& programs_;
  base::LeaseId lease_;
};

[[noreturn]] void give_up(const std::string& why) {
  std::fprintf(stderr, "packet_delay_bench: %s\n", why.c_str());
  std::exit(1);
}

// The delay, in force on one port, for as long as it lives.
class Delay {
 public:
  Delay(inject::Programs& programs, std::uint16_t port, bool tcp, Duration delay)
      : context_(programs) {
    inject::PacketRule rule;
    rule.chain = inject::PacketRule::Chain::kArriving;
    rule.action = inject::PacketRule::Action::kQueue;
    rule.protocol = tcp ? inject::PacketRule::Protocol::kTcp : inject::PacketRule::Protocol::kUdp;
    rule.loopback = true;
    rule.destination = inject::PacketEndpoint{.address = {127, 0, 0, 1}, .port = port};
    inject::PacketProfile profile;
    profile.delay = delay;
    fault_ =
        std::make_unique<inject::ScheduledFault>("packets", std::vector{rule}, std::vector{profile},
                                                 1, "delayed", inject::Marking{}, context_);
    if (auto armed = drive(*fault_, &inject::Fault::arm, 10s); !armed.ok())
      give_up(armed.error().to_string());
  }
  ~Delay() {
    const auto reverted = drive(*fault_, &inject::Fault::revert, 10s);
    const auto verified = drive(*fault_, &inject::Fault::verify, 10s);
    if (!reverted.ok() || !verified.ok()) give_up("the delay does not go");
    report_ = reverted->proof;
  }
  Delay(const Delay&) = delete;
  Delay& operator=(const Delay&) = delete;
  static std::string last_report() { return report_; }

 private:
  static inline std::string report_;
  BenchContext context_;
  std::unique_ptr<inject::Fault> fault_;
};

// Who measures must not wait for a processor itself.
class Instrument {
 public:
  Instrument() { set(SCHED_FIFO, 2); }
  ~Instrument() { set(SCHED_OTHER, 0); }
  Instrument(const Instrument&) = delete;
  Instrument& operator=(const Instrument&) = delete;

 private:
  static void set(int policy, int priority) {
    const sched_param parameters{.sched_priority = priority};
    ::sched_setscheduler(0, policy, &parameters);  // of this thread
  }
};

// One-way errors in milliseconds of `count` packets, one every millisecond.
std::vector<double> one_way(const bench::Channel& channel, int count, Duration delay) {
  std::vector<double> errors;
  const Instrument sends;
  std::thread receiver{[&] {
    const Instrument receives;
    for (int i = 0; i < count; ++i) {
      pollfd request{.fd = channel.server.get(), .events = POLLIN, .revents = 0};
      if (::poll(&request, 1, 3000) <= 0) return;
      std::int64_t sent = 0;
      if (::recv(channel.server.get(), &sent, sizeof sent, 0) != sizeof sent) return;
      const Duration took = BootClock::now() - base::instant_from_nanoseconds(sent);
      errors.push_back(base::to_seconds(took - delay) * 1e3);
    }
  }};
  Instant next = BootClock::now();
  for (int i = 0; i < count; ++i) {
    next += 1ms;
    std::this_thread::sleep_for(next - BootClock::now());
    const std::int64_t now = base::to_nanoseconds(BootClock::now());
    if (::send(channel.client.get(), &now, sizeof now, 0) != sizeof now) give_up("cannot send");
  }
  receiver.join();
  return errors;
}

// Gbit/s that arrive within `time` after the first second.
double throughput(bench::Channel& channel, Duration time) {
  // Connected only now: BBR would go on for ten seconds with the round trip of before the delay.
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  name.sin_port = htons(channel.port);
  if (::connect(channel.client.get(), reinterpret_cast<sockaddr*>(&name), sizeof name) != 0)
    give_up("cannot connect");
  channel.server.reset(::accept4(channel.server.get(), nullptr, nullptr, SOCK_CLOEXEC));
  std::atomic<bool> over{false};
  std::thread sender{[&] {
    std::vector<char> data(256 * 1024);
    while (!over) {
      pollfd request{.fd = channel.client.get(), .events = POLLOUT, .revents = 0};
      ::poll(&request, 1, 100);
      [[maybe_unused]] const ssize_t sent =
          ::send(channel.client.get(), data.data(), data.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    }
  }};
  std::vector<char> data(1 << 20);
  const Instant start = BootClock::now();
  const Instant warm = start + 1s;
  double bytes = 0;
  while (BootClock::now() < warm + time) {
    pollfd request{.fd = channel.server.get(), .events = POLLIN, .revents = 0};
    if (::poll(&request, 1, 1000) <= 0) break;
    const ssize_t got = ::recv(channel.server.get(), data.data(), data.size(), 0);
    if (got <= 0) break;
    if (BootClock::now() >= warm) bytes += static_cast<double>(got);
  }
  over = true;
  ::shutdown(channel.server.get(), SHUT_RDWR);
  sender.join();
  return bytes * 8 / base::to_seconds(time) / 1e9;
}

// Share of packets that arrive, at `rate` a second for a second.
double delivered(const bench::Channel& channel, int rate) {
  std::atomic<int> received{0};
  std::atomic<bool> over{false};
  std::thread receiver{[&] {
    std::array<std::array<char, 64>, 64> data{};
    std::array<mmsghdr, 64> messages{};
    std::array<iovec, 64> places{};
    for (std::size_t i = 0; i < data.size(); ++i) {
      places[i] = {.iov_base = data[i].data(), .iov_len = data[i].size()};
      messages[i].msg_hdr.msg_iov = &places[i];
      messages[i].msg_hdr.msg_iovlen = 1;
    }
    while (!over || received < rate) {
      pollfd request{.fd = channel.server.get(), .events = POLLIN, .revents = 0};
      if (::poll(&request, 1, 500) <= 0 && over) return;
      const int got = ::recvmmsg(channel.server.get(), messages.data(), 64, MSG_DONTWAIT, nullptr);
      if (got > 0) received += got;
    }
  }};
  constexpr int kTurns = 2000;
  const int turn = rate / kTurns;
  Instant next = BootClock::now();
  for (int i = 0; i < kTurns; ++i) {
    next += 1s / kTurns;
    std::this_thread::sleep_for(next - BootClock::now());
    for (int k = 0; k < turn; ++k) {
      if (::send(channel.client.get(), "12345678", 8, 0) != 8) give_up("cannot send");
    }
  }
  over = true;
  receiver.join();
  return static_cast<double>(received) / (turn * kTurns);
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 5;
  // Our own threads as an ordinary program has them, whatever started us.
  const sched_param ordinary{};
  ::sched_setscheduler(0, SCHED_OTHER, &ordinary);
  // In a network namespace of our own: the kernel drops what is queued whenever any hook goes.
  if (::unshare(CLONE_NEWNET) != 0) give_up("needs root");
  const base::UniqueFd socket{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
  ifreq up{};
  std::strcpy(up.ifr_name, "lo");
  up.ifr_flags = IFF_UP;
  if (::ioctl(socket.get(), SIOCSIFFLAGS, &up) != 0) give_up("cannot bring lo up");
  auto programs = inject::fork_starter();
  if (!programs.ok()) give_up(programs.error().to_string());
  std::map<std::string, std::vector<double>> figures;
  for (int round = 0; round < rounds; ++round) {
    for (const Duration delay : {Duration{0}, Duration{10ms}, Duration{100ms}}) {
      const bench::Channel channel = bench::open_channel(SOCK_DGRAM);
      std::vector<double> errors;
      if (delay > Duration::zero()) {
        const Delay in_force{**programs, channel.port, false, delay};
        errors = one_way(channel, 1000, delay);
      } else {
        errors = one_way(channel, 1000, delay);
      }
      const std::string name = base::format_duration(delay);
      figures["p50 " + name].push_back(bench::quantile(errors, 0.5));
      figures["p99 " + name].push_back(bench::quantile(errors, 0.99));
      figures["lost " + name].push_back(1000 - static_cast<double>(errors.size()));
      if (delay > Duration::zero()) {
        const auto report = base::parse_json(Delay::last_report()).value();
        figures["own p50 " + name].push_back(
            static_cast<double>(inject::integer_field(report, "late_p50_ns")) / 1e6);
        figures["own p99 " + name].push_back(
            static_cast<double>(inject::integer_field(report, "late_p99_ns")) / 1e6);
      }
    }
    {
      bench::Channel channel = bench::open_channel(SOCK_STREAM);
      const Delay in_force{**programs, channel.port, true, 10ms};
      figures["tcp"].push_back(throughput(channel, 2s));
    }
    {
      const bench::Channel channel = bench::open_channel(SOCK_DGRAM);
      const Delay in_force{**programs, channel.port, false, 10ms};
      figures["delivered"].push_back(delivered(channel, 100'000));
    }
  }
  const auto median = [&](const std::string& name) { return bench::median(figures[name]); };
  std::printf("without a delay: one way p50 %.3f ms, p99 %.3f ms\n", median("p50 0s"),
              median("p99 0s"));
  for (const std::string name : {"10ms", "100ms"}) {
    const double p50 = median("p50 " + name);
    const double p99 = median("p99 " + name);
    bench::report(("network.latency " + name + ", 1,000 packets/s, error p50").c_str(),
                  fmt::format("{:.3f} ms (own lateness {:.3f})", p50, median("own p50 " + name)),
                  "0.1 ms", p50 <= 0.1);
    bench::report(("network.latency " + name + ", 1,000 packets/s, error p99").c_str(),
                  fmt::format("{:.3f} ms (own lateness {:.3f})", p99, median("own p99 " + name)),
                  "1 ms", p99 <= 1);
  }
  bench::report("network.latency 10ms, one TCP connection",
                fmt::format("{:.2f} Gbit/s", median("tcp")), "2 Gbit/s", median("tcp") >= 2);
  bench::report("network.latency 10ms, 100,000 packets/s, delivered",
                fmt::format("{:.3f} %", 100 * median("delivered")), "100 %",
                median("delivered") >= 1);
}
