// 200 short real runs against a target with known, seeded behaviour: some violate, some hold, some
// faults touch nothing. Counts verdicts that are not the truth.

#include <fmt/format.h>

#include <atomic>
#include <cstdlib>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/json.h"
#include "figures.h"
#include "support/small_system/small_system.h"

using namespace squall;

namespace {

struct Tally {
  std::atomic<int> held_right{0}, violated_right{0}, false_held{0}, false_violated{0},
      inconclusive{0}, other{0}, no_effect{0}, no_effect_held{0};
};

std::string verdict_of(const base::Json& report, std::string_view name) {
  for (const base::Json& each : report.at("predictions")) {
    if (each.at("name") == name) return each.at("verdict").get<std::string>();
  }
  return "absent";
}

void count(const std::string& verdict, bool truth_holds, Tally& tally) {
  if (verdict == "held") {
    ++(truth_holds ? tally.held_right : tally.false_held);
  } else if (verdict == "violated") {
    ++(truth_holds ? tally.false_violated : tally.violated_right);
  } else if (verdict == "inconclusive") {
    ++tally.inconclusive;
  } else {
    ++tally.other;
  }
}

// The worker's absence costs `failures` of the requests and adds latency; the thresholds stand well
// to one side of that truth, as the plan's power calculation asks.
void one_run(int index, Tally& tally, std::mutex& output) {
  const bool no_effect = index % 8 == 7;
  const bool fails = index % 2 == 0;
  const bool slow = index % 4 < 2;
  end_to_end::SmallSystem::Behaviour behaviour;
  behaviour.seed = index + 1;
  behaviour.down_failures = no_effect ? 0 : fails ? 0.30 : 0.005;
  behaviour.down_latency_us = slow && !no_effect ? 60000 : 0;
  const end_to_end::SmallSystem system(behaviour);
  const std::string hypothesis =
      "  errors: reads.success >= 95% during fault\n"
      "  latency: p50(reads.latency) < 20ms during fault";
  if (no_effect) {
    // Nobody listens on port 9: a refusal there touches nothing.
    system.write("experiment.yaml", fmt::format(R"(experiment: worker-gone
scenario: A port that nobody uses is refused.
hypothesis:
{}
faults:
  - network.refuse: {{ service: front, port: 9 }}
    name: outage
    for: 1500ms
blast_radius: {{ services: [front], processes: 1, duration: 5s }}
abort_when: [ reads.success < 20% over 1s ]
phases: {{ baseline: 1500ms, recovery: 2s }}
)",
                                                hypothesis));
  } else {
    system.write_pause_experiment(hypothesis);
  }
  const end_to_end::Finished run =
      system.squall({"run", "experiment.yaml", "--env", "dev", "--json", "--quiet"});
  auto report = base::parse_json(run.output);
  if (!report.ok() || !report->contains("predictions")) {
    const std::lock_guard lock(output);
    std::fprintf(stderr, "run %d: exit %d: %s%s\n", index, run.exit_status, run.output.c_str(),
                 run.error.c_str());
    ++tally.other;
    return;
  }
  const std::string errors = verdict_of(*report, "errors");
  const std::string latency = verdict_of(*report, "latency");
  if (no_effect) {
    ++tally.no_effect;
    if (errors == "held" || latency == "held") ++tally.no_effect_held;
    return;
  }
  count(errors, !fails, tally);
  count(latency, !slow, tally);
  const bool wrong = (errors == "held") == fails || (latency == "held") == slow;
  if (wrong) {
    const std::lock_guard lock(output);
    std::fprintf(stderr, "run %d (fails %d, slow %d): errors %s, latency %s\n", index, fails, slow,
                 errors.c_str(), latency.c_str());
    for (const base::Json& each : report->at("predictions")) {
      if (each.at("name") != "errors" && each.at("name") != "latency") continue;
      std::fprintf(stderr, "    %s\n", each.at("reason").get<std::string>().c_str());
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int runs = argc > 1 ? std::atoi(argv[1]) : 200;
  Tally tally;
  std::mutex output;
  std::atomic<int> next{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&] {
      for (int index = next++; index < runs; index = next++) one_run(index, tally, output);
    });
  }
  for (std::thread& thread : threads) thread.join();
  const int judged = tally.held_right + tally.violated_right + tally.false_held +
                     tally.false_violated + tally.inconclusive;
  std::printf("%d runs, %d verdicts: held rightly %d, violated rightly %d, other %d\n", runs,
              judged, tally.held_right.load(), tally.violated_right.load(), tally.other.load());
  const auto share = [&](int count) { return judged == 0 ? 100.0 : 100.0 * count / judged; };
  bench::report("truth, real runs: false held", bench::text("%.2f %%", share(tally.false_held)),
                "1 %", share(tally.false_held) <= 1);
  bench::report("truth, real runs: false violated",
                bench::text("%.2f %%", share(tally.false_violated)), "1 %",
                share(tally.false_violated) <= 1);
  bench::report("truth, real runs: inconclusive", bench::text("%.2f %%", share(tally.inconclusive)),
                "5 %", share(tally.inconclusive) <= 5);
  bench::report("truth, real runs: held without effect",
                fmt::format("{} of {}", tally.no_effect_held.load(), tally.no_effect.load()), "0",
                tally.no_effect_held == 0 && tally.no_effect > 0);
  return 0;
}
