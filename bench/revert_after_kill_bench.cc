// From the SIGKILL of engine, keeper or holder, or of two of them at once, to the paused target
// running again. Rounds of all combinations in turn. The same for SIGSTOP.
//   revert_after_kill_bench [KILLS [STOPS]]     default 1000 and 60

#include <fmt/format.h>
#include <poll.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/files.h"
#include "base/json.h"
#include "engine/planner.h"
#include "engine/situation.h"
#include "figures.h"
#include "host/host.h"
#include "inject/client.h"
#include "inject/process_table.h"
#include "inject/registry.h"
#include "support/small_system/small_system.h"

using namespace squall;

namespace {

// The engine of a round, a process of its own: arms the fault and renews until it is killed.
int hold(const std::string& state, const std::string& file) {
  const auto text = base::read_file(file, 1u << 20);
  const auto json = base::parse_json(*text);
  const auto binding = model::fault_binding_from_json(*json);
  inject::HolderOptions options;
  options.run = "revert-after-kill";
  options.experiment = "bench";
  options.state_directory = state;
  options.keeper_argv = {SQUALL_PROGRAM, "keeper"};
  auto client = inject::HolderClient::start(options);
  if (!client.ok()) return 3;
  if (!(*client)->arm({.binding = *binding, .duration = std::chrono::minutes(1)}).ok()) return 4;
  base::Instant renewed;
  while (true) {
    pollfd request{.fd = (*client)->fd(), .events = POLLIN, .revents = 0};
    ::poll(&request, 1, 100);
    if (!(*client)->take_events().ok()) return 5;
    // As often as an engine does.
    if (base::BootClock::now() - renewed < std::chrono::milliseconds(500)) continue;
    renewed = base::BootClock::now();
    if (!(*client)->renew().ok()) return 5;
  }
}

pid_t parent_of(pid_t pid) {
  for (const auto& entry : *inject::read_process_table()) {
    if (entry.identity.pid == pid) return entry.parent;
  }
  return 0;
}

class Rounds {
 public:
  explicit Rounds(const end_to_end::SmallSystem& system) : system_(system) {
    system_.write_pause_experiment("  no-errors: reads.success >= 50% during fault");
    const auto map = engine::load_map(system_.path("squall.yaml"), "dev");
    const auto experiment = engine::load_experiment(system_.path("experiment.yaml"), map->map);
    const model::Plan plan = engine::make_plan(map->map, experiment->experiment, experiment->text);
    const auto bound = engine::bind_plan(plan, map->map, experiment->experiment, host::real_host());
    const base::Json json = model::to_json(bound.binding.faults.at(0));
    if (!base::write_file_atomically(system_.path("binding.json"), json.dump()).ok()) std::exit(1);
  }

  // Milliseconds; negative when it did not come to the kill or stop.
  double one(const std::string& who, int signal) {
    const std::string state = system_.path("state");
    base::SpawnOptions options;
    options.argv = {base::own_executable().value(), "hold", state, system_.path("binding.json")};
    auto engine = base::spawn(options);
    if (!engine.ok() || !end_to_end::wait_until([&] { return system_.worker_state() == 'T'; }))
      return -1;
    const auto runs = inject::run_files(inject::StateDirectory{state});
    if (runs.empty()) return -1;
    const auto holder = base::PidFd::open(runs.front().holder);
    const auto keeper = base::PidFd::open(parent_of(runs.front().holder.pid));
    if (!holder.ok() || !keeper.ok()) return -1;
    std::vector<const base::PidFd*> dying;
    if (who.find("engine") != std::string::npos) dying.push_back(&engine->pidfd());
    if (who.find("keeper") != std::string::npos) dying.push_back(&*keeper);
    if (who.find("holder") != std::string::npos) dying.push_back(&*holder);
    const base::Instant killed = base::BootClock::now();
    for (const auto* process : dying) (void)process->signal(signal);
    while (system_.worker_state() == 'T') {
      if (base::BootClock::now() - killed > std::chrono::seconds(20)) break;
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
    const double took = base::to_seconds(base::BootClock::now() - killed) * 1000;
    end_to_end::wait_until(
        [&] { return inject::run_files(inject::StateDirectory{state}).empty(); });
    (void)engine->pidfd().signal(SIGKILL);
    (void)engine->wait(std::chrono::seconds(20));
    end_to_end::wait_until([&] { return keeper->ended(); });
    return took;
  }

 private:
  const end_to_end::SmallSystem& system_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc == 4 && std::string_view(argv[1]) == "hold") return hold(argv[2], argv[3]);
  const int kills = argc > 1 ? std::atoi(argv[1]) : 1000;
  const int stops = argc > 2 ? std::atoi(argv[2]) : 60;
  const end_to_end::SmallSystem system;
  Rounds rounds(system);
  int failed = 0;
  const auto turns = [&](int count, int signal, const std::vector<std::string>& everybody,
                         const char* what, double bar) {
    std::map<std::string, std::vector<double>> took;
    for (int i = 0; i < count; ++i) {
      const std::string& who = everybody[static_cast<std::size_t>(i) % everybody.size()];
      const double milliseconds = rounds.one(who, signal);
      if (milliseconds < 0) {
        ++failed;
      } else {
        took[who].push_back(milliseconds);
      }
    }
    for (const auto& [who, values] : took) {
      const double most = *std::max_element(values.begin(), values.end());
      bench::report(
          fmt::format("{} {} to reverted, p50 / max of {}", who, what, values.size()).c_str(),
          fmt::format("{:.2f} / {:.1f} ms", bench::median(values), most),
          fmt::format("{:.0f} ms", bar).c_str(), most <= bar);
    }
  };
  turns(kills, SIGKILL,
        {"engine", "keeper", "holder", "engine + keeper", "engine + holder", "keeper + holder"},
        "killed", 500);
  const double lease = base::to_seconds(inject::HolderOptions{}.renewal_limit) * 1000;
  turns(stops, SIGSTOP, {"engine", "holder", "engine + holder"}, "stopped", lease + 1000);
  if (failed > 0) std::printf("%d rounds did not come to the kill\n", failed);
  return failed == 0 ? 0 : 1;
}
