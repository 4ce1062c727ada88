// Judges the record of one hour with 1,000 signals at 10 a second and one load at 200/s, reading
// included. A process of its own reads and judges, so that its memory is its own. The bar is 2 s
// and 300 MiB. Usage: judge_hour_bench [minutes=60] [series=1000] [folder=.]

#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "base/random.h"
#include "evidence/recorder.h"
#include "unit/judge/run_builder.h"

namespace {

using namespace squall;
using evidence::SeriesId;
using judge::testing::RunBuilder;
using std::chrono::milliseconds;

void add_events(evidence::Recorder& recorder, int minutes) {
  const auto event = [&](double minute, const char* type, const char* subject,
                         const char* details = "") {
    const base::Instant at{base::Duration(static_cast<std::int64_t>(minute * 60e9))};
    recorder.add(evidence::Event{
        .at = at, .type = type, .subject = subject, .text = "", .details = details});
  };
  const double end = minutes;
  event(0, "run.started", "");
  event(0, "phase.started", "baseline");
  event(end / 3, "phase.started", "fault");
  for (const char* type : {"fault.arming", "fault.armed", "fault.effective"}) {
    event(end / 3, type, "outage");
  }
  for (const char* type : {"fault.reverting", "fault.reverted", "fault.verified"}) {
    event(end * 2 / 3, type, "outage");
  }
  event(end * 2 / 3, "phase.started", "recovery");
  event(end, "run.finished", "completed", R"({"outcome":"completed","reason":"all done"})");
}

base::Status write_record(const std::string& path, int minutes, int series) {
  SQUALL_ASSIGN(const auto writer, evidence::RecordWriter::create(path, {}, 1u << 20));
  evidence::Recorder recorder(*writer, nullptr);
  base::Random random(1);
  for (int i = 0; i < series; ++i) {
    const std::string name = i == 0 ? "stuck.value" : fmt::format("gauge{}.value", i);
    SQUALL_ASSIGN([[maybe_unused]] const SeriesId id,
                  recorder.declare({.name = name, .unit = "", .source = ""}));
  }
  SQUALL_ASSIGN(const SeriesId reads, recorder.declare({.name = "reads",
                                                        .kind = evidence::SeriesKind::kRequests,
                                                        .unit = "",
                                                        .source = "reads"}));
  for (int tick = 0; tick < minutes * 600; ++tick) {
    const base::Instant at{milliseconds(100) * tick};
    for (SeriesId id = 0; id < static_cast<SeriesId>(series); ++id) {
      recorder.add(id, evidence::GaugeSample{at, id == 0 ? 0 : random.uniform()});
    }
    for (int i = 0; i < 20; ++i) {
      const base::Instant intended = at + milliseconds(5 * i);
      const base::Duration took(static_cast<std::int64_t>(random.exponential(3e6)));
      recorder.add(reads, evidence::RequestSample{
                              .intended = intended, .sent = intended, .done = intended + took});
    }
    SQUALL_TRY(recorder.flush());
  }
  SQUALL_TRY(recorder.flush());
  add_events(recorder, minutes);
  return writer->finish();
}

int judge_record(const std::string& path) {
  RunBuilder run;
  run.hypothesis("reads.success >= 99.5% during fault");
  run.hypothesis("p99(reads.latency) < 2 * baseline(p99(reads.latency)) during fault");
  run.hypothesis("max(p99(reads.latency) each 1s) < 1s during fault");
  run.hypothesis("stuck.value == 0 for 5s within 30s of revert");
  run.hypothesis("mean(reads.latency) < 100ms during fault");
  run.steady_state("reads.success >= 99%", "up").steady_state("stuck.value == 0", "none-stuck");
  const base::Instant start = base::BootClock::now();
  evidence::ReadOptions options;
  options.wanted = [&](const evidence::SeriesDeclaration& declaration) {
    return judge::needs_series(run.map(), run.experiment(), declaration);
  };
  const auto record = evidence::Record::read(path, options);
  if (!record.ok()) return 1;
  const double read = base::to_seconds(base::BootClock::now() - start);
  const judge::Judgement judgement = judge::judge({*record, run.map(), run.experiment()});
  const double all = base::to_seconds(base::BootClock::now() - start);
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const double cpu = static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                     static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
  fmt::print(
      "read {:.2f} s, judged {:.2f} s, together {:.2f} s ({:.2f} s of processor), {:.0f} MiB at "
      "the peak: {}\n",
      read, all - read, all, cpu, static_cast<double>(usage.ru_maxrss) / 1024,
      all <= 2 && usage.ru_maxrss <= 300 * 1024 ? "in the bar" : "OUTSIDE 2 s and 300 MiB");
  for (const auto& result : judgement.predictions) {
    fmt::print("  {}: {}\n", model::to_string(result.verdict), result.text);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const int minutes = argc > 1 ? std::atoi(argv[1]) : 60;
  const int series = argc > 2 ? std::atoi(argv[2]) : 1000;
  const std::string path = std::string(argc > 3 ? argv[3] : ".") + "/judge_hour_bench.squall";
  unlink(path.c_str());
  const pid_t writer = fork();
  if (writer == 0) {
    const auto written = write_record(path, minutes, series);
    if (!written.ok()) std::fprintf(stderr, "%s\n", written.error().to_string().c_str());
    _exit(written.ok() ? 0 : 1);
  }
  int status = 1;
  waitpid(writer, &status, 0);
  const int result = status == 0 ? judge_record(path) : 1;
  unlink(path.c_str());
  return result;
}
