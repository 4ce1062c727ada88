#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "host/fake_host.h"
#include "inject/faults/kinds.h"
#include "inject/faults/resource/cgroup_limit.h"

namespace squall::inject {
namespace {

using base::Json;

model::PlannedFault plan(const std::string& kind, Json parameters) {
  model::FaultSpecification fault;
  fault.name = "squeeze";
  fault.kind = find_kind(kind)->descriptor;
  fault.parameters = model::Parameters{std::move(parameters)};
  return describe({}, fault);
}

Json members(Json extra) {
  Json json = {{"service", "api"}, {"count", 2}, {"random", true}};
  json.update(extra);
  return json;
}

TEST(ResourcePlans, SayWhatChangesAndHowItIsUndone) {
  struct Case {
    std::string kind;
    Json parameters;
    std::string change;
    int processes;
  };
  const std::vector<Case> cases = {
      {"resource.disk_fill", {{"path", "/srv"}, {"leave", "2%"}, {"reserve", false}}, "2%", 0},
      {"resource.disk_fill", {{"path", "/srv"}, {"size", 1 << 20}, {"reserve", false}}, "taken", 0},
      {"resource.inodes", {{"path", "/srv"}, {"leave", "2%"}}, "2% are left", 0},
      {"resource.inodes", {{"path", "/srv"}, {"count", 7}}, "7 are taken", 0},
      {"resource.memory_fill",
       {{"share", 0.8}, {"reserve", 256 << 20}},
       "80% of what is available in the memory of this host; 256MiB stay",
       0},
      {"resource.memory_fill",
       {{"size", 1 << 20}, {"service", "api"}, {"reserve", 256 << 20}},
       "1MiB in the memory cgroup of api",
       0},
      {"resource.io_saturation",
       {{"path", "/srv"},
        {"operation", "mixed"},
        {"depth", 32},
        {"block", 65536},
        {"share", 1.0},
        {"size", 64 << 20},
        {"total", 1 << 30}},
       "32 requests (mixed, 64KiB each)",
       0},
      {"resource.descriptors", members({{"left", 3}}), "3 above what is open", 2},
      {"resource.port", {{"port", 80}, {"address", "::"}, {"protocol", "udp"}}, "udp port 80", 0},
      {"resource.connections",
       {{"service", "db"}, {"connections", 50}, {"hold", "postgres"}},
       "50 connections to db (postgres)",
       0},
      {"resource.cpu_quota", members({{"processors", 0.25}}), "0.25 processors", 2},
      {"resource.memory_limit", members({{"left", 16 << 20}}), "16MiB more", 2},
      {"resource.pids", members({{"limit", 7}}), "7 processes and threads", 2},
      {"resource.io_throttle", members({{"path", "/srv"}, {"write_bytes", 1 << 20}}),
       "write_bytes 1048576 a second", 2}};
  for (const Case& each : cases) {
    SCOPED_TRACE(each.kind);
    const auto planned = plan(each.kind, each.parameters);
    ASSERT_EQ(planned.changes.size(), 1u);
    EXPECT_NE(planned.changes[0].change.find(each.change), std::string::npos)
        << planned.changes[0].change;
    EXPECT_FALSE(planned.changes[0].revert.empty());
    EXPECT_EQ(planned.changes[0].lifetime, planned.lifetime);
    EXPECT_EQ(planned.processes_max, each.processes);
    EXPECT_FALSE(planned.target.empty());
  }
}

base::Result<model::FaultBinding> bind_port(const host::Host& host, const std::string& address,
                                            const std::string& protocol) {
  static const model::SystemMap kMap;
  model::FaultSpecification fault;
  fault.name = "taken";
  fault.kind = find_kind("resource.port")->descriptor;
  fault.parameters =
      model::Parameters{Json{{"port", 8080}, {"address", address}, {"protocol", protocol}}};
  const auto planned = describe(kMap, fault);
  return bind({.map = kMap, .fault = fault, .planned = planned, .host = host});
}

TEST(PortBinding, WhoStandsInTheWayIsNamedAndOthersAreNot) {
  host::FakeHost host;
  host.add_process(10, 1, {"/usr/bin/api"}).name = "api";
  EXPECT_TRUE(bind_port(host, "127.0.0.1", "tcp").ok());
  host.add_listener("127.0.0.2", 8080, {10});
  EXPECT_TRUE(bind_port(host, "127.0.0.1", "tcp").ok());
  for (const char* everywhere : {"0.0.0.0", "::"}) {
    const auto taken = bind_port(host, everywhere, "tcp");
    ASSERT_FALSE(taken.ok());
    EXPECT_EQ(taken.error().code, base::ErrorCode::kConflict);
    EXPECT_NE(taken.error().message.find("api (pid 10)"), std::string::npos);
  }
  EXPECT_TRUE(bind_port(host, "0.0.0.0", "udp").ok());
  host.add_listener("0.0.0.0", 8080, {10});
  EXPECT_FALSE(bind_port(host, "127.0.0.1", "tcp").ok());
}

// A folder with files as a cgroup has them.
class GroupFiles : public ::testing::Test {
 protected:
  void SetUp() override { folder_ = base::make_temporary_directory("squall-group").value(); }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  void put(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ + "/" + name) << text;
  }
  std::string get(const std::string& name) const {
    return base::read_file(folder_ + "/" + name, 4096).value_or("missing");
  }
  ControllerGroup group(bool v2) const { return {.folder = folder_, .name = "/api", .v2 = v2}; }

  struct Context final : FaultContext {
    base::Status note(const Json& found) override {
      notes.push_back(found);
      return {};
    }
    const host::Host& host() override { return fake; }
    Programs& programs() override { std::abort(); }
    base::LeaseId lease() const override { return {}; }
    base::Status check_process(const base::ProcessIdentity&) const override { return {}; }
    uid_t caller() const override { return 0; }
    host::FakeHost fake;
    std::vector<Json> notes;
  };
  // Without targets, so that only the files count.
  static model::FaultBinding binding(const GroupLimit& limit, bool v2) {
    Json changes = Json::array();
    for (const LimitChange& change : limit.changes) {
      changes.push_back({{"file", change.file},
                         {"key", change.key},
                         {"value", change.value},
                         {"former", change.former},
                         {"absent", change.absent}});
    }
    model::FaultBinding binding;
    binding.mechanism = v2 ? kCgroupV2 : kCgroupV1;
    binding.details = model::Parameters{Json{{"changes", changes}}};
    return binding;
  }
  std::string folder_;
};

TEST_F(GroupFiles, QuotaInBothHierarchies) {
  put("cpu.cfs_quota_us", "-1\n");
  put("cpu.cfs_period_us", "50000\n");
  const auto v1 = cpu_quota_of(group(false), 0.5);
  ASSERT_TRUE(v1.ok());
  EXPECT_EQ(v1->changes[0].value, "25000");
  EXPECT_EQ(v1->changes[0].former, "-1");
  put("cpu.max", "max 100000\n");
  const auto v2 = cpu_quota_of(group(true), 0.5);
  ASSERT_TRUE(v2.ok());
  EXPECT_EQ(v2->changes[0].value, "50000 100000");
  EXPECT_EQ(v2->changes[0].former, "max 100000");
  put("cpu.max", "40000 100000\n");
  EXPECT_EQ(cpu_quota_of(group(true), 0.5).error().code, base::ErrorCode::kConflict);
  put("cpu.max", "max 1000\n");
  EXPECT_EQ(cpu_quota_of(group(true), 0.5).error().code, base::ErrorCode::kUnsupported);
}

TEST_F(GroupFiles, MemoryCountsOnlyWhatCannotBeTakenBack) {
  put("memory.current", "41943040\n");
  put("memory.max", "max\n");
  put("memory.stat", "anon 1\ninactive_file 10485760\nactive_file 10485760\n");
  const model::Parameters left{Json{{"left", 1 << 20}}};
  const auto limit = memory_limit_of(group(true), left);
  ASSERT_TRUE(limit.ok()) << limit.error().to_string();
  EXPECT_EQ(limit->changes[0].value, std::to_string(21 << 20));
  EXPECT_EQ(limit->deaths[0].key, "oom_kill");
  const model::Parameters low{Json{{"limit", 19 << 20}}};
  EXPECT_EQ(memory_limit_of(group(true), low).error().code, base::ErrorCode::kBlocked);
  put("memory.max", "20971520\n");
  EXPECT_EQ(memory_limit_of(group(true), left).error().code, base::ErrorCode::kConflict);
}

TEST_F(GroupFiles, ProcessesAboveThoseThatRun) {
  put("pids.current", "5\n");
  put("pids.max", "max\n");
  const auto limit = pids_limit_of(group(true), model::Parameters{Json{{"left", 2}}});
  ASSERT_TRUE(limit.ok());
  EXPECT_EQ(limit->changes[0].value, "7");
  put("pids.max", "6\n");
  EXPECT_FALSE(pids_limit_of(group(true), model::Parameters{Json{{"left", 2}}}).ok());
}

TEST_F(GroupFiles, AThrottleKeepsWhatOthersSaidOfTheDisk) {
  put("io.max",
      "8:0 rbps=1 wbps=max riops=max wiops=max\n254:0 rbps=max wbps=max riops=9 wiops=max\n");
  const model::Parameters rate{Json{{"write_bytes", 4096}}};
  const auto v2 = io_throttle_of(group(true), "254:0", rate);
  ASSERT_TRUE(v2.ok());
  ASSERT_EQ(v2->changes.size(), 1u);
  EXPECT_EQ(v2->changes[0].value, "rbps=max wbps=4096 riops=9 wiops=max");
  EXPECT_EQ(v2->changes[0].former, "rbps=max wbps=max riops=9 wiops=max");
  EXPECT_EQ(v2->counters[0].field, "wbytes");
  put("io.stat", "254:0 rbytes=10 wbytes=2048 rios=1 wios=2\n");
  EXPECT_EQ(read_number(v2->counters[0]).value(), 2048u);
  put("blkio.throttle.write_bps_device", "");
  const auto v1 = io_throttle_of(group(false), "254:0", rate);
  ASSERT_TRUE(v1.ok());
  EXPECT_EQ(v1->changes[0].key, "254:0");
  EXPECT_EQ(v1->changes[0].value, "4096");
  EXPECT_EQ(v1->changes[0].former, "");
  EXPECT_EQ(v1->changes[0].absent, "0");
}

TEST_F(GroupFiles, TheFormerTextComesBackFromEveryState) {
  put("cpu.max", "max 100000\n");
  const auto limit = cpu_quota_of(group(true), 0.1);
  ASSERT_TRUE(limit.ok());
  const auto bound = binding(*limit, true);
  Context context;
  auto fault = create_group_limit(bound, context).value();
  // Nothing was written: nothing is undone.
  EXPECT_EQ(fault->revert().text, "nothing was written");
  ASSERT_EQ(fault->arm().state, Step::State::kDone);
  EXPECT_EQ(get("cpu.max"), "10000 100000");
  ASSERT_EQ(context.notes.size(), 1u);
  EXPECT_EQ(fault->effective().state, Step::State::kWaiting);  // nobody was throttled yet
  // A replay knows it by the note only, and may come twice.
  for (int replay = 0; replay < 2; ++replay) {
    auto later = create_group_limit(bound, context).value();
    later->recall(context.notes[0]);
    EXPECT_EQ(later->revert().state, Step::State::kDone);
    EXPECT_EQ(later->verify().state, Step::State::kDone);
    EXPECT_EQ(get("cpu.max"), "max 100000");
  }
  // What somebody else wrote stays; a group that is gone is no trouble.
  put("cpu.max", "77000 100000\n");
  EXPECT_NE(fault->revert().text.find("left as it is"), std::string::npos);
  EXPECT_EQ(get("cpu.max"), "77000 100000\n");
  std::filesystem::remove(folder_ + "/cpu.max");
  EXPECT_NE(fault->revert().text.find("gone with its group"), std::string::npos);
  EXPECT_EQ(fault->verify().state, Step::State::kDone);
}

TEST_F(GroupFiles, ABindingThatPointsElsewhereIsRefused) {
  Context context;
  GroupLimit limit;
  for (const char* file : {"cpu.max", "/sys/fs/cgroup/../../etc/passwd", ""}) {
    limit.changes = {{.file = file, .key = {}, .value = "1", .former = "2", .absent = {}}};
    EXPECT_FALSE(create_group_limit(binding(limit, true), context).ok()) << file;
  }
}

}  // namespace
}  // namespace squall::inject
