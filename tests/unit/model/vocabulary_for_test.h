#pragma once
// What the tests of the file parsers share: reading with the kinds of kinds_for_test.h, and what a
// user then sees.

#include <string>
#include <string_view>

#include "model/experiment.h"
#include "model/system_map.h"
#include "unit/model/kinds_for_test.h"

namespace squall::model::testing {

// The map, which must have no mistakes.
SystemMap parse_good_map(std::string_view text, const std::string& environment = {});

// What a user sees for a file with mistakes (or empty).
std::string map_mistakes(std::string_view text, const std::string& environment = {});
// The experiment is read against orchestrator_map().
std::string experiment_mistakes(std::string_view text);
Experiment parse_good_experiment(std::string_view text);

}  // namespace squall::model::testing
