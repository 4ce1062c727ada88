// The http probe at a fixed rate against nginx, beside h2load --rps at the same rate: processor
// time for each request and the lag of the schedule. Then its histogram against ground truth: a
// server with known delays, and one that stalls for a second.
//   load_probe_bench [rate=10000] [seconds=10] [rounds=3]

#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/timerfd.h>

#include <cstdlib>
#include <thread>

#include "base/random.h"
#include "evidence/record.h"
#include "evidence/recorder.h"
#include "figures.h"
#include "host/host.h"
#include "model/diagnostic.h"
#include "model/experiment.h"
#include "observe/probe.h"
#include "support/delay_server.h"
#include "support/servers.h"

namespace squall::observe {
namespace {

using bench::quantile;

double seconds_of(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}
double processor_seconds(int who) {
  rusage usage{};
  getrusage(who, &usage);
  return seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime);
}

struct Run {
  double microseconds_a_request = 0;
  evidence::RequestBucket all;
};

model::SystemMap map_with(const std::string& http) {
  const model::Vocabulary vocabulary{.faults = {}, .probes = probe_kinds()};
  model::Diagnostics diagnostics;
  return model::parse_system_map(
      "system: bench\nservices:\n  app: { process: { exe: app } }\nprobes:\n  load:\n    http: " +
          http + "\n",
      "/tmp/squall.yaml", "", vocabulary, diagnostics);
}

// Runs the probe as an engine does: samples recorded, flushed every 100 ms.
Run run_probe(const std::string& http, double seconds) {
  const model::SystemMap map = map_with(http);
  const test::TemporaryDirectory directory;
  auto writer =
      evidence::RecordWriter::create(directory.path() + "/run.squall", {}, 1 << 20).value();
  evidence::Recorder recorder(*writer, nullptr);
  auto probe =
      make_probe(map.probes.front(),
                 ProbeContext{.clock = base::real_clock(),
                              .recorder = recorder,
                              .host = host::real_host(),
                              .map = map,
                              .slices = {{.id = "load", .probe = "load", .where = nullptr}},
                              .seed = 1,
                              .run = "bench"})
          .value();
  if (!probe->prepare().ok()) std::exit(1);
  const double before = processor_seconds(RUSAGE_SELF);
  const base::Instant start = base::BootClock::now();
  std::jthread thread([&](std::stop_token stop) { probe->run(start, stop); });
  while (base::BootClock::now() - start < std::chrono::duration<double>(seconds)) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    static_cast<void>(recorder.flush());
  }
  thread.request_stop();
  thread.join();
  static_cast<void>(recorder.flush());
  Run run;
  const double used = processor_seconds(RUSAGE_SELF) - before;
  static_cast<void>(writer->finish());
  const auto record = evidence::Record::read(writer->path()).value();
  for (const auto& bucket : record.find("load")->buckets) run.all.merge(bucket);
  run.microseconds_a_request = used * 1e6 / static_cast<double>(run.all.count());
  return run;
}

// Microseconds of processor time for each request that h2load made.
double run_h2load(const test::NginxServer& server, int rate, int seconds) {
  constexpr int kClients = 20;
  const double before = processor_seconds(RUSAGE_CHILDREN);
  const test::TemporaryDirectory directory;
  const std::string log = directory.path() + "/h2load.log";
  test::ServerProcess h2load(
      {"h2load", "--h1", "-c", std::to_string(kClients), "--rps", std::to_string(rate / kClients),
       "-D", std::to_string(seconds), server.url()},
      log);
  if (h2load.wait() != 0) {
    std::fprintf(stderr, "h2load failed: %s\n", test::read_text(log).c_str());
    return 0;
  }
  const double used = processor_seconds(RUSAGE_CHILDREN) - before;
  const std::string text = test::read_text(log);
  const std::size_t at = text.find("requests: ");
  const double requests = at == std::string::npos ? 0 : std::atof(text.c_str() + at + 10);
  return requests > 0 ? used * 1e6 / requests : 0;
}

double milliseconds(base::Duration duration) {
  return base::to_seconds(duration) * 1e3;
}

void cost(int rate, int seconds, int rounds) {
  const test::NginxServer server;
  std::vector<double> ours;
  std::vector<double> theirs;
  std::vector<double> lags;
  std::uint64_t failed = 0;
  std::uint64_t dropped = 0;
  for (int round = 0; round < rounds; ++round) {
    theirs.push_back(run_h2load(server, rate, seconds));
    const Run run = run_probe(
        fmt::format("{{ url: \"{}\", rate: {}/s, timeout: 2s }}", server.url(), rate), seconds);
    ours.push_back(run.microseconds_a_request);
    lags.push_back(milliseconds(run.all.lag.quantile(0.99)));
    failed += run.all.count() - run.all.ok();
    for (std::size_t i = 1; i < evidence::kOutcomes; ++i) {
      if (run.all.outcomes[i] == 0) continue;
      std::printf("round %d: %u requests ended as %s\n", round + 1, run.all.outcomes[i],
                  std::string(evidence::to_string(static_cast<evidence::Outcome>(i))).c_str());
    }
    dropped += run.all.dropped;
  }
  const double ratio = bench::median(ours) / bench::median(theirs);
  bench::report("load probe against h2load: processor time a request",
                fmt::format("{:.1f} / {:.1f} us = {:.2f} x", bench::median(ours),
                            bench::median(theirs), ratio),
                "at most 1.3 x", ratio <= 1.3);
  bench::report(
      "load probe: lag of the schedule, p99",
      fmt::format("{:.2f} ms, {} failed, {} dropped", bench::median(lags), failed, dropped), "1 ms",
      bench::median(lags) <= 1 && failed == 0);
}

// Differences within 1 % and 100 us count as equal.
bool agrees(double measured_ms, double true_ms) {
  return std::abs(measured_ms - true_ms) <= true_ms * 0.01 + 0.1;
}

void truth(const char* what, test::DelayServer& server, double seconds, double rate) {
  const Run run = run_probe(
      fmt::format("{{ url: \"{}\", rate: {{ poisson: {}/s }}, timeout: 5s }}", server.url(), rate),
      seconds);
  std::vector<double> delays = server.take_delays_ms();
  const auto& histogram = run.all.response_time;
  bool all = true;
  std::string figures;
  for (const auto& [name, q] : {std::pair{"p50", 0.5}, {"p99", 0.99}, {"max", 1.0}}) {
    const double measured =
        q == 1.0 ? milliseconds(histogram.maximum()) : milliseconds(histogram.quantile(q));
    const double expected = quantile(delays, q);
    all = all && agrees(measured, expected);
    figures += fmt::format("{} {:.2f}/{:.2f} ", name, measured, expected);
  }
  bench::report(what, figures + "ms", "1 % + 100 us", all && run.all.ok() == delays.size());
}

int main_of(int rate, int seconds, int rounds) {
  cost(rate, seconds, rounds);
  {
    test::DelayServer server(test::DelayServer::Kind::kSpread);
    truth("load probe against known delays", server, seconds, 500);
  }
  {
    test::DelayServer server(test::DelayServer::Kind::kStall);
    truth("load probe against a stall of 1 s", server, seconds, 500);
  }
  return 0;
}

}  // namespace
}  // namespace squall::observe

int main(int argc, char** argv) {
  const auto argument = [&](int index, int fallback) {
    return argc > index ? std::atoi(argv[index]) : fallback;
  };
  return squall::observe::main_of(argument(1, 10'000), argument(2, 10), argument(3, 3));
}
