// What a lease costs: from the request to armed, from the call to revert to verified (a partition
// of a loopback port, the pair of whose packets is told by the port alone), and what keeper and
// holder need while they hold one and nothing happens.
//   lease_bench [LEASES]     default 300

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/files.h"
#include "figures.h"
#include "inject/client.h"
#include "inject/faults/network/table_fault.h"
#include "inject/process_table.h"
#include "inject/registry.h"

using namespace squall;

namespace {

constexpr std::uint16_t kPort = 47'900;

[[noreturn]] void give_up(const std::string& why) {
  std::fprintf(stderr, "lease_bench: %s\n", why.c_str());
  std::exit(1);
}

model::FaultBinding partition() {
  const inject::PacketEndpoint endpoint{.address = {127, 0, 0, 1}, .port = kPort};
  inject::PacketRule rule;
  rule.destination = endpoint;
  model::FaultBinding binding;
  binding.fault = "outage";
  binding.kind = "network.partition";
  binding.mechanism = inject::kOwnerTable;
  binding.lifetime = model::LifetimeClass::kKernelHeld;
  binding.details =
      model::Parameters{inject::table_details("packets to a port", {rule}, {endpoint})};
  return binding;
}

double milliseconds_since(base::Instant start) {
  return base::to_seconds(base::BootClock::now() - start) * 1e3;
}

void wait_for(inject::HolderClient& client, inject::LeaseState wanted) {
  const base::Instant end = base::BootClock::now() + std::chrono::seconds(10);
  while (base::BootClock::now() < end) {
    const auto events = client.take_events();
    if (!events.ok()) give_up(events.error().to_string());
    for (const auto& event : *events) {
      if (event.notice) continue;
      if (event.state == wanted) return;
      if (event.state == inject::LeaseState::kFailed) give_up(event.text);
    }
    pollfd request{.fd = client.fd(), .events = POLLIN, .revents = 0};
    ::poll(&request, 1, 100);
  }
  give_up("no such event within 10 s");
}

double processor_milliseconds(pid_t process) {
  std::ifstream file(fmt::format("/proc/{}/schedstat", process));
  double nanoseconds = 0;
  file >> nanoseconds;
  return nanoseconds / 1e6;
}

// Before its effect is seen a fault looks for it now and then.
void send_a_packet() {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  name.sin_port = htons(kPort);
  (void)::connect(fd, reinterpret_cast<sockaddr*>(&name), sizeof name);
  ::close(fd);
}

void measure_idle(inject::HolderClient& client, const std::string& state) {
  const auto runs = inject::run_files(inject::StateDirectory{state});
  if (runs.empty()) give_up("there is no holder");
  const pid_t holder = runs.front().holder.pid;
  pid_t keeper = 0;
  for (const auto& entry : *inject::read_process_table()) {
    if (entry.identity.pid == holder) keeper = entry.parent;
  }
  const auto lease = client.arm({.binding = partition(), .duration = std::chrono::minutes(1)});
  if (!lease.ok()) give_up(lease.error().to_string());
  wait_for(client, inject::LeaseState::kArmed);
  send_a_packet();
  wait_for(client, inject::LeaseState::kEffective);
  std::this_thread::sleep_for(std::chrono::seconds(1));
  const double before = processor_milliseconds(holder) + processor_milliseconds(keeper);
  for (int turn = 0; turn < 20; ++turn) {  // as an engine does
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    if (!client.renew().ok() || !client.take_events().ok()) give_up("it cannot be renewed");
  }
  const double used = processor_milliseconds(holder) + processor_milliseconds(keeper) - before;
  const double memory = static_cast<double>(bench::smaps_kilobytes(holder, "Private_Dirty") +
                                            bench::smaps_kilobytes(keeper, "Private_Dirty")) /
                        1024;
  bench::report("keeper + holder with one idle lease, private dirty",
                fmt::format("{:.2f} MiB", memory), "4 MiB", memory <= 4);
  bench::report("keeper + holder with one idle lease, processor time",
                fmt::format("{:.2f} ms in 10 s", used), "1 ms", used <= 1);
  if (!client.revert_all("asked").ok()) give_up("it cannot be reverted");
  wait_for(client, inject::LeaseState::kVerified);
}

}  // namespace

int main(int argc, char** argv) {
  const int leases = argc > 1 ? std::atoi(argv[1]) : 300;
  const auto state = base::make_temporary_directory("/dev/shm/squall-lease-bench-");
  if (!state.ok()) give_up(state.error().to_string());
  inject::HolderOptions options;
  options.run = "lease-bench";
  options.experiment = "bench";
  options.state_directory = *state;
  options.keeper_argv = {SQUALL_PROGRAM, "keeper"};
  {
    const auto client = inject::HolderClient::start(options);
    if (!client.ok()) give_up(client.error().to_string());
    measure_idle(**client, *state);
    std::vector<double> armed;
    std::vector<double> verified;
    for (int i = 0; i < leases; ++i) {
      base::Instant start = base::BootClock::now();
      const auto lease =
          (*client)->arm({.binding = partition(), .duration = std::chrono::minutes(1)});
      if (!lease.ok()) give_up(lease.error().to_string());
      wait_for(**client, inject::LeaseState::kArmed);
      armed.push_back(milliseconds_since(start));
      start = base::BootClock::now();
      if (!(*client)->revert(*lease, "asked").ok()) give_up("it cannot be reverted");
      wait_for(**client, inject::LeaseState::kVerified);
      verified.push_back(milliseconds_since(start));
      // The kernel is still at the table that went, and would let the next one wait for it.
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    const auto line = [&](const char* what, const std::vector<double>& values) {
      const double p50 = bench::median(values);
      const double p99 = bench::quantile(values, 0.99);
      bench::report(what, fmt::format("{:.2f} / {:.2f} ms of {}", p50, p99, values.size()),
                    "3 / 15 ms", p50 <= 3 && p99 <= 15);
    };
    line("partition: request to armed, p50 / p99", armed);
    line("partition: revert call to verified, p50 / p99", verified);
  }
  std::error_code ignored;
  std::filesystem::remove_all(*state, ignored);
  return 0;
}
