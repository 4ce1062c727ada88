// Two leases on one target: only when both plans say so, and only where each fault can tell its own
// changes apart. Whatever the order in which they come and go, at the end all is as before.

#include <fmt/format.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>

#include "base/random.h"
#include "integration/inject/packet_fixture.h"

namespace squall::inject {
namespace {

constexpr std::uint64_t kMiB = 1024 * 1024;

class OverlapTest : public PacketSchedulerTest {
 protected:
  void TearDown() override {
    client_.reset();
    if (!disk_.empty()) ::umount2(disk_.c_str(), MNT_DETACH);
    PacketSchedulerTest::TearDown();
    if (group_.empty()) return;
    wait_until([&] { return ::rmdir(group_.c_str()) == 0 || errno == ENOENT; }, "an empty group");
  }
  static model::FaultBinding sharing(model::FaultBinding binding, const std::string& name,
                                     bool overlap = true) {
    binding.fault = name;
    binding.overlap = overlap;
    return binding;
  }
  // Arms it and waits until it stands; the text of the failure, if it fails.
  std::string try_arm(const model::FaultBinding& binding, base::LeaseId* lease = nullptr) {
    if (client_ == nullptr) start_holder();
    const base::LeaseId made = arm(binding);
    if (lease != nullptr) *lease = made;
    const LeaseEvent event = wait_for_event(
        [&](const LeaseEvent& each) {
          return each.lease == made && !each.notice &&
                 (each.state == LeaseState::kFailed || each.state == LeaseState::kArmed);
        },
        /*failing_is_wrong=*/false, /*renewing=*/true);
    return event.state == LeaseState::kFailed ? event.text : std::string{};
  }
  void revert_lease(base::LeaseId lease) {
    ASSERT_TRUE(client_->revert(lease, "asked").ok());
    wait_for_event(
        [&](const LeaseEvent& each) {
          return each.lease == lease && each.state == LeaseState::kVerified;
        },
        /*failing_is_wrong=*/true, /*renewing=*/true);
  }
  static void expect_text(const std::string& text, const std::string& wanted) {
    EXPECT_NE(text.find(wanted), std::string::npos) << text;
  }
  static Json loss(double share) {
    return {{"from", "users"}, {"to", "server"}, {"share", share}, {"direction", "requests"}};
  }
  static std::string rules() {
    const auto listed = base::run_command({.argv = {"nft", "list", "ruleset"}}, 10s);
    return listed.ok() ? listed->output : "unreadable";
  }
  // A cgroup of this test with a victim in it; false when the machine has no such controller.
  bool make_group(const std::string& controller, const std::string& file) {
    for (const std::string& folder :
         {"/sys/fs/cgroup/" + controller, std::string("/sys/fs/cgroup")}) {
      const base::UniqueFd handed{
          ::open((folder + "/cgroup.subtree_control").c_str(), O_WRONLY | O_CLOEXEC)};
      if (handed && !base::write_all(handed.get(), "+" + controller).ok()) continue;
      group_ = fmt::format("{}/squall-overlap-{}", folder, ::getpid());
      if (::mkdir(group_.c_str(), 0755) != 0) continue;
      if (::access((group_ + "/" + file).c_str(), F_OK) == 0) break;
      ::rmdir(group_.c_str());
      group_.clear();
    }
    if (group_.empty()) return false;
    add_service(1);
    const auto victim = start_victim({"burns"});
    const base::UniqueFd procs{::open((group_ + "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC)};
    return base::write_all(procs.get(), std::to_string(victim.pid)).ok();
  }

  std::string disk_;
  std::string group_;
};

TEST_F(OverlapTest, BothPlansMustSaySo) {
  const Talk talk;
  add_server(talk);
  const auto binding = bind_or_die("network.loss", loss(0.5));
  EXPECT_FALSE(binding.overlap);
  base::LeaseId first;
  ASSERT_EQ(try_arm(sharing(binding, "first", false), &first), "");
  expect_text(try_arm(sharing(binding, "second", false)), "is already under the fault first");
  expect_text(try_arm(sharing(binding, "third")), "this plan says `overlap: true`, its does not");
  revert_lease(first);
  ASSERT_EQ(try_arm(sharing(binding, "first"), &first), "");
  expect_text(try_arm(sharing(binding, "second", false)),
              "its plan says `overlap: true`, this does not");
  base::LeaseId second;
  EXPECT_EQ(try_arm(sharing(binding, "second"), &second), "");
  revert_lease(first);
  revert_lease(second);
}

TEST_F(OverlapTest, ThePlansWordComesIntoTheBinding) {
  const Talk talk;
  add_server(talk);
  model::FaultSpecification fault;
  fault.name = "outage";
  fault.kind = find_kind("network.loss")->descriptor;
  fault.parameters = model::Parameters{loss(0.5)};
  fault.duration = 20s;
  fault.overlap = true;
  const model::PlannedFault planned = describe(map_, fault);
  EXPECT_TRUE(planned.overlap);
  const auto binding = bind({.map = map_,
                             .fault = fault,
                             .planned = planned,
                             .host = host::real_host(),
                             .seed = 1,
                             .state_directory = state_,
                             .record_directory = folder_});
  ASSERT_TRUE(binding.ok()) << binding.error().to_string();
  EXPECT_TRUE(binding->overlap);
}

// Each loses its share of what the other lets through: two tables, two draws.
TEST_F(OverlapTest, TwoLossesOnOnePortAddUp) {
  const Talk talk;
  add_server(talk);
  base::LeaseId first;
  base::LeaseId second;
  ASSERT_EQ(try_arm(sharing(bind_or_die("network.loss", loss(0.5)), "first"), &first), "");
  ASSERT_EQ(try_arm(sharing(bind_or_die("network.loss", loss(0.6)), "second"), &second), "");
  const auto arrived = [&] {
    constexpr int kPackets = 4000;
    for (std::uint32_t i = 0; i < kPackets; ++i) talk.send(i);
    int count = 0;
    while (talk.receive(50ms)) ++count;
    return static_cast<double>(count) / kPackets;
  };
  EXPECT_NEAR(arrived(), 0.5 * 0.4, 0.05);
  revert_lease(first);
  EXPECT_NEAR(arrived(), 0.4, 0.05);
  revert_lease(second);
  EXPECT_EQ(arrived(), 1.0);
}

TEST_F(OverlapTest, AValueThatIsPutBackIsNeverShared) {
  if (!make_group("cpu", "cpu.cfs_quota_us") && !make_group("cpu", "cpu.max"))
    GTEST_SKIP() << "no cgroup with the controller cpu";
  const std::string file =
      std::filesystem::exists(group_ + "/cpu.max") ? "/cpu.max" : "/cpu.cfs_quota_us";
  const auto value = [&] { return base::read_pseudo_file(group_ + file).value_or("unreadable"); };
  const std::string before = value();
  const auto quota = [&](double processors) {
    Json json = pause_parameters();
    json["processors"] = processors;
    return bind_or_die("resource.cpu_quota", json);
  };
  base::LeaseId first;
  ASSERT_EQ(try_arm(sharing(quota(0.5), "first"), &first), "");
  const std::string during = value();
  // It finds the first's value, and would put that back.
  const auto second = quota(0.25);
  expect_text(try_arm(sharing(second, "second")), "puts back what it found there");
  EXPECT_EQ(value(), during);
  // A fault of another sort of the same process joins it.
  base::LeaseId paused;
  ASSERT_EQ(try_arm(sharing(bind_or_die("process.pause", pause_parameters()), "third"), &paused),
            "");
  expect_text(try_arm(sharing(bind_or_die("process.pause", pause_parameters()), "fourth")),
              "`overlap: true` does not help");
  revert_lease(first);
  EXPECT_EQ(value(), before);
  revert_lease(paused);
}

TEST_F(OverlapTest, TwoThatKillTheSameProcessAreRefused) {
  add_service(1);
  const auto victim = start_victim();
  base::LeaseId paused;
  ASSERT_EQ(try_arm(sharing(bind_or_die("process.pause", pause_parameters()), "pause"), &paused),
            "");
  EXPECT_TRUE(stopped(victim));
  expect_text(try_arm(sharing(bind_or_die("process.pause", pause_parameters()), "again")),
              "whether its processes run on");
  EXPECT_TRUE(stopped(victim));
  revert_lease(paused);
  wait_until_runs(victim);
}

// The property: three faults of those that may overlap, on one port, one filesystem and one host,
// armed and reverted in a random order, leave rules, space and processes as they were.
TEST_F(OverlapTest, WhateverTheOrderAllIsAsBefore) {
  enter_own_mounts();
  disk_ = folder_ + "/disk";
  ASSERT_TRUE(base::make_directories(disk_).ok());
  ASSERT_EQ(::mount("none", disk_.c_str(), "tmpfs", 0, "size=32m,nr_inodes=500"), 0);
  const Talk talk;
  add_server(talk);
  const std::vector<model::FaultBinding> all{
      bind_or_die("network.loss", loss(0.3)),
      bind_or_die("network.loss", loss(0.2)),
      bind_or_die("network.latency", latency(5ms)),
      bind_or_die("resource.disk_fill", {{"path", disk_}, {"size", 4 * kMiB}, {"reserve", false}}),
      bind_or_die("resource.disk_fill", {{"path", disk_}, {"size", 8 * kMiB}, {"reserve", false}}),
      bind_or_die("resource.inodes", {{"path", disk_}, {"count", 50}}),
      bind_or_die("resource.cpu_load", {{"processors", 1}, {"load", 0.02}}),
      bind_or_die("resource.cpu_load", {{"processors", 1}, {"load", 0.03}}),
  };
  start_holder();
  const auto space = [&] {
    struct statvfs info {};
    EXPECT_EQ(::statvfs(disk_.c_str(), &info), 0);
    return std::make_pair(info.f_bfree, info.f_ffree);
  };
  const std::string rules_before = rules();
  const auto space_before = space();
  base::Random random{20261121};
  constexpr int kRounds = 12;
  for (int round = 0; round < kRounds; ++round) {
    SCOPED_TRACE(round);
    std::vector<base::LeaseId> active;
    int armed = 0;
    const int wanted = 2 + static_cast<int>(random.below(2));
    while (armed < wanted || !active.empty()) {
      const bool arms = armed < wanted && (active.empty() || random.below(3) != 0);
      if (arms) {
        base::LeaseId lease;
        const auto& binding = all[random.below(all.size())];
        ASSERT_EQ(try_arm(sharing(binding, fmt::format("fault-{}", ++armed)), &lease), "");
        active.push_back(lease);
      } else {
        const std::size_t which = random.below(active.size());
        revert_lease(active[which]);
        active.erase(active.begin() + static_cast<std::ptrdiff_t>(which));
      }
    }
    EXPECT_EQ(rules(), rules_before);
    EXPECT_EQ(space(), space_before);
    EXPECT_TRUE(StateDirectory{state_}.lease_files().empty());
    talk.send(7);
    EXPECT_EQ(talk.receive(5s), 7u);
  }
}

// A rehearsal, which preflight asks for, foresees what arming would refuse.
TEST_F(OverlapTest, WhatWouldBeRefusedIsRefusedToBeRehearsed) {
  add_service(1);
  start_victim();
  const auto pause = bind_or_die("process.pause", pause_parameters());
  base::LeaseId first;
  ASSERT_EQ(try_arm(sharing(pause, "first"), &first), "");
  auto other = HolderClient::start(options("run-2"));
  ASSERT_TRUE(other.ok());
  const auto shared = (*other)->rehearse(sharing(pause, "second"));
  ASSERT_FALSE(shared.ok());
  expect_text(shared.error().to_string(), "`overlap: true` does not help: each puts back");
  const auto alone = (*other)->rehearse(sharing(pause, "second", false));
  ASSERT_FALSE(alone.ok());
  expect_text(alone.error().to_string(), "is already under the fault first");
  revert_lease(first);
  EXPECT_TRUE((*other)->rehearse(sharing(pause, "second")).ok());
}

// One holder dies with several on one target: its journal is undone one after the other.
TEST_F(OverlapTest, AKilledHolderLeavesNone) {
  const Talk talk;
  add_server(talk);
  const std::string before = rules();
  for (const char* name : {"first", "second", "third"})
    ASSERT_EQ(try_arm(sharing(bind_or_die("network.loss", loss(0.5)), name)), "");
  const auto active = active_leases(state_);
  ASSERT_TRUE(active.ok());
  ASSERT_EQ(active->size(), 3u);
  EXPECT_TRUE((*active)[0].overlap);
  ASSERT_TRUE(base::PidFd::open((*active)[0].holder)->signal(SIGKILL).ok());
  for (int i = 0; i < 3; ++i) wait_for(LeaseState::kVerified);
  EXPECT_EQ(rules(), before);
}

}  // namespace
}  // namespace squall::inject
