#pragma once
// What the benchmarks share: medians, quantiles, and a line for the results table.

#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace squall::bench {

// q from 0 to 1, by nearest rank; `values` must not be empty.
inline double quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  const auto rank = static_cast<std::size_t>(std::ceil(q * static_cast<double>(values.size())));
  return values[std::min(values.size() - 1, rank == 0 ? 0 : rank - 1)];
}
inline double median(const std::vector<double>& values) {
  return quantile(values, 0.5);
}

// Kilobytes of the named line of /proc/PID/smaps_rollup; -1 when the process is gone.
inline long smaps_kilobytes(pid_t pid, std::string_view line_name) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/smaps_rollup");
  std::string name;
  long value = 0;
  std::string unit;
  std::string header;
  std::getline(file, header);
  while (file >> name >> value >> unit) {
    if (name == std::string(line_name) + ":") return value;
  }
  return -1;
}

// One figure beside its bar, as bench/run collects them.
inline void report(const char* what, const std::string& figure, const char* bar, bool met) {
  std::printf("%-58s %-34s bar %-22s %s\n", what, figure.c_str(), bar, met ? "met" : "MISSED");
  std::fflush(stdout);
}

inline std::string text(const char* format, double value) {
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, format, value);
  return buffer;
}

}  // namespace squall::bench
