// What observing costs the target: its p99 under a fixed load, with nothing but that load and with
// all that a run adds (gauge probes, the watch over services and their logs), in paired rounds
// whose order alternates. Two targets: nginx, whose answers take some 0.1 ms, so that its p99 is
// mostly the noise of the machine; and a server that holds each answer for 10 ms, as a service with
// a database behind it does.
//   load_observer_effect_bench [pairs=20] [seconds=4] [rate=1000]

#include <fmt/format.h>
#include <sys/resource.h>

#include <cstdlib>
#include <thread>

#include "evidence/record.h"
#include "evidence/recorder.h"
#include "figures.h"
#include "host/host.h"
#include "model/diagnostic.h"
#include "model/experiment.h"
#include "observe/observer.h"
#include "support/delay_server.h"
#include "support/servers.h"

namespace squall::observe {
namespace {

double processor_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

enum class With { kLoadOnly, kEverything };

enum class Asked { kNginx, kTenMilliseconds };

struct Bench {
  Asked asked = Asked::kNginx;
  test::NginxServer web;
  test::DelayServer slow{test::DelayServer::Kind::kSteady};
  test::RedisServer cache;
  int rate = 1000;
  int seconds = 4;

  model::SystemMap map(With with) const {
    const std::string always = with == With::kEverything ? "true" : "false";
    const std::string yaml = fmt::format(
        "system: bench\nservices:\n"
        "  web: {{ listens: 127.0.0.1:{0}, logs: [{1}/error.log] }}\n"
        "  cache: {{ listens: \"{2}\" }}\n"
        "probes:\n"
        "  load: {{ http: {{ url: \"{3}\", rate: {4}/s, always: true }} }}\n"
        "  keys: {{ redis: {{ address: \"{2}\", command: [DBSIZE], every: 500ms, always: {5} }} "
        "}}\n"
        "  port: {{ tcp: {{ address: \"127.0.0.1:{0}\", every: 1s, always: {5} }} }}\n"
        "  errors: {{ log: {{ file: {1}/error.log, contains: error, always: {5} }} }}\n"
        "  pool: {{ process: {{ service: web, every: 1s, always: {5} }} }}\n",
        web.port(), web.directory(), cache.address(),
        asked == Asked::kNginx ? web.url() : slow.url(), rate, always);
    const model::Vocabulary vocabulary{.faults = {}, .probes = probe_kinds()};
    model::Diagnostics diagnostics;
    auto parsed = model::parse_system_map(yaml, "/tmp/squall.yaml", "", vocabulary, diagnostics);
    if (diagnostics.has_errors()) {
      std::fputs(diagnostics.render().c_str(), stderr);
      std::exit(1);
    }
    return parsed;
  }

  // p99 of the answers in milliseconds, and processor seconds of this process for each second.
  struct Figures {
    double p99_ms = 0;
    double processors = 0;
  };
  Figures round(With with) const {
    const model::SystemMap system = map(with);
    const test::TemporaryDirectory directory;
    auto writer =
        evidence::RecordWriter::create(directory.path() + "/run.squall", {}, 1 << 20).value();
    evidence::Recorder recorder(*writer, nullptr);
    std::vector<std::string> watched;
    if (with == With::kEverything) watched = {"web", "cache"};
    auto observer = Observer::create({.map = system,
                                      .predictions = {},
                                      .watched_services = watched,
                                      .host = host::real_host(),
                                      .clock = base::real_clock(),
                                      .recorder = recorder,
                                      .seed = 1})
                        .value();
    if (!observer->start().ok()) std::exit(1);
    const double before = processor_seconds();
    for (int i = 0; i < seconds * 10; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      static_cast<void>(recorder.flush());
    }
    const double used = processor_seconds() - before;
    observer->stop();
    static_cast<void>(recorder.flush());
    static_cast<void>(writer->finish());
    const auto record = evidence::Record::read(writer->path()).value();
    evidence::Histogram all;
    for (const auto& bucket : record.find("load")->buckets) all.merge(bucket.service_time);
    return {.p99_ms = base::to_seconds(all.quantile(0.99)) * 1e3, .processors = used / seconds};
  }
};

void measure(Bench& bench_of, Asked asked, int pairs, int seconds, int rate) {
  bench_of.asked = asked;
  bench_of.rate = rate;
  bench_of.seconds = seconds;
  bench_of.round(With::kLoadOnly);  // warm up
  std::vector<double> differences;  // of the logarithms
  std::vector<double> processors;
  double sum = 0;
  for (int i = 0; i < pairs; ++i) {
    const bool first = i % 2 == 0;
    auto one = bench_of.round(first ? With::kLoadOnly : With::kEverything);
    auto other = bench_of.round(first ? With::kEverything : With::kLoadOnly);
    if (!first) std::swap(one, other);
    differences.push_back(std::log(other.p99_ms / one.p99_ms));
    processors.push_back(other.processors - one.processors);
    sum += differences.back();
  }
  const double mean = sum / pairs;
  double squares = 0;
  for (const double d : differences) squares += (d - mean) * (d - mean);
  constexpr double kStudent19 = 2.093;  // two-sided 95 % for 20 pairs; near enough for others
  const double half = kStudent19 * std::sqrt(squares / (pairs - 1) / pairs);
  const double low = (std::exp(mean - half) - 1) * 100;
  const double high = (std::exp(mean + half) - 1) * 100;
  bench::report(
      asked == Asked::kNginx ? "observer effect on the p99 of nginx"
                             : "observer effect on the p99 of a server of 10 ms",
      fmt::format("{:+.1f} % ({:+.1f} to {:+.1f})", (std::exp(mean) - 1) * 100, low, high),
      "2 %, whole interval", high <= 2);
  std::printf("%-58s %.2f %% of a processor\n", "probes and watch beside the load, median",
              bench::median(processors) * 100);
}

int main_of(int pairs, int seconds, int rate) {
  Bench bench_of;
  for (const Asked asked : {Asked::kNginx, Asked::kTenMilliseconds})
    measure(bench_of, asked, pairs, seconds, rate);
  return 0;
}

}  // namespace
}  // namespace squall::observe

int main(int argc, char** argv) {
  const auto argument = [&](int index, int fallback) {
    return argc > index ? std::atoi(argv[index]) : fallback;
  };
  return squall::observe::main_of(argument(1, 20), argument(2, 4), argument(3, 1000));
}
