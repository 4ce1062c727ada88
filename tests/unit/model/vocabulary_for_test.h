#pragma once
// Kinds for the tests of the file parsers: every type of value occurs, with limits and defaults.
// The real kinds are described where they are implemented, on higher floors.

#include <gtest/gtest.h>

#include <array>
#include <string>
#include <string_view>

#include "model/experiment.h"
#include "model/system_map.h"
#include "model/vocabulary.h"

namespace squall::model::testing {

const Vocabulary& test_vocabulary();

// A system map with every kind of entry, valid in all its environments.
std::string_view orchestrator_map();

// The map, which must have no mistakes.
SystemMap parse_good_map(std::string_view text, const std::string& environment = {});

// What a user sees for a file with mistakes (or empty).
std::string map_mistakes(std::string_view text, const std::string& environment = {});
// The experiment is read against orchestrator_map().
std::string experiment_mistakes(std::string_view text);
Experiment parse_good_experiment(std::string_view text);

}  // namespace squall::model::testing
