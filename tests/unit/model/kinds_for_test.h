#pragma once
// Kinds for the tests and fuzzers of the file parsers: every type of value occurs, with limits and
// defaults. The real kinds are described where they are implemented, on higher floors.

#include <string_view>

#include "model/vocabulary.h"

namespace squall::model::testing {

const Vocabulary& test_vocabulary();

// A system map with every kind of entry, valid in all its environments.
std::string_view orchestrator_map();

}  // namespace squall::model::testing
