#pragma once
// Pieces of the JSON report that other outputs share. Internal.

#include "base/json.h"
#include "report/contents.h"

namespace squall::report {

base::Json prediction_json(const Contents& contents, const judge::PredictionResult& result);
// null when absent or not a number that JSON has.
base::Json optional_number(const std::optional<double>& value);
base::Json optional_seconds(const std::optional<base::Duration>& value);

}  // namespace squall::report
