// Inside the test's virtual machine, with the warden as a service of systemd:
//   virtual_machine_trials kill_all TRIALS VICTIM   pauses a process, then kills engine, holder and
//                                                   warden in one moment; says in JSON how long it
//                                                   took until the process ran again
//   virtual_machine_trials hold KIND PARAMETERS     arms such a fault, says `effective`, and holds
//   it

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/process.h"
#include "inject/client.h"
#include "inject/faults/kinds.h"
#include "inject/process_table.h"
#include "inject/state_directory.h"
#include "inject/warden.h"

using namespace squall;  // NOLINT: a test program
using namespace std::chrono_literals;

namespace {

[[noreturn]] void fail(const std::string& why) {
  std::fprintf(stderr, "%s\n", why.c_str());
  std::exit(1);
}

void wait_until(const std::function<bool()>& condition, const std::string& what) {
  const base::Instant deadline = base::BootClock::now() + 60s;
  while (!condition()) {
    if (base::BootClock::now() > deadline) fail("waited 60 s for " + what);
    ::usleep(500);
  }
}

model::FaultBinding bind_fault(const model::SystemMap& map, const std::string& kind,
                               base::Json parameters) {
  model::FaultSpecification fault;
  fault.name = "outage";
  fault.kind = inject::find_kind(kind)->descriptor;
  fault.parameters = model::Parameters{std::move(parameters)};
  fault.duration = 600s;
  const model::PlannedFault planned = inject::describe(map, fault);
  auto binding = inject::bind(
      {.map = map, .fault = fault, .planned = planned, .host = host::real_host(), .seed = 1});
  if (!binding.ok()) fail(binding.error().to_string());
  return *binding;
}

// Arms it with the warden, says `effective` once, and renews until this process ends.
[[noreturn]] void hold(const model::FaultBinding& binding, const std::function<void()>& effective) {
  inject::HolderOptions options;
  options.run = fmt::format("trial-{}", ::getpid());
  options.experiment = "trial";
  options.reason = "a trial in a virtual machine";
  auto client = inject::HolderClient::start(options);
  if (!client.ok()) fail(client.error().to_string());
  auto lease = (*client)->arm({.binding = binding, .duration = 600s});
  if (!lease.ok()) fail(lease.error().to_string());
  while (true) {
    pollfd request{.fd = (*client)->fd(), .events = POLLIN, .revents = 0};
    ::poll(&request, 1, 200);
    if (auto renewed = (*client)->renew(); !renewed.ok()) fail(renewed.error().to_string());
    const auto events = (*client)->take_events();
    if (!events.ok()) fail(events.error().to_string());
    for (const inject::LeaseEvent& event : *events) {
      if (event.state == inject::LeaseState::kFailed) fail(event.text);
      if (event.state == inject::LeaseState::kEffective) effective();
    }
  }
}

bool stopped(const base::ProcessIdentity& process) {
  return inject::process_state(process).value_or('X') == 'T';
}

pid_t parent_of(pid_t pid) {
  const auto table = inject::read_process_table();
  if (!table.ok()) fail(table.error().to_string());
  for (const auto& entry : *table) {
    if (entry.identity.pid == pid) return entry.parent;
  }
  fail("no process " + std::to_string(pid));
}

pid_t fork_engine(const model::SystemMap& map) {
  std::array<int, 2> pipe{};
  if (::pipe2(pipe.data(), O_CLOEXEC) != 0) fail("pipe");
  const pid_t engine = ::fork();
  if (engine < 0) fail("fork");
  if (engine == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const auto binding =
        bind_fault(map, "process.pause", {{"service", "victim"}, {"count", 1}, {"random", true}});
    hold(binding, [&] {
      if (::write(pipe[1], "e", 1) != 1) fail("write");
    });
  }
  ::close(pipe[1]);
  char byte = 0;
  if (::read(pipe[0], &byte, 1) != 1) fail("the engine did not get the fault into force");
  ::close(pipe[0]);
  return engine;
}

base::Duration kill_all_once(const model::SystemMap& map, const base::ProcessIdentity& victim) {
  wait_until([] { return inject::examine_warden().runs; }, "the warden");
  const pid_t engine = fork_engine(map);
  if (!stopped(victim)) fail("the fault is in force, and the victim is not stopped");
  const auto leases = inject::active_leases();
  if (!leases.ok() || leases->size() != 1) fail("there is not exactly one lease");
  const pid_t holder = leases->front().holder.pid;
  const std::array<pid_t, 3> all{engine, parent_of(holder), holder};
  // Stopped first, so that none can act on another's death.
  for (const pid_t pid : all) ::kill(pid, SIGSTOP);
  const base::Instant killed = base::BootClock::now();
  for (const pid_t pid : all) ::kill(pid, SIGKILL);
  wait_until([&] { return !stopped(victim); }, "the victim to run again");
  const base::Duration took = base::BootClock::now() - killed;
  ::waitpid(engine, nullptr, 0);
  wait_until([] { return inject::StateDirectory{}.lease_files().empty(); }, "the journal's end");
  return took;
}

int kill_all(int trials, const std::string& program) {
  const std::string marker = fmt::format("trial-{}", ::getpid());
  auto child = base::spawn({.argv = {program, marker}, .parent_death_signal = SIGKILL});
  if (!child.ok()) fail(child.error().to_string());
  model::SystemMap map;
  map.name = "trial";
  map.directory = "/";
  model::Service service;
  service.name = "victim";
  service.process.exe = "victim_for_tests";
  service.process.argv_contains = marker;
  map.services = {service};
  std::vector<double> took;
  for (int i = 0; i < trials; ++i) {
    // The victim of the tests ends by itself after a while.
    if (child->pidfd().ended()) {
      child = base::spawn({.argv = {program, marker}, .parent_death_signal = SIGKILL});
      if (!child.ok()) fail(child.error().to_string());
    }
    took.push_back(1e3 * base::to_seconds(kill_all_once(map, child->pidfd().identity())));
  }
  (void)child->pidfd().signal(SIGKILL);
  std::sort(took.begin(), took.end());
  fmt::print("{{\"trials\": {}, \"p50_ms\": {:.1f}, \"max_ms\": {:.1f}}}\n", took.size(),
             took[took.size() / 2], took.back());
  return 0;
}

int hold_one(const std::string& kind, const std::string& parameters) {
  model::SystemMap map;
  map.name = "trial";
  map.directory = "/";
  const auto binding = bind_fault(map, kind, base::Json::parse(parameters));
  wait_until([] { return inject::examine_warden().runs; }, "the warden");
  hold(binding, [] {
    std::puts("effective");
    std::fflush(stdout);
  });
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  if (what == "kill_all" && argc == 4) return kill_all(std::atoi(argv[2]), argv[3]);
  if (what == "hold" && argc == 4) return hold_one(argv[2], argv[3]);
  return 2;
}
