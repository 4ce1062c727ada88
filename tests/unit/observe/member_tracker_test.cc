#include "observe/member_tracker.h"

#include <gtest/gtest.h>

#include "host/fake_host.h"

namespace squall::observe {
namespace {

using Kind = MemberChange::Kind;
using std::chrono::seconds;

class MemberTrackerTest : public testing::Test {
 protected:
  MemberTrackerTest() {
    service_.name = "worker";
    service_.process.argv_contains = "worker-main";
  }
  void add(pid_t pid) { host_.add_process(pid, 1, {"worker-main"}); }
  std::vector<MemberChange> look(MemberTracker& tracker) {
    std::vector<MemberChange> changes;
    EXPECT_TRUE(tracker.look(host_, now_, changes).ok());
    return changes;
  }
  std::vector<MemberChange> sample(MemberTracker& tracker, ServiceUsage* usage = nullptr) {
    std::vector<MemberChange> changes;
    const ServiceUsage read = tracker.sample(host_, now_, changes);
    if (usage != nullptr) *usage = read;
    return changes;
  }

  // Pids far above what a test machine has: the tracker counts sockets in the real /proc.
  static constexpr pid_t kFirst = 5'000'001;
  host::FakeHost host_;
  model::Service service_;
  base::Instant now_{seconds(1000)};
};

TEST_F(MemberTrackerTest, TheFirstLookIsNoChange) {
  add(kFirst);
  add(kFirst + 1);
  MemberTracker tracker(service_);
  EXPECT_TRUE(look(tracker).empty());
  ServiceUsage usage;
  EXPECT_TRUE(sample(tracker, &usage).empty());
  EXPECT_EQ(usage.processes, 2);
  EXPECT_EQ(usage.restarts, 0);
  EXPECT_FALSE(tracker.incomplete());
}

TEST_F(MemberTrackerTest, AProcessThatComesBackIsARestart) {
  add(kFirst);
  MemberTracker tracker(service_);
  look(tracker);
  host_.remove_process(kFirst);
  auto changes = sample(tracker);
  ASSERT_EQ(changes.size(), 1u);
  EXPECT_EQ(changes[0].kind, Kind::kGone);
  EXPECT_EQ(changes[0].pid, kFirst);
  EXPECT_TRUE(tracker.incomplete());
  add(kFirst + 7);
  changes = look(tracker);
  ASSERT_EQ(changes.size(), 1u);
  EXPECT_EQ(changes[0].kind, Kind::kRestarted);
  EXPECT_EQ(changes[0].pid, kFirst + 7);
  EXPECT_EQ(changes[0].old_pid, kFirst);
  ServiceUsage usage;
  sample(tracker, &usage);
  EXPECT_EQ(usage.processes, 1);
  EXPECT_EQ(usage.restarts, 1);
  EXPECT_FALSE(tracker.incomplete());
}

TEST_F(MemberTrackerTest, TheSamePidAgainIsAnotherProcess) {
  add(kFirst);
  MemberTracker tracker(service_);
  look(tracker);
  host_.remove_process(kFirst);
  add(kFirst);  // with a later start time
  const auto changes = look(tracker);
  ASSERT_EQ(changes.size(), 2u);
  EXPECT_EQ(changes[0].kind, Kind::kGone);
  EXPECT_EQ(changes[1].kind, Kind::kRestarted);
}

TEST_F(MemberTrackerTest, OneMoreThanBeforeHasJoined) {
  add(kFirst);
  MemberTracker tracker(service_);
  look(tracker);
  add(kFirst + 1);
  const auto changes = look(tracker);
  ASSERT_EQ(changes.size(), 1u);
  EXPECT_EQ(changes[0].kind, Kind::kJoined);
}

TEST_F(MemberTrackerTest, MuchLaterItIsNoReplacement) {
  add(kFirst);
  MemberTracker tracker(service_);
  look(tracker);
  host_.remove_process(kFirst);
  sample(tracker);
  now_ += seconds(600);
  add(kFirst + 1);
  const auto changes = look(tracker);
  ASSERT_EQ(changes.size(), 1u);
  EXPECT_EQ(changes[0].kind, Kind::kJoined);
}

TEST_F(MemberTrackerTest, ADeadProcessThatNobodyWaitedForIsGone) {
  add(kFirst);
  MemberTracker tracker(service_);
  look(tracker);
  host_.set_usage(kFirst, {.threads = 1, .state = 'Z'});
  const auto changes = sample(tracker);
  ASSERT_EQ(changes.size(), 1u);
  EXPECT_EQ(changes[0].kind, Kind::kGone);
}

TEST_F(MemberTrackerTest, DescendantsCountForUsageButNotAsProcesses) {
  add(kFirst);
  host_.add_process(kFirst + 1, kFirst, {"helper"});
  host_.add_process(kFirst + 2, kFirst + 1, {"helper"});
  host_.set_usage(kFirst,
                  {.processor_seconds = 10, .resident_bytes = 100, .threads = 1, .state = 'S'});
  host_.set_usage(kFirst + 1,
                  {.processor_seconds = 1, .resident_bytes = 20, .threads = 2, .state = 'S'});
  host_.set_usage(kFirst + 2, {.resident_bytes = 3, .threads = 4, .state = 'S'});
  MemberTracker tracker(service_);
  look(tracker);
  ServiceUsage usage;
  sample(tracker, &usage);
  EXPECT_EQ(usage.processes, 1);
  EXPECT_EQ(usage.memory, 123);
  EXPECT_EQ(usage.threads, 7);
  EXPECT_EQ(usage.cpu, 0);  // not known from one sample
  now_ += seconds(2);
  host_.set_usage(kFirst, {.processor_seconds = 12, .state = 'S'});
  host_.set_usage(kFirst + 1, {.processor_seconds = 2, .state = 'S'});
  sample(tracker, &usage);
  EXPECT_DOUBLE_EQ(usage.cpu, 1.5);
}

TEST_F(MemberTrackerTest, FewerThanTheMapSaysIsIncomplete) {
  service_.expected_members = 2;
  add(kFirst);
  MemberTracker tracker(service_);
  look(tracker);
  EXPECT_TRUE(tracker.incomplete());
}

}  // namespace
}  // namespace squall::observe
