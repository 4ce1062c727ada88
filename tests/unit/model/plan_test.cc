#include "model/plan.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <nlohmann/json.hpp>

namespace squall::model {
namespace {

using namespace std::chrono_literals;

Plan example_plan() {
  Plan plan;
  plan.experiment = "worker-dies";
  plan.system = "orchestrator";
  plan.scenario = "One worker is killed.";
  plan.environment = "dev";
  plan.production = false;
  plan.seed = 0xFFFFFFFFFFFFFFFF;
  PlannedFault fault;
  fault.name = "outage";
  fault.kind = "process.kill";
  fault.parameters = Parameters(base::Json{{"service", "worker"}, {"count", 1}});
  fault.target = "one of service worker, chosen by seed";
  fault.services = {"worker"};
  fault.processes_max = 1;
  fault.at = 5s;
  fault.duration = 20s;
  fault.changes = {
      {"sends SIGKILL to one process", "waits until it is back", LifetimeClass::kOneWay}};
  fault.mechanisms = {"pidfd"};
  fault.lifetime = LifetimeClass::kOneWay;
  plan.faults = {fault};
  plan.predictions = {{"stays-up", "reads.success >= 99% during fault", false, "w.yaml:4:3"},
                      {"up", "reads.success >= 99%", true, "squall.yaml:9:5"}};
  plan.abort_when = {"reads.success < 90% over 2s"};
  plan.blast_radius = {{"worker"}, 1, 30s};
  plan.phases = {15s, 40s};
  plan.lag_limit = 100ms;
  plan.drop_limit = 0.001;
  plan.decidability = {{"stays-up", true, 4000, 700, "Wilson interval, 95 %", "enough"}};
  plan.warnings = {"two faults overlap"};
  plan.lifetime = LifetimeClass::kOneWay;
  return plan;
}

Binding example_binding() {
  Binding binding;
  FaultBinding fault;
  fault.fault = "outage";
  fault.kind = "process.kill";
  fault.targets = {{"worker", "", {4242, 99}, "orchestrator-worker pid 4242"}};
  fault.mechanism = "pidfd";
  fault.lifetime = LifetimeClass::kOneWay;
  fault.details = Parameters(base::Json{{"signal", 9}});
  binding.faults = {fault};
  binding.hostname = "host";
  binding.kernel = "6.1.0";
  return binding;
}

TEST(Plan, SurvivesJson) {
  base::Json json = to_json(example_plan());
  base::Result<Plan> back = plan_from_json(base::Json::parse(json.dump()));
  ASSERT_TRUE(back.ok()) << back.error().to_string();
  EXPECT_EQ(to_json(*back), json);
  EXPECT_EQ(back->seed, 0xFFFFFFFFFFFFFFFF);
  EXPECT_EQ(back->faults[0].duration, 20s);
  EXPECT_EQ(plan_hash(*back), plan_hash(example_plan()));
}

// What people approve is named by this hash: it changes only together with the format's number.
TEST(Plan, HashIsStable) {
  EXPECT_EQ(plan_hash(example_plan()),
            "c04f05e211b406271d37787d37325b32c60500dca3a4952a99e2d782ca97ea0d");
}

TEST(Plan, HashCoversEverythingButAdvice) {
  const std::string original = plan_hash(example_plan());
  Plan plan = example_plan();
  plan.decidability.clear();
  plan.warnings = {"another"};
  EXPECT_EQ(plan_hash(plan), original);

  base::Json json = to_json(example_plan());
  for (const auto& [key, value] : json.items()) {
    if (key == "decidability" || key == "warnings" || key == "format") continue;
    base::Json other = json;
    if (value.is_string() && key == "lifetime") {
      other[key] = "journaled";
    } else if (value.is_string()) {
      other[key] = "123";
    } else if (value.is_boolean()) {
      other[key] = !value.get<bool>();
    } else if (value.is_number()) {
      other[key] = 77;
    } else if (value.is_array()) {
      other[key].erase(0);
    } else {
      continue;
    }
    base::Result<Plan> changed = plan_from_json(other);
    ASSERT_TRUE(changed.ok()) << key << ": " << changed.error().to_string();
    EXPECT_NE(plan_hash(*changed), original) << key;
  }
}

TEST(Plan, OverlapIsPartOfWhatIsApproved) {
  EXPECT_FALSE(to_json(example_plan())["faults"][0].contains("overlap"));
  Plan plan = example_plan();
  plan.faults[0].overlap = true;
  EXPECT_NE(plan_hash(plan), plan_hash(example_plan()));
  const auto back = plan_from_json(to_json(plan));
  ASSERT_TRUE(back.ok()) << back.error().to_string();
  EXPECT_TRUE(back->faults[0].overlap);
  EXPECT_EQ(plan_hash(*back), plan_hash(plan));
  base::Json wrong = to_json(plan);
  wrong["faults"][0]["overlap"] = "yes";
  EXPECT_FALSE(plan_from_json(wrong).ok());
}

TEST(Plan, DamagedJsonIsAnErrorThatNamesTheKey) {
  base::Json json = to_json(example_plan());
  json["faults"][0]["duration_ns"] = "20s";
  base::Result<Plan> plan = plan_from_json(json);
  ASSERT_FALSE(plan.ok());
  EXPECT_EQ(plan.error().code, base::ErrorCode::kCorrupt);
  EXPECT_NE(plan.error().message.find("duration_ns"), std::string::npos);
  for (const char* text : {"null", "[]", "{}", "3", R"({"format": 2})"}) {
    EXPECT_FALSE(plan_from_json(base::Json::parse(text)).ok()) << text;
  }
  EXPECT_FALSE(binding_from_json(base::Json::parse(R"({"format": 1, "faults": [{}]})")).ok());
}

// Whatever single value of a plan is replaced by whatever else, reading ends in a plan or an error.
RC_GTEST_PROP(Plan, ReadingNeverEndsTheProcess, ()) {
  base::Json json = to_json(example_plan()).flatten();
  auto which = *rc::gen::inRange<std::size_t>(0, json.size());
  auto item = json.begin();
  std::advance(item, static_cast<long>(which));
  const std::vector<base::Json> values = {nullptr,
                                          -1,
                                          1e300,
                                          "text",
                                          true,
                                          18446744073709551615u,
                                          base::Json::array(),
                                          base::Json::object()};
  *item = values[*rc::gen::inRange<std::size_t>(0, values.size())];
  base::Json damaged;
  try {
    damaged = json.unflatten();
  } catch (const base::Json::exception&) {
    return;  // only empty containers cannot be unflattened
  }
  base::Result<Plan> plan = plan_from_json(damaged);
  if (plan.ok()) RC_ASSERT(to_json(*plan).is_object());
}

RC_GTEST_PROP(Plan, RoundTripsWithAnyTexts, ()) {
  Plan plan = example_plan();
  plan.scenario = *rc::gen::string<std::string>();
  // JSON holds Unicode only; files are checked to be UTF-8 when they are read.
  for (char& c : plan.scenario) c = static_cast<char>(c & 0x7F);
  plan.seed = *rc::gen::arbitrary<std::uint64_t>();
  plan.faults[0].at = base::Duration(*rc::gen::inRange<std::int64_t>(0, 1LL << 60));
  plan.faults[0].processes_max = *rc::gen::inRange(0, 1000);
  plan.drop_limit = static_cast<double>(*rc::gen::inRange(0, 1000000)) / 1e6;
  plan.faults.resize(*rc::gen::inRange<std::size_t>(1, 4), plan.faults[0]);
  base::Result<Plan> back = plan_from_json(base::Json::parse(to_json(plan).dump()));
  RC_ASSERT(back.ok());
  RC_ASSERT(to_json(*back) == to_json(plan));
  RC_ASSERT(plan_hash(*back) == plan_hash(plan));
}

TEST(Binding, SurvivesJson) {
  base::Json json = to_json(example_binding());
  base::Result<Binding> back = binding_from_json(base::Json::parse(json.dump()));
  ASSERT_TRUE(back.ok()) << back.error().to_string();
  EXPECT_EQ(to_json(*back), json);
  EXPECT_EQ(back->faults[0].targets[0].process, (base::ProcessIdentity{4242, 99}));
}

TEST(Misfits, AFittingBindingHasNone) {
  EXPECT_EQ(misfits(example_plan(), example_binding()), std::vector<std::string>{});
}

void expect_misfit(const Plan& plan, const Binding& binding, std::string_view expected) {
  std::vector<std::string> found = misfits(plan, binding);
  ASSERT_EQ(found.size(), 1u) << expected;
  EXPECT_NE(found[0].find(expected), std::string::npos) << found[0];
}

TEST(Misfits, EachBoundIsChecked) {
  Binding binding = example_binding();
  binding.faults[0].targets.clear();
  expect_misfit(example_plan(), binding, "is bound to nothing");

  binding = example_binding();
  binding.faults[0].overlap = true;
  expect_misfit(example_plan(), binding, "does not say `overlap: true`");

  binding = example_binding();
  binding.faults[0].mechanism = "cgroup.kill";
  expect_misfit(example_plan(), binding, "would use the mechanism cgroup.kill");

  binding = example_binding();
  binding.faults[0].targets[0].service = "api";
  expect_misfit(example_plan(), binding, "outside the blast radius");

  binding = example_binding();
  Plan plan = example_plan();
  plan.faults[0].lifetime = LifetimeClass::kKernelHeld;
  expect_misfit(plan, binding, "would be one-way; the plan allows kernel-held at the weakest");

  binding = example_binding();
  binding.faults[0].targets.push_back({"worker", "", {4243, 100}, "pid 4243"});
  plan = example_plan();
  plan.faults[0].processes_max = 2;
  expect_misfit(plan, binding, "2 processes would be touched; the blast radius allows 1");
  plan.faults[0].processes_max = 1;
  plan.blast_radius.processes = 2;
  expect_misfit(plan, binding, "would touch 2 processes; the plan allows 1");

  binding = example_binding();
  binding.faults.clear();
  expect_misfit(example_plan(), binding, "is not bound");

  binding = example_binding();
  binding.faults.push_back(binding.faults[0]);
  expect_misfit(example_plan(), binding, "is bound twice");

  binding = example_binding();
  binding.faults.push_back(binding.faults[0]);
  binding.faults[1].fault = "other";
  expect_misfit(example_plan(), binding, "the plan has no fault `other`");
}

TEST(Misfits, OneProcessTouchedByTwoFaultsCountsOnce) {
  Plan plan = example_plan();
  plan.faults.push_back(plan.faults[0]);
  plan.faults[1].name = "again";
  Binding binding = example_binding();
  binding.faults.push_back(binding.faults[0]);
  binding.faults[1].fault = "again";
  EXPECT_EQ(misfits(plan, binding), std::vector<std::string>{});
}

}  // namespace
}  // namespace squall::model
