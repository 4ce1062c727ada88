// The program itself: size of the binary, time of `squall version`.

#include <sys/stat.h>

#include "base/process.h"
#include "figures.h"

int main() {
  using namespace squall;
  struct stat file {};
  if (stat(SQUALL_PROGRAM, &file) != 0) return 1;
  const double mebibytes = static_cast<double>(file.st_size) / (1 << 20);
  bench::report("binary, stripped", bench::text("%.1f MiB", mebibytes), "15 MiB", mebibytes <= 15);
  std::vector<double> times;
  for (int i = 0; i < 100; ++i) {
    base::SpawnOptions options;
    options.argv = {SQUALL_PROGRAM, "version"};
    const auto output = base::run_command(options, std::chrono::seconds(5));
    if (!output.ok() || output->exit_status != 0) return 1;
    times.push_back(base::to_seconds(output->took) * 1e3);
  }
  const double middle = bench::median(times);
  bench::report("`squall version`, median of 100", bench::text("%.2f ms", middle), "5 ms",
                middle <= 5);
  return 0;
}
