// Conditions evaluated on requests and on gauge samples.

#include <gtest/gtest.h>

#include <cstdlib>
#include <new>

#include "unit/model/prediction_support.h"

namespace {
thread_local std::size_t allocations = 0;

// Not inlined: g++ would take the pair of new and free for a mistake.
[[gnu::noinline]] void release(void* memory) {
  std::free(memory);
}
}  // namespace

// Counts what this thread allocates. Every form goes through malloc, as sanitizers object to a
// mixture.
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  ++allocations;
  return std::malloc(size == 0 ? 1 : size);
}
void* operator new(std::size_t size) {
  if (void* memory = operator new(size, std::nothrow)) return memory;
  std::abort();
}
void* operator new[](std::size_t size) {
  return operator new(size);
}
void* operator new[](std::size_t size, const std::nothrow_t& tag) noexcept {
  return operator new(size, tag);
}
void operator delete(void* memory) noexcept {
  release(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  release(memory);
}
void operator delete(void* memory, const std::nothrow_t&) noexcept {
  release(memory);
}
void operator delete[](void* memory) noexcept {
  release(memory);
}
void operator delete[](void* memory, std::size_t) noexcept {
  release(memory);
}
void operator delete[](void* memory, const std::nothrow_t&) noexcept {
  release(memory);
}

namespace squall::model {
namespace {

using testing::messages;

ConditionPtr condition(const std::string& text) {
  const auto parsed = testing::parse("share(" + text + ") > 1% at end");
  EXPECT_TRUE(parsed.prediction) << text << "\n" << messages(parsed.errors);
  if (!parsed.prediction) return nullptr;
  return std::get<Share>(parsed.prediction->left->node).condition;
}

RequestFields answer(int status) {
  RequestFields fields;
  fields.status = status;
  fields.latency_seconds = 0.25;
  fields.success = status == 200;
  fields.outcome = status == 0 ? "timeout" : status == 200 ? "ok" : "status";
  return fields;
}

TEST(PredictionCondition, Status) {
  const auto holds = [](const char* text, int status) {
    return matches(*condition(text), answer(status));
  };
  EXPECT_TRUE(holds("reads.status == 200", 200));
  EXPECT_FALSE(holds("reads.status == 200", 201));
  EXPECT_TRUE(holds("reads.status == 2xx", 299));
  EXPECT_FALSE(holds("reads.status == 2xx", 300));
  EXPECT_TRUE(holds("reads.status != 2xx", 503));
  EXPECT_TRUE(holds("reads.status >= 500", 500));
  EXPECT_TRUE(holds("reads.status exists", 404));
}

TEST(PredictionCondition, NoAnswerHasNoStatus) {
  const auto holds = [](const char* text) { return matches(*condition(text), answer(0)); };
  EXPECT_FALSE(holds("reads.status == 200"));
  EXPECT_FALSE(holds("reads.status < 500"));
  EXPECT_FALSE(holds("reads.status >= 100"));
  EXPECT_FALSE(holds("reads.status == 5xx"));
  EXPECT_TRUE(holds("reads.status != 200"));
  EXPECT_TRUE(holds("reads.status != 5xx"));
  EXPECT_FALSE(holds("reads.status exists"));
  EXPECT_TRUE(holds("not reads.status exists"));
  EXPECT_TRUE(holds("reads.outcome == \"timeout\""));
}

TEST(PredictionCondition, TruthAndLogic) {
  RequestFields fields = answer(200);
  fields.faulted = true;
  EXPECT_TRUE(matches(*condition("reads.success and reads.faulted"), fields));
  EXPECT_FALSE(matches(*condition("reads.success and not reads.faulted"), fields));
  EXPECT_TRUE(matches(*condition("reads.status == 500 or reads.faulted"), fields));
  EXPECT_FALSE(matches(*condition("not (reads.status == 500 or reads.faulted)"), fields));
  // `and` binds tighter.
  EXPECT_TRUE(
      matches(*condition("reads.success or reads.faulted and reads.status == 500"), fields));
  EXPECT_FALSE(
      matches(*condition("(reads.success or reads.faulted) and reads.status == 500"), fields));
  EXPECT_TRUE(matches(*condition("reads.latency >= 250ms"), fields));
  EXPECT_FALSE(matches(*condition("reads.latency > 0.25s"), fields));
}

TEST(PredictionCondition, HeadersAndJson) {
  RequestFields fields = answer(503);
  fields.header = [](std::string_view name) -> std::optional<std::string> {
    if (name == "Retry-After") return "5";
    if (name == "Server") return "squid";
    return std::nullopt;
  };
  fields.json = [](std::string_view path) -> std::optional<std::string> {
    if (path == "$.ok") return "true";
    if (path == "$.n") return "3.50";
    return std::nullopt;
  };
  const auto holds = [&](const char* text) { return matches(*condition(text), fields); };
  EXPECT_TRUE(holds("reads.header[\"Retry-After\"] exists"));
  EXPECT_FALSE(holds("reads.header[\"X\"] exists"));
  EXPECT_TRUE(holds("reads.header[\"Retry-After\"] <= 5"));
  EXPECT_TRUE(holds("reads.header[\"Retry-After\"] == \"5\""));
  EXPECT_FALSE(holds("reads.header[\"Server\"] < 5"));
  EXPECT_TRUE(holds("reads.header[\"Server\"] != 5"));
  EXPECT_TRUE(holds("reads.header[\"Server\"] != \"nginx\""));
  EXPECT_TRUE(holds("reads.json[\"$.ok\"]"));
  EXPECT_TRUE(holds("reads.json[\"$.ok\"] == true"));
  EXPECT_FALSE(holds("reads.json[\"$.ok\"] == false"));
  EXPECT_TRUE(holds("reads.json[\"$.n\"] == 3.5"));
  EXPECT_FALSE(holds("reads.json[\"$.gone\"] == \"\""));
  EXPECT_FALSE(holds("reads.json[\"$.gone\"]"));
  EXPECT_FALSE(holds("reads.json[\"$.gone\"] > 0"));
  EXPECT_TRUE(holds("reads.json[\"$.gone\"] != true"));
  EXPECT_FALSE(matches(*condition("reads.json[\"$.ok\"] exists"), answer(200)))
      << "a probe that reads no bodies";
}

TEST(PredictionCondition, GaugeSamples) {
  EXPECT_TRUE(matches(*condition("stuck.value > 3"), 4));
  EXPECT_FALSE(matches(*condition("stuck.value > 3"), 3));
  EXPECT_TRUE(matches(*condition("not (stuck.value > 3 or stuck.value < -3)"), -3));
  EXPECT_TRUE(matches(*condition("pool.used >= 90%"), 0.9));
  EXPECT_TRUE(matches(*condition("worker.memory > 1KiB"), 1025));
}

TEST(PredictionCondition, RequestsAreMatchedWithoutAllocation) {
  const ConditionPtr conditions[] = {
      condition("reads.status == 200 and reads.latency < 1s and not reads.faulted"),
      condition("not reads.success or reads.status != 5xx or reads.outcome == \"bad_body\""),
      condition("reads.status exists and reads.outcome != \"timeout\"")};
  RequestFields fields = answer(200);
  bool held = true;
  const std::size_t before = allocations;
  for (int i = 0; i < 1000; ++i) {
    for (const ConditionPtr& each : conditions) held = matches(*each, fields) && held;
  }
  EXPECT_EQ(allocations, before);
  EXPECT_TRUE(held);
}

}  // namespace
}  // namespace squall::model
