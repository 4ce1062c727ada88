// From the decisive sample of an abort rule to the fault being reverted, over the real path: probe
// thread, live feed, engine's loop, holder, kernel. 200 rounds.

#include <fmt/format.h>

#include <cstdlib>
#include <thread>

#include "engine/planner.h"
#include "engine/session.h"
#include "engine/situation.h"
#include "figures.h"
#include "host/host.h"
#include "support/small_system/small_system.h"

using namespace squall;

namespace {

class Silent : public engine::Progress {};

// One round; milliseconds from the sample to the holder's word that the target runs again.
double one_round(const end_to_end::SmallSystem& system) {
  auto map = engine::load_map(system.path("squall.yaml"), "dev");
  if (!map.ok()) std::fprintf(stderr, "%s\n", map.error().message.c_str());
  auto experiment = engine::load_experiment(system.path("experiment.yaml"), map->map);
  if (!experiment.ok()) std::fprintf(stderr, "%s\n", experiment.error().message.c_str());
  const model::Plan plan = engine::make_plan(map->map, experiment->experiment, experiment->text);
  const auto bound = engine::bind_plan(plan, map->map, experiment->experiment, host::real_host());
  evidence::RecordHeader header;
  header.run = base::RunId::generate(base::real_clock().wall_now());
  Silent progress;
  engine::Session session(
      {header.run, *map, *experiment, plan, progress, base::real_clock(),
       engine::Interruption::take().value(),
       evidence::RecordWriter::create(system.path(header.run.text() + ".record"), header, 1 << 20)
           .value(),
       evidence::LiveFeed::create().value(), system.path("state")});
  session.set_observer(
      observe::Observer::create(
          {map->map, {}, {}, host::real_host(), base::real_clock(), session.recorder(), 1, "b"})
          .value());
  const auto series =
      session.recorder().declare({"load.value", evidence::SeriesKind::kGauge, "", "load"}).value();
  inject::HolderOptions options;
  options.run = header.run.text();
  options.experiment = "abort-latency";
  options.system_directory = system.folder();
  options.state_directory = system.path("state");
  options.keeper_argv = {SQUALL_PROGRAM, "keeper"};
  auto holder = inject::HolderClient::start(options);
  if (!holder.ok()) {
    std::fprintf(stderr, "%s\n", holder.error().to_string().c_str());
    std::exit(1);
  }
  session.set_holder(std::move(holder).value());
  session.watch_abort_rules();
  if (!session.arm(bound.binding.faults.at(0), std::chrono::seconds(20)).ok()) std::exit(1);
  session.wait_until(session.now() + std::chrono::seconds(5), [&] {
    return session.faults().front().state == inject::LeaseState::kEffective;
  });
  // Anywhere within the loop's waiting, as a real sample would come.
  std::jthread probe([&] {
    std::this_thread::sleep_for(std::chrono::microseconds(1000 + base::random_u64() % 20000));
    session.recorder().add(series, evidence::GaugeSample{base::BootClock::now(), 1000});
  });
  base::Instant sample{};
  // The breach ends the first wait; the second is for the revert.
  const auto all_over = [&] { return session.all_over(); };
  session.wait_until(session.now() + std::chrono::seconds(5), all_over);
  session.wait_until(session.now() + std::chrono::seconds(5), all_over);
  probe.join();
  session.set_holder(nullptr);
  (void)session.recorder().flush();
  auto record = evidence::Record::read(system.path(header.run.text() + ".record"));
  base::Instant reverted{};
  for (const evidence::Event& event : record->events()) {
    if (event.type == "fault.reverted") reverted = event.at;
  }
  if (const auto* load = record->find("load.value"); load != nullptr && !load->samples.empty()) {
    sample = load->samples.front().at;
  }
  return base::to_seconds(reverted - sample) * 1e3;
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 200;
  const end_to_end::SmallSystem system;
  std::string map = fmt::format(
      "system: small\nservices:\n  worker: {{ process: {{ exe: target_worker, argv_contains: "
      "\"{}\" }} }}\n"
      "probes:\n  load: {{ command: {{ argv: [/bin/true], every: 1h }}, to: worker }}\n"
      "steady_state: {{}}\nenvironments: {{ dev: {{}} }}\n",
      system.path("worker.pid"));
  system.write("squall.yaml", map);
  system.write_pause_experiment("  quiet: load.value < 10 during fault");
  std::string experiment =
      "experiment: abort-latency\nscenario: The worker is paused.\nhypothesis:\n"
      "  quiet: load.value < 10 during fault\nfaults:\n"
      "  - process.pause: { service: worker, count: 1 }\n    name: outage\n"
      "    for: 20s\nblast_radius: { services: [worker], processes: 1, duration: "
      "30s }\nabort_when: [ load.value > 100 ]\n";
  system.write("experiment.yaml", experiment);
  std::vector<double> times;
  for (int i = 0; i < rounds; ++i) times.push_back(one_round(system));
  const double middle = bench::median(times);
  const double worst = bench::quantile(times, 0.99);
  bench::report("abort: decisive sample to reverted, p50", bench::text("%.2f ms", middle), "5 ms",
                middle <= 5 && middle > 0);
  bench::report("abort: decisive sample to reverted, p99", bench::text("%.2f ms", worst), "25 ms",
                worst <= 25);
  return 0;
}
