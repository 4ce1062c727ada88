// Private dirty memory of engine, keeper and holder together while 1,000 samples a second are
// taken.
//   memory_bench [MINUTES]     default 10

#include <fmt/format.h>

#include <cstdlib>
#include <fstream>
#include <thread>

#include "figures.h"
#include "support/small_system/small_system.h"

using namespace squall;

namespace {

pid_t child_of(pid_t process) {
  std::ifstream file(fmt::format("/proc/{0}/task/{0}/children", process));
  pid_t child = 0;
  file >> child;
  return child;
}

}  // namespace

int main(int argc, char** argv) {
  const int minutes = argc > 1 ? std::atoi(argv[1]) : 10;
  const end_to_end::SmallSystem system;
  std::string map;
  {
    std::ifstream file(system.path("squall.yaml"));
    map.assign(std::istreambuf_iterator<char>(file), {});
  }
  map.replace(map.find("200/s"), 5, "1000/s");
  system.write("squall.yaml", map);
  system.write_pause_experiment("  no-errors: reads.success >= 50% during fault");
  std::string experiment;
  {
    std::ifstream file(system.path("experiment.yaml"));
    experiment.assign(std::istreambuf_iterator<char>(file), {});
  }
  experiment.replace(experiment.find("baseline: 1500ms"), 16,
                     fmt::format("baseline: {}s", minutes * 60));
  system.write("experiment.yaml", experiment);
  base::ChildProcess engine =
      system.start_squall({"run", "experiment.yaml", "--env", "dev", "--plain"});
  std::vector<double> samples;
  const base::Instant end = base::BootClock::now() + std::chrono::minutes(minutes);
  pid_t keeper = 0;
  pid_t holder = 0;
  while (base::BootClock::now() < end && !engine.pidfd().ended()) {
    std::this_thread::sleep_for(std::chrono::seconds(1));
    if (keeper == 0) keeper = child_of(engine.pid());
    if (holder == 0 && keeper != 0) holder = child_of(keeper);
    long sum = 0;
    for (const pid_t process : {engine.pid(), keeper, holder})
      sum += bench::smaps_kilobytes(process, "Private_Dirty");
    if (holder != 0) samples.push_back(static_cast<double>(sum) / 1024);
  }
  (void)engine.pidfd().signal(SIGTERM);
  (void)engine.wait(std::chrono::seconds(30));
  if (samples.size() < 20) {
    std::fprintf(stderr, "too few samples; log: %s\n", system.path("squall.log").c_str());
    return 1;
  }
  const std::size_t tenth = std::max<std::size_t>(samples.size() / 10, 1);
  const double early = bench::median(
      {samples.begin() + static_cast<long>(tenth), samples.begin() + static_cast<long>(2 * tenth)});
  const double late = bench::median({samples.end() - static_cast<long>(tenth), samples.end()});
  const double most = *std::max_element(samples.begin(), samples.end());
  bench::report(
      "engine + keeper + holder, private dirty, most",
      fmt::format("{:.1f} MiB over {:.1f} min", most, static_cast<double>(samples.size()) / 60),
      "16 MiB", most <= 16);
  bench::report("engine + keeper + holder, growth from 2nd to last tenth",
                fmt::format("{:.2f} -> {:.2f} MiB", early, late), "flat (< 5 %)",
                late <= early * 1.05);
  return 0;
}
