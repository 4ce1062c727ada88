#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <nlohmann/json.hpp>

#include "inject/faults/syscall/interception_fault.h"
#include "inject/workers/file_gate/file_gate.h"
#include "inject/workers/file_gate/permission_group.h"
#include "inject/workers/proc_view.h"
#include "inject/workers/tracer/tracer.h"

namespace squall::inject {
namespace {

using base::Json;
using namespace std::chrono_literals;

TEST(Interception, HitsItsShareAndOnlyThat) {
  InterceptionModel model{{.share = 0.2, .delay = 10ms, .jitter = 4ms, .error = 0}, 7};
  int hits = 0;
  for (int i = 0; i < 10'000; ++i) {
    const auto fate = model.decide();
    if (!fate.hit) continue;
    ++hits;
    EXPECT_GE(fate.delay, 6ms);
    EXPECT_LE(fate.delay, 14ms);
    EXPECT_EQ(fate.error, 0);
  }
  EXPECT_NEAR(hits, 2000, 160);  // four standard deviations
}

TEST(Interception, TheSameSeedChoosesAlike) {
  const Interception half{.share = 0.5, .delay = {}, .jitter = {}, .error = EIO};
  InterceptionModel one{half, 1};
  InterceptionModel same{half, 1};
  InterceptionModel other{half, 2};
  int different = 0;
  for (int i = 0; i < 200; ++i) {
    const bool hit = one.decide().hit;
    EXPECT_EQ(hit, same.decide().hit);
    different += hit != other.decide().hit;
  }
  EXPECT_GT(different, 50);
}

TEST(Interception, JitterNeverMakesADelayNegative) {
  InterceptionModel model{{.share = 1, .delay = 1ms, .jitter = 50ms, .error = 0}, 3};
  for (int i = 0; i < 1000; ++i) EXPECT_GE(model.decide().delay, 0ms);
}

TracerConfiguration tracer() {
  TracerConfiguration configuration;
  configuration.interception.error = EIO;
  configuration.processes = {{.pid = 42, .start_time = 7}};
  configuration.calls = {1, 2};
  configuration.lifetime = 5s;
  return configuration;
}

FileGateConfiguration gate() {
  FileGateConfiguration configuration;
  configuration.interception.delay = 5ms;
  configuration.processes = {{.pid = 42, .start_time = 7}};
  configuration.path = "/data";
  configuration.writes = true;
  return configuration;
}

TEST(Interception, ConfigurationsComeBackAsTheyWere) {
  TracerConfiguration files = tracer();
  files.path = "/data";
  files.known_calls = {0};
  files.any_calls = {74};
  files.afterwards = true;
  for (const TracerConfiguration& one : {tracer(), files}) {
    const auto read = tracer_configuration_from_json(to_json(one));
    ASSERT_TRUE(read.ok()) << read.error().to_string();
    EXPECT_EQ(to_json(*read), to_json(one));
  }
  const auto read = file_gate_configuration_from_json(to_json(gate()));
  ASSERT_TRUE(read.ok()) << read.error().to_string();
  EXPECT_EQ(to_json(*read), to_json(gate()));
}

// They come over a socket: whatever is in them, a worker refuses it in words.
TEST(Interception, SenselessConfigurationsAreRefused) {
  const auto broken = [](const Json& good, const char* name, const Json& value) {
    Json json = good;
    json[name] = value;
    return json;
  };
  const Json calls = to_json(tracer());
  for (const Json& json :
       {Json(), Json::array(), broken(calls, "processes", Json::array()),
        broken(calls, "processes", {{{"pid", 1}, {"start_time", 1}}}),
        broken(calls, "processes", "42"), broken(calls, "calls", {-1}),
        broken(calls, "calls", {1024}), broken(calls, "calls", {"read"}),
        broken(calls, "calls", Json::array()), broken(calls, "path", "/data"),
        broken(calls, "known_calls", {0}), broken(calls, "lifetime_ns", -1),
        broken(calls, "interception", {{"share", 1.5}, {"errno", 5}}),
        broken(calls, "interception", {{"share", 1}, {"errno", 5}, {"delay_ns", 5}}),
        broken(calls, "interception", {{"share", 1}}),
        broken(calls, "interception", {{"share", 1}, {"errno", 4096}})}) {
    const auto refused = tracer_configuration_from_json(json);
    ASSERT_FALSE(refused.ok()) << json.dump();
    EXPECT_EQ(refused.error().code, base::ErrorCode::kCorrupt);
  }
  const Json files = to_json(gate());
  for (const Json& json :
       {Json(), broken(files, "path", "data"), broken(files, "writes", false),
        broken(files, "processes", Json::array()), broken(files, "lifetime_ns", -1)}) {
    const auto refused = file_gate_configuration_from_json(json);
    ASSERT_FALSE(refused.ok()) << json.dump();
    EXPECT_EQ(refused.error().code, base::ErrorCode::kCorrupt);
  }
}

TEST(Interception, WhatLiesInAPath) {
  EXPECT_TRUE(is_under("/data", "/data"));
  EXPECT_TRUE(is_under("/data/log/1", "/data"));
  EXPECT_TRUE(is_under("/data/log (deleted)", "/data"));
  EXPECT_TRUE(is_under("/data (deleted)", "/data"));
  EXPECT_TRUE(is_under("/anything", "/"));
  EXPECT_FALSE(is_under("/database", "/data"));
  EXPECT_FALSE(is_under("/dat", "/data"));
  EXPECT_FALSE(is_under("socket:[1]", "/"));
  EXPECT_FALSE(is_under("", "/data"));
}

TEST(Interception, ErrorsHaveTheirNames) {
  EXPECT_EQ(error_number("EIO"), EIO);
  EXPECT_EQ(error_number("EDQUOT"), EDQUOT);
  EXPECT_EQ(error_number("EVERYTHING"), 0);
  EXPECT_EQ(error_number(""), 0);
  EXPECT_TRUE(can_fail_with(EPERM));
  EXPECT_FALSE(can_fail_with(ENOENT));
}

TEST(ProcView, SeesThisProcess) {
  const auto view = ProcView::open();
  ASSERT_TRUE(view.ok());
  const auto facts = view->thread(::getpid());
  ASSERT_TRUE(facts);
  EXPECT_EQ(facts->process, ::getpid());
  EXPECT_EQ(facts->parent, ::getppid());
  const auto here = view->ancestry(::getpid());
  ASSERT_TRUE(here);
  EXPECT_EQ(here->identity, base::identify_process(::getpid()).value());
  EXPECT_EQ(here->parent, ::getppid());
  const auto parent = base::identify_process(::getppid());
  ASSERT_TRUE(parent.ok());
  EXPECT_TRUE(view->descends(::getpid(), {*parent}));
  EXPECT_FALSE(view->descends(::getpid(), {{.pid = ::getpid(), .start_time = 1}}));
  EXPECT_FALSE(view->thread(-1));
}

}  // namespace
}  // namespace squall::inject
