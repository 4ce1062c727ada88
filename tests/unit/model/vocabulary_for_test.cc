#include "unit/model/vocabulary_for_test.h"

#include <gtest/gtest.h>

namespace squall::model::testing {
namespace {

constexpr std::string_view kFile = "/srv/shop/squall.yaml";

}  // namespace

SystemMap parse_good_map(std::string_view text, const std::string& environment) {
  Diagnostics diagnostics;
  SystemMap map =
      parse_system_map(text, std::string(kFile), environment, test_vocabulary(), diagnostics);
  EXPECT_TRUE(diagnostics.all().empty()) << diagnostics.render();
  return map;
}

std::string map_mistakes(std::string_view text, const std::string& environment) {
  Diagnostics diagnostics;
  parse_system_map(text, std::string(kFile), environment, test_vocabulary(), diagnostics);
  return diagnostics.render();
}

std::string experiment_mistakes(std::string_view text) {
  SystemMap map = parse_good_map(orchestrator_map());
  Diagnostics diagnostics;
  parse_experiment(text, "/srv/shop/worker-dies.yaml", map, test_vocabulary(), diagnostics);
  return diagnostics.render();
}

Experiment parse_good_experiment(std::string_view text) {
  // Kinds and parameters outlive the map.
  SystemMap map = parse_good_map(orchestrator_map());
  Diagnostics diagnostics;
  Experiment experiment =
      parse_experiment(text, "/srv/shop/worker-dies.yaml", map, test_vocabulary(), diagnostics);
  EXPECT_TRUE(diagnostics.all().empty()) << diagnostics.render();
  return experiment;
}

}  // namespace squall::model::testing
