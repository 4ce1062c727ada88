// A run's time outside its phases: from starting the program to its end, less the phases as
// recorded.

#include <filesystem>

#include "evidence/record.h"
#include "evidence/timeline.h"
#include "figures.h"
#include "support/small_system/small_system.h"

using namespace squall;

int main() {
  std::vector<double> overheads;
  for (int round = 0; round < 7; ++round) {
    const end_to_end::SmallSystem system;
    system.write_kill_experiment("  no-errors: reads.success >= 50% during fault");
    const base::Instant begin = base::BootClock::now();
    const end_to_end::Finished run =
        system.squall({"run", "experiment.yaml", "--env", "dev", "--quiet"});
    const base::Instant end = base::BootClock::now();
    if (run.exit_status != 0) {
      std::fprintf(stderr, "run failed (%d): %s%s\n", run.exit_status, run.output.c_str(),
                   run.error.c_str());
      return 1;
    }
    for (const auto& entry : std::filesystem::directory_iterator(system.path(".squall/runs"))) {
      auto record = evidence::Record::read(entry.path().string());
      if (!record.ok()) return 1;
      // The phases: from the start of the baseline to the event that follows the recovery.
      base::Instant first = record->last_instant();
      base::Instant last = first;
      for (const evidence::Event& event : record->events()) {
        if (event.type == "phase.started" && event.subject == "baseline") first = event.at;
        if (event.type == "run.phase" && event.subject == "read-back") last = event.at;
      }
      overheads.push_back(base::to_seconds((end - begin) - (last - first)) * 1e3);
    }
  }
  const double middle = bench::median(overheads);
  bench::report("run outside its phases, median of 7", bench::text("%.0f ms", middle), "100 ms",
                middle <= 100);
  return 0;
}
