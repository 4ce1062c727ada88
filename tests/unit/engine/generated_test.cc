// The files that are generated from the kinds' descriptors are what this build would generate.
// `scripts/generate` writes them anew.

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "base/text.h"
#include "engine/kinds_document.h"
#include "engine/workspace.h"
#include "model/experiment.h"
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

// An example that one cannot copy is worse than none.
TEST(Generated, EveryExampleOfAFaultIsOneThatParses) {
  model::SystemMap map;
  map.name = "example";
  map.directory = "/srv/example";
  for (const char* name : {"api", "db", "dns", "queue", "worker"}) {
    model::Service service;
    service.name = name;
    service.process.exe = name;
    service.start = {"./up", name};
    service.members = {{.name = "primary"}, {.name = "standby"}};
    map.services.push_back(std::move(service));
  }
  for (const auto* kind : vocabulary().faults) {
    std::string faults;
    for (const std::string& line : base::split(std::string(kind->example), '\n'))
      faults += "  " + line + "\n";
    const std::string text =
        "experiment: example\nscenario: an example\n"
        "hypothesis:\n  it-lives: api.processes >= 1 during fault\n"
        "blast_radius: { services: [api, db, dns, queue, worker], duration: 1min }\n"
        "abort_when: [ api.processes < 1 over 2s ]\n"
        "faults:\n" +
        faults;
    model::Diagnostics diagnostics;
    model::parse_experiment(text, "example.yaml", map, vocabulary(), diagnostics);
    EXPECT_FALSE(diagnostics.has_errors()) << kind->name << "\n" << diagnostics.render();
  }
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
