// Writes the record of one hour with 1,000 gauge series at 10 samples a second (36 million samples)
// and one request series, then reads a few series of it, and all. Prints figures; the bar is a read
// of three series within 1 s and 300 MiB.
//   record_read_bench [minutes=60] [series=1000] [folder=.]

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "base/random.h"
#include "evidence/recorder.h"

namespace squall::evidence {
namespace {

using std::chrono::milliseconds;

double megabytes_resident_peak() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

double seconds_since(base::Instant start) {
  return base::to_seconds(base::BootClock::now() - start);
}

base::Status write_record(const std::string& path, int minutes, int series) {
  SQUALL_ASSIGN(const auto writer, RecordWriter::create(path, {}, 1u << 20));
  Recorder recorder(*writer, nullptr);
  base::Random random(1);
  for (int i = 0; i < series; ++i) {
    SQUALL_ASSIGN(
        [[maybe_unused]] const SeriesId id,
        recorder.declare({.name = fmt::format("gauge{}.value", i), .unit = "", .source = ""}));
  }
  SQUALL_ASSIGN(
      const SeriesId reads,
      recorder.declare({.name = "reads", .kind = SeriesKind::kRequests, .unit = "", .source = ""}));
  for (int tick = 0; tick < minutes * 600; ++tick) {
    const base::Instant at{milliseconds(100) * tick};
    for (SeriesId id = 0; id < static_cast<SeriesId>(series); ++id) {
      recorder.add(id,
                   GaugeSample{at + base::Duration(random.below(100'000'000)), random.uniform()});
    }
    for (int i = 0; i < 20; ++i) {
      const base::Instant intended = at + milliseconds(5 * i);
      const base::Duration took(static_cast<std::int64_t>(random.exponential(3e6)));
      recorder.add(reads,
                   RequestSample{.intended = intended, .sent = intended, .done = intended + took});
    }
    SQUALL_TRY(recorder.flush());
  }
  return writer->finish();
}

int measure(int minutes, int series, const std::string& folder) {
  const std::string path = folder + "/record_read_bench.squall";
  ::unlink(path.c_str());
  base::Instant start = base::BootClock::now();
  if (const auto written = write_record(path, minutes, series); !written.ok()) {
    fmt::print(stderr, "{}\n", written.error().to_string());
    return 1;
  }
  const auto check = verify_record(path);
  fmt::print("written in {:.2f} s, {} bytes, {:.0f} MiB resident at the peak\n",
             seconds_since(start), check.ok() ? check->bytes : 0, megabytes_resident_peak());
  ReadOptions few;
  few.wanted = [](const SeriesDeclaration& declaration) {
    return declaration.name == "reads" || declaration.name == "gauge1.value" ||
           declaration.name == "gauge7.value";
  };
  start = base::BootClock::now();
  const auto record = Record::read(path, few);
  fmt::print("three series read in {:.3f} s, {:.0f} MiB resident at the peak\n",
             seconds_since(start), megabytes_resident_peak());
  start = base::BootClock::now();
  const auto all = Record::read(path);
  fmt::print("all {} series read in {:.3f} s, {:.0f} MiB resident at the peak\n",
             all.ok() ? all->series().size() : 0, seconds_since(start), megabytes_resident_peak());
  ::unlink(path.c_str());
  return record.ok() && all.ok() && all->damage().empty() ? 0 : 1;
}

}  // namespace
}  // namespace squall::evidence

int main(int argc, char** argv) {
  const int minutes = argc > 1 ? std::atoi(argv[1]) : 60;
  const int series = argc > 2 ? std::atoi(argv[2]) : 1000;
  return squall::evidence::measure(minutes, series, argc > 3 ? argv[3] : ".");
}
