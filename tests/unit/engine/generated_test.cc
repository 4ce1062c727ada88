// The files that are generated from the kinds' descriptors are what this build would generate.
// `scripts/generate` writes them anew.

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "engine/kinds_document.h"
#include "engine/workspace.h"
#include "model/schema.h"

namespace squall::engine {
namespace {

std::string shipped(const std::string& path) {
  std::ifstream file(std::string(SQUALL_SOURCE_DIR) + "/" + path);
  EXPECT_TRUE(file) << path << " is missing: run scripts/generate";
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(Generated, FaultsAndProbesPages) {
  EXPECT_EQ(shipped("docs/faults.md"), faults_document()) << "run scripts/generate";
  EXPECT_EQ(shipped("docs/probes.md"), probes_document()) << "run scripts/generate";
}

TEST(Generated, Schemas) {
  EXPECT_EQ(base::Json::parse(shipped("schema/squall.schema.json")),
            model::system_map_schema(vocabulary()))
      << "run scripts/generate";
  EXPECT_EQ(base::Json::parse(shipped("schema/experiment.schema.json")),
            model::experiment_schema(vocabulary()))
      << "run scripts/generate";
}

TEST(Generated, EveryKindIsDescribedInFull) {
  for (const auto* kind : vocabulary().faults) {
    EXPECT_FALSE(kind->summary.empty()) << kind->name;
    EXPECT_FALSE(kind->effect.empty()) << kind->name;
    EXPECT_FALSE(kind->revert.empty()) << kind->name;
    EXPECT_FALSE(kind->proof.empty()) << kind->name;
    EXPECT_FALSE(kind->mechanisms.empty()) << kind->name;
    EXPECT_FALSE(kind->example.empty()) << kind->name;
    for (const auto& parameter : kind->parameters) {
      EXPECT_FALSE(parameter.summary.empty()) << kind->name << "." << parameter.name;
    }
  }
  for (const auto* kind : vocabulary().probes) {
    EXPECT_FALSE(kind->summary.empty()) << kind->name;
    EXPECT_FALSE(kind->signals.empty()) << kind->name;
    EXPECT_FALSE(kind->example.empty()) << kind->name;
  }
}

}  // namespace
}  // namespace squall::engine
