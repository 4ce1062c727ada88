#pragma once
// What to draw for a prediction: its expression over time, as the judge evaluates it. Internal.

#include <optional>
#include <string>
#include <vector>

#include "report/contents.h"

namespace squall::report {

struct GraphPoint {
  double begin = 0;  // seconds from the start of the run
  double end = 0;    // of its window; of a gauge: when the next sample takes over
  double value = 0;  // not a number: no data
};

struct Graph {
  std::string what;  // "p99(reads.latency) in windows of 1s", "every sample of stuck.value"
  base::Dimension dimension = base::Dimension::kNumber;
  bool steps = false;  // a gauge: each value holds until the next one
  std::vector<GraphPoint> points;
  double begin = 0;  // of the run, in seconds from its start
  double end = 0;
  // The threshold can be drawn beside the points: both mean the same. A count over a whole phase,
  // for one, cannot be compared with counts per second.
  bool comparable = true;
};

// Absent when the prediction's tree is not known, or nothing of it is on record.
std::optional<Graph> graph_of(const Contents& contents, const judge::PredictionResult& result);

}  // namespace squall::report
