#include "model/system_map.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "unit/model/vocabulary_for_test.h"

namespace squall::model {
namespace {

using namespace std::chrono_literals;
using testing::map_mistakes;
using testing::orchestrator_map;
using testing::parse_good_map;

constexpr std::string_view kSmall = "system: s\nservices: { api: { listens: 127.0.0.1:80 } }\n";

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}
#define EXPECT_CONTAINS(text, part) EXPECT_TRUE(contains(text, part)) << (text)

TEST(SystemMap, ReadsEveryKeyOfAService) {
  SystemMap map = parse_good_map(orchestrator_map());
  EXPECT_EQ(map.name, "orchestrator");
  EXPECT_EQ(map.directory, "/srv/shop");
  ASSERT_EQ(map.services.size(), 6u);
  const Service* api = map.service("api");
  ASSERT_NE(api, nullptr);
  EXPECT_EQ(api->process.exe, "orchestrator-api");
  EXPECT_EQ(api->start, (std::vector<std::string>{"./up", "api"}));
  EXPECT_EQ(api->listens->text(), "127.0.0.1:8080");
  EXPECT_EQ(api->depends_on, (std::vector<std::string>{"db", "queue"}));
  EXPECT_EQ(api->owner, "payments");
  EXPECT_EQ(api->logs, (std::vector<std::string>{"/srv/shop/log/api.log"}));
  EXPECT_EQ(api->location.line, 4);
  EXPECT_TRUE(map.service("users")->external);
  EXPECT_EQ(map.service("queue")->container.label, "app=queue");
  const Service* db = map.service("db");
  ASSERT_EQ(db->members.size(), 2u);
  EXPECT_EQ(db->members[0].role, "primary");
  EXPECT_EQ(db->members[1].role, "replica");
  EXPECT_EQ(db->members[1].listens->port, 5433);
}

TEST(SystemMap, AMemberMayBeAContainer) {
  const SystemMap map = parse_good_map(
      "system: shop\nservices:\n  queue:\n    members:\n"
      "      one: { container: { name: queue-1 } }\n"
      "      two: { container: { label: app=queue }, role: replica }\n");
  const auto& members = map.service("queue")->members;
  ASSERT_EQ(members.size(), 2u);
  EXPECT_EQ(members[0].container.name, "queue-1");
  EXPECT_EQ(members[1].container.label, "app=queue");
}

TEST(SystemMap, ReadsProbesWithDefaultsInBaseUnits) {
  SystemMap map = parse_good_map(orchestrator_map());
  const ProbeSpecification* reads = map.probe("reads");
  ASSERT_NE(reads, nullptr);
  EXPECT_EQ(reads->kind->name, "http");
  EXPECT_EQ(reads->from, "users");
  EXPECT_EQ(reads->to, "api");
  EXPECT_EQ(reads->parameters.text("method"), "GET");
  EXPECT_EQ(reads->parameters.duration("timeout"), 2s);
  EXPECT_EQ(reads->parameters.object("rate").text("shape"), "constant");
  EXPECT_EQ(reads->parameters.object("rate").number("rate"), 200);
  EXPECT_EQ(reads->parameters.object("expect").texts("status"), std::vector<std::string>{"2xx"});
  EXPECT_FALSE(reads->parameters.has("tls"));
  const ProbeSpecification* stuck = map.probe("stuck");
  EXPECT_EQ(stuck->parameters.text("dsn_file"), "/srv/shop/db.dsn");
  EXPECT_EQ(stuck->parameters.duration("every"), 500ms);
  const ProbeSpecification* writes = map.probe("writes");
  EXPECT_EQ(writes->parameters.duration("timeout"), 5s);
  EXPECT_EQ(writes->parameters.object("expect").texts("status"), std::vector<std::string>{"2xx"});
  EXPECT_EQ(writes->parameters.json()["body"],
            base::Json::parse(R"({"steps": [1, 2], "name": "x"})"));
}

TEST(SystemMap, AnUnnamedEnvironmentIsProduction) {
  SystemMap map = parse_good_map(kSmall);
  EXPECT_EQ(map.environment.name, "production");
  EXPECT_TRUE(map.environment.production);
  EXPECT_TRUE(map.environments.empty());
}

TEST(SystemMap, MergesTheOverridesOfTheEnvironment) {
  SystemMap production = parse_good_map(orchestrator_map());
  EXPECT_TRUE(production.environment.production);
  EXPECT_EQ(production.service("worker")->expected_members, 12);
  EXPECT_EQ(production.environments, (std::vector<std::string>{"dev", "staging", "production"}));

  SystemMap dev = parse_good_map(orchestrator_map(), "dev");
  EXPECT_FALSE(dev.environment.production);
  EXPECT_EQ(dev.probe("reads")->parameters.object("rate").number("rate"), 20);
  EXPECT_EQ(dev.probe("reads")->parameters.duration("timeout"), 2s);
  EXPECT_EQ(dev.service("worker")->expected_members, 3);

  SystemMap staging = parse_good_map(orchestrator_map(), "staging");
  EXPECT_TRUE(staging.environment.production);
  EXPECT_EQ(staging.service("mailer"), nullptr);
  ASSERT_EQ(staging.steady_state.size(), 3u);
  EXPECT_EQ(staging.steady_state[1].name, "fast");
  EXPECT_EQ(staging.steady_state[1].text, "p99(reads.latency) < 1s");
}

TEST(SystemMap, AnUnknownEnvironmentListsThoseThatExist) {
  std::string text = map_mistakes(orchestrator_map(), "stagin");
  EXPECT_CONTAINS(text, "there is no environment `stagin`");
  EXPECT_CONTAINS(text, "did you mean `staging`?");
  EXPECT_CONTAINS(text, "dev, staging and production");
}

TEST(SystemMap, AMistakeInAnotherEnvironmentIsReportedOnce) {
  std::string text = std::string(kSmall) +
                     "environments:\n  dev: {}\n  test: { services: { api: { lissens: 1 } } }\n";
  EXPECT_EQ(map_mistakes(text, "dev"),
            "/srv/shop/squall.yaml:5:30: error: unknown key `lissens` in service `api`\n"
            "  5 |   test: { services: { api: { lissens: 1 } } }\n"
            "    |                              ^~~~~~~\n"
            "  hint: did you mean `listens`?\n");
}

TEST(SystemMap, ReportsAllMistakesAtOnce) {
  std::string text = map_mistakes(R"(system: my shop
servces: {}
services:
  api: { listens: 8080, depend_on: [db], depends_on: [db, cach] }
  db: { external: yes }
  cache: { members: 010, owner: null }
probes:
  a: { htpp: {} }
  b: { http: { url: 127.0.0.1, timeout: 2, rate: fast } }
steady_state: { up: a.success >= 99% }
)");
  for (const char* expected :
       {":1:9: error: `system` cannot be `my shop`", ":2:1: error: unknown key `servces`",
        "did you mean `services`?", ":4:19: error: `listens` is `8080`",
        ":4:25: error: unknown key `depend_on` in service `api`", "did you mean `depends_on`?",
        ":4:59: error: `depends_on` of service `api` names `cach`", "did you mean `cache`?",
        ":5:19: error: `external` is `yes`", "hint: write true", ":6:21: error: `members` is `010`",
        "write 10 or 8", "`owner` of service `cache` is empty",
        ":8:8: error: unknown key or probe kind `htpp`", "did you mean `http`?",
        ":9:21: error: `url` of probe `b` is `127.0.0.1`", ":9:41: error: `timeout` of probe `b`",
        ":9:50: error: `rate` of probe `b`", ":10:21: error:"}) {
    EXPECT_CONTAINS(text, expected);
  }
}

TEST(SystemMap, ACircleOfDependenciesIsNamed) {
  std::string text = map_mistakes(
      "system: s\nservices:\n  a: { depends_on: [b] }\n  b: { depends_on: [c] }\n"
      "  c: { depends_on: [b] }\n");
  EXPECT_CONTAINS(text, "`depends_on` goes in a circle: b -> c -> b");
}

TEST(SystemMap, DependentsAreFoundThroughOthers) {
  SystemMap map = parse_good_map(orchestrator_map());
  std::vector<std::string> dependents = map.dependents_of("db");
  std::sort(dependents.begin(), dependents.end());
  EXPECT_EQ(dependents, (std::vector<std::string>{"api", "users", "worker"}));
  EXPECT_TRUE(map.dependents_of("users").empty());
}

TEST(SystemMap, AnExternalServiceRunsNowhereHere) {
  EXPECT_CONTAINS(
      map_mistakes("system: s\nservices: { a: { external: true, listens: 127.0.0.1:1 } }\n"),
      "service `a` is external, and yet is described as running here");
}

TEST(SystemMap, AProbeHasExactlyOneKind) {
  std::string base(kSmall);
  EXPECT_CONTAINS(map_mistakes(base + "probes: { p: { from: api } }\n"), "probe `p` has no kind");
  EXPECT_CONTAINS(
      map_mistakes(base +
                   "probes:\n  p: { log: { file: a, contains: b }, http: { url: http://a } }\n"),
      "probe `p` has two kinds, `log` and `http`");
}

TEST(SystemMap, AProbeAndAServiceNeedDifferentNames) {
  EXPECT_CONTAINS(
      map_mistakes(std::string(kSmall) + "probes: { api: { log: { file: a, contains: b } } }\n"),
      "`api` is a service and a probe");
}

TEST(SystemMap, NamesFitThePredictionLanguage) {
  EXPECT_CONTAINS(map_mistakes("system: s\nservices: { 2nd: {} }\n"),
                  "`2nd` cannot be the name of a service");
  EXPECT_CONTAINS(map_mistakes("system: s\nservices: { \"a b\": {} }\n"), "cannot be the name");
  EXPECT_EQ(map_mistakes("system: s\nservices: { order-api: {} }\n"), "");
}

TEST(SystemMap, ReadsEveryFormOfLoad) {
  SystemMap map = parse_good_map(R"(system: s
services: { api: {} }
probes:
  a: { http: { url: http://a, rate: { poisson: 50/s } } }
  b: { http: { url: http://a, rate: { ramp: { from: 0, to: 60/min, over: 1min } } } }
  c: { http: { url: http://a, rate: { step: [ { rate: 10/s, for: 5s }, { rate: 20/s, )"
                                 R"(for: 5s } ] } } }
)");
  EXPECT_EQ(map.probe("a")->parameters.json()["rate"],
            base::Json::parse(R"({"shape": "poisson", "rate": 50.0})"));
  EXPECT_EQ(map.probe("b")->parameters.json()["rate"],
            base::Json::parse(R"({"shape": "ramp", "from": 0.0, "to": 1.0, "over": 60000000000})"));
  EXPECT_EQ(map.probe("c")->parameters.json()["rate"]["steps"].size(), 2u);
  EXPECT_CONTAINS(map_mistakes("system: s\nservices: { api: {} }\n"
                               "probes: { a: { http: { url: http://a, rate: 0 } } }\n"),
                  "is not above zero");
  EXPECT_CONTAINS(map_mistakes("system: s\nservices: { api: {} }\n"
                               "probes: { a: { http: { url: http://a, rate: 200000/s } } }\n"),
                  "at most 100000/s is allowed");
}

TEST(SystemMap, SystemWideAbortRulesAndLimits) {
  SystemMap map = parse_good_map(R"(system: s
services: { api: { listens: "unix:run/api.sock" } }
limits: { longest_fault: 30s, processes: 1 }
abort_when:
  - api.memory > 1GiB
)");
  EXPECT_EQ(map.limits.longest_fault, 30s);
  EXPECT_EQ(map.limits.processes, 1);
  ASSERT_EQ(map.abort_when.size(), 1u);
  EXPECT_EQ(map.abort_when[0].name, "system-abort-1");
  EXPECT_EQ(map.service("api")->listens->text(), "unix:/srv/shop/run/api.sock");
}

TEST(ListenAddress, ReadsAndPrintsItsForms) {
  for (const char* text : {"127.0.0.1:8080", "[::1]:80", "unix:/run/x.sock", "0.0.0.0:1"}) {
    auto address = parse_listen_address(text);
    ASSERT_TRUE(address.has_value()) << text;
    EXPECT_EQ(address->text(), text);
  }
  EXPECT_EQ(parse_listen_address("localhost:80")->text(), "127.0.0.1:80");
  for (const char* text : {"", "8080", ":80", "db:5432", "127.0.0.1", "127.0.0.1:0",
                           "1.2.3.4:70000", "::1:80", "unix:", "127.0.0.1:80x"}) {
    EXPECT_FALSE(parse_listen_address(text).has_value()) << text;
  }
}

}  // namespace
}  // namespace squall::model
