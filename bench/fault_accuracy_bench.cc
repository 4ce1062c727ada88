// How near to what was asked a fault comes: processor load by the kernel's own account of the
// workers, bandwidth at the receiver, loss of so many packets that chance stays below the bar.
// Rounds of all measurements are interleaved; each figure is the median of its rounds, beside the
// least and the most. What a busy machine withholds from a worker is told apart from what the
// worker does wrong: the time in which it was ready and did not get a processor.
//   fault_accuracy_bench [ROUNDS]     default 5

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
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/files.h"
#include "figures.h"
#include "inject/client.h"
#include "inject/faults/kinds.h"
#include "inject/registry.h"
#include "loopback_channel.h"

namespace {

using namespace squall;  // NOLINT: a program of its own
using namespace std::chrono_literals;
using base::BootClock;
using base::Duration;
using base::Instant;
using base::Json;

constexpr Duration kLoadTime = 5s;
constexpr Duration kStreamTime = 4s;
// Of 100,000 packets at 50 %, the share has a standard error of 0.16 points: 3 of them are 0.47.
constexpr int kPackets = 100'000;
constexpr std::size_t kPayload = 1000;
constexpr double kPacket = kPayload + 28;  // with the heads of IPv4 and UDP

[[noreturn]] void give_up(const std::string& why) {
  std::fprintf(stderr, "fault_accuracy_bench: %s\n", why.c_str());
  std::exit(1);
}

// The whole way of a fault: bound, held by a holder, reverted.
class Lab {
 public:
  explicit Lab(const std::string& folder) : folder_(folder) {
    inject::HolderOptions options;
    options.run = "fault-accuracy-bench";
    options.experiment = "bench";
    options.state_directory = folder + "/state";
    options.keeper_argv = {SQUALL_PROGRAM, "keeper"};
    auto client = inject::HolderClient::start(options);
    if (!client.ok()) give_up(client.error().to_string());
    client_ = std::move(*client);
    prefer_holder(options.state_directory);
  }

  // What it proves when it is armed.
  Json arm(const std::string& kind, const Json& parameters, std::uint16_t port = 0) {
    model::SystemMap map;
    map.name = "bench";
    map.directory = folder_;
    model::Service users;
    users.name = "users";
    users.external = true;
    users.depends_on = {"server"};
    model::Service server;
    server.name = "server";
    server.listens = model::ListenAddress{.address = "127.0.0.1", .port = port};
    map.services = {users, server};
    model::FaultSpecification fault;
    fault.name = "fault";
    fault.kind = inject::find_kind(kind)->descriptor;
    fault.parameters = model::Parameters{parameters};
    fault.duration = 1min;
    const auto planned = inject::describe(map, fault);
    const auto binding = inject::bind({.map = map,
                                       .fault = fault,
                                       .planned = planned,
                                       .host = host::real_host(),
                                       .seed = 1,
                                       .state_directory = folder_ + "/state",
                                       .record_directory = folder_});
    if (!binding.ok()) give_up(binding.error().to_string());
    const auto lease = client_->arm({.binding = *binding, .duration = 1min});
    if (!lease.ok()) give_up(lease.error().to_string());
    lease_ = *lease;
    return wait_for(inject::LeaseState::kArmed);
  }
  void revert() {
    if (!client_->revert(lease_, "asked").ok()) give_up("it cannot be reverted");
    wait_for(inject::LeaseState::kVerified);
  }
  // As an engine does.
  void renew() {
    if (!client_->renew().ok() || !client_->take_events().ok()) give_up("it cannot be renewed");
  }
  void sleep(Duration time) {
    const Instant end = BootClock::now() + time;
    while (BootClock::now() < end) {
      std::this_thread::sleep_for(std::min<Duration>(1s, end - BootClock::now()));
      renew();
    }
  }

 private:
  // The kernel shares processors out among sessions (autogroups). Where other work keeps the
  // machine busy, the session of holder and workers comes first, so that what is measured is
  // theirs.
  static void prefer_holder(const std::string& state) {
    const auto runs = inject::run_files(inject::StateDirectory{state});
    if (runs.empty()) give_up("there is no holder");
    std::ofstream(fmt::format("/proc/{}/autogroup", runs.front().holder.pid)) << "-20";
  }

  Json wait_for(inject::LeaseState wanted) {
    const Instant end = BootClock::now() + 20s;
    while (BootClock::now() < end) {
      if (!client_->renew().ok()) give_up("it cannot be renewed");
      const auto events = client_->take_events();
      if (!events.ok()) give_up(events.error().to_string());
      for (const auto& event : *events) {
        if (event.notice) continue;
        if (event.state == inject::LeaseState::kFailed) give_up(event.text);
        if (event.state == wanted) return base::parse_json(event.proof).value_or(Json::object());
      }
      pollfd request{.fd = client_->fd(), .events = POLLIN, .revents = 0};
      ::poll(&request, 1, 100);
    }
    give_up("no such event within 20 s");
  }

  std::string folder_;
  std::unique_ptr<inject::HolderClient> client_;
  base::LeaseId lease_;
};

// Seconds that a process ran, and that it was ready and waited for a processor.
struct Account {
  double ran = 0;
  double waited = 0;
};
Account account_of(pid_t process) {
  std::ifstream file(fmt::format("/proc/{}/schedstat", process));
  Account account;
  file >> account.ran >> account.waited;
  return {.ran = account.ran / 1e9, .waited = account.waited / 1e9};
}

struct Load {
  double error_points = 0;
  double waited_points = 0;
};
Load load(Lab& lab, double share) {
  const Json proof = lab.arm("resource.cpu_load", {{"processors", 1}, {"load", share}});
  const auto worker = proof["workers"].at(0).get<pid_t>();
  lab.sleep(500ms);
  const Account before = account_of(worker);
  const Instant start = BootClock::now();
  lab.sleep(kLoadTime);
  const Account after = account_of(worker);
  const double elapsed = base::to_seconds(BootClock::now() - start);
  lab.revert();
  return {.error_points = 100 * ((after.ran - before.ran) / elapsed - share),
          .waited_points = 100 * (after.waited - before.waited) / elapsed};
}

// Bytes a second that arrive, in relation to the rate, when a third more is sent: datagrams, for a
// stream hands over at once what has waited for a packet that was dropped.
double bandwidth(Lab& lab, double rate) {
  const bench::Channel channel = bench::open_channel(SOCK_DGRAM);
  lab.arm("network.bandwidth",
          {{"from", "users"},
           {"to", "server"},
           {"rate", static_cast<std::uint64_t>(rate)},
           {"buffer", 200'000'000},
           {"direction", "requests"}},
          channel.port);
  std::atomic<bool> over{false};
  std::thread sender{[&] {
    const std::array<char, kPayload> data{};
    const Instant start = BootClock::now();
    for (double sent = 0; !over;) {
      const double due = base::to_seconds(BootClock::now() - start) * rate * 4 / 3;
      for (; sent < due; sent += kPacket) {
        [[maybe_unused]] const ssize_t done =
            ::send(channel.client.get(), data.data(), data.size(), MSG_DONTWAIT);
      }
      std::this_thread::sleep_for(2ms);
    }
  }};
  std::array<char, 2048> data{};
  const Instant warm = BootClock::now() + 1s;
  Instant first{};
  Instant last{};
  Instant next_renewal = BootClock::now();
  double bytes = 0;
  while (last < warm + kStreamTime) {
    if (BootClock::now() >= next_renewal) {
      lab.renew();
      next_renewal = BootClock::now() + 1s;
    }
    pollfd request{.fd = channel.server.get(), .events = POLLIN, .revents = 0};
    if (::poll(&request, 1, 1000) <= 0) continue;
    if (::recv(channel.server.get(), data.data(), data.size(), MSG_DONTWAIT) <= 0) continue;
    last = BootClock::now();
    if (last < warm) continue;
    if (first == Instant{})
      first = last;
    else
      bytes += kPacket;
  }
  over = true;
  sender.join();
  lab.revert();
  return bytes / base::to_seconds(last - first) / rate;
}

// Share of UDP packets that do not arrive.
double loss(Lab& lab, double share) {
  const bench::Channel channel = bench::open_channel(SOCK_DGRAM);
  lab.arm("network.loss",
          {{"from", "users"}, {"to", "server"}, {"share", share}, {"direction", "requests"}},
          channel.port);
  std::atomic<int> received{0};
  std::atomic<bool> over{false};
  std::thread receiver{[&] {
    std::array<char, 64> data{};
    while (true) {
      pollfd request{.fd = channel.server.get(), .events = POLLIN, .revents = 0};
      if (::poll(&request, 1, 300) <= 0) {
        if (over) return;
        continue;
      }
      while (::recv(channel.server.get(), data.data(), data.size(), MSG_DONTWAIT) > 0) ++received;
    }
  }};
  for (int i = 0; i < kPackets; ++i) {
    // A packet that is dropped on its way out is an error for its sender on loopback.
    [[maybe_unused]] const ssize_t sent = ::send(channel.client.get(), "12345678", 8, 0);
    if (i % 20'000 == 0) lab.renew();
    if (i % 1000 == 0) std::this_thread::sleep_for(2ms);
  }
  over = true;
  receiver.join();
  lab.revert();
  return 1 - static_cast<double>(received) / kPackets;
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 5;
  const sched_param ordinary{};
  ::sched_setscheduler(0, SCHED_OTHER, &ordinary);
  if (::unshare(CLONE_NEWNET) != 0) give_up("needs root");
  const base::UniqueFd socket{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
  ifreq up{};
  std::strcpy(up.ifr_name, "lo");
  up.ifr_flags = IFF_UP;
  if (::ioctl(socket.get(), SIOCSIFFLAGS, &up) != 0) give_up("cannot bring lo up");
  const auto folder = base::make_temporary_directory("/dev/shm/squall-accuracy-bench-");
  if (!folder.ok()) give_up(folder.error().to_string());
  std::map<std::string, std::vector<double>> figures;
  constexpr std::array kLoads{0.3, 0.5, 0.8};
  constexpr std::array kRates{1.0e6, 10.0e6};
  constexpr std::array kLosses{0.01, 0.1, 0.5};
  const auto key = [](const char* what, double asked) { return fmt::format("{} {}", what, asked); };
  {
    Lab lab{*folder};
    for (int round = 0; round < rounds; ++round) {
      for (const double asked : kLoads) {
        const Load measured = load(lab, asked);
        figures[key("load", asked)].push_back(measured.error_points);
        figures[key("waited", asked)].push_back(measured.waited_points);
      }
      for (const double asked : kRates)
        figures[key("rate", asked)].push_back(100 * (bandwidth(lab, asked) - 1));
      for (const double asked : kLosses)
        figures[key("loss", asked)].push_back(100 * (loss(lab, asked) - asked));
    }
  }
  const auto told = [&](const std::string& name) {
    const auto& values = figures[name];
    return fmt::format("{:+.2f} ({:+.2f} to {:+.2f})", bench::median(values),
                       bench::quantile(values, 0), bench::quantile(values, 1));
  };
  for (const double asked : kLoads) {
    bench::report(fmt::format("resource.cpu_load {:.0f} %, off by, points", 100 * asked).c_str(),
                  fmt::format("{}; waited {:.1f} %", told(key("load", asked)),
                              bench::median(figures[key("waited", asked)])),
                  "1 point", std::abs(bench::median(figures[key("load", asked)])) <= 1);
  }
  for (const double asked : kRates) {
    bench::report(fmt::format("network.bandwidth {:.0f} MB/s, off by, %", asked / 1e6).c_str(),
                  told(key("rate", asked)), "5 %",
                  std::abs(bench::median(figures[key("rate", asked)])) <= 5);
  }
  for (const double asked : kLosses) {
    const double chance = 100 * std::sqrt(asked * (1 - asked) / kPackets);
    bench::report(
        fmt::format("network.loss {:.0f} % of {} packets, off by, points", 100 * asked, kPackets)
            .c_str(),
        fmt::format("{}; chance {:.2f}", told(key("loss", asked)), chance), "0.5 point",
        std::abs(bench::median(figures[key("loss", asked)])) <= 0.5);
  }
  std::error_code ignored;
  std::filesystem::remove_all(*folder, ignored);
  return 0;
}
