#include "evidence/timeline.h"

#include <gtest/gtest.h>

namespace squall::evidence {
namespace {

using std::chrono::seconds;

base::Instant at(int second) {
  return base::Instant(seconds(second));
}

Event event(int second, std::string type, std::string subject = {}, std::string details = {}) {
  return {at(second), std::move(type), std::move(subject), {}, std::move(details)};
}

Timeline timeline_of_events(std::vector<Event> events) {
  Record::Content content;
  content.header.boot_start = at(100);
  content.events = std::move(events);
  return timeline_of(Record::make(std::move(content)));
}

std::vector<Event> whole_run() {
  return {event(100, "run.started"),
          event(101, "phase.started", "baseline"),
          event(110, "phase.started", "fault"),
          event(111, "fault.arming", "outage"),
          event(112, "fault.armed", "outage"),
          event(113, "fault.effective", "outage"),
          event(130, "fault.reverting", "outage"),
          event(131, "fault.reverted", "outage"),
          event(132, "fault.verified", "outage"),
          event(132, "phase.started", "recovery"),
          event(150, "run.finished")};
}

TEST(Timeline, OfAWholeRun) {
  const Timeline timeline = timeline_of_events(whole_run());
  EXPECT_EQ(timeline.start, at(100));
  EXPECT_EQ(timeline.end, at(150));
  ASSERT_TRUE(timeline.baseline && timeline.fault && timeline.recovery);
  EXPECT_EQ(timeline.baseline->begin, at(101));
  EXPECT_EQ(timeline.baseline->end, at(111));
  EXPECT_EQ(timeline.fault->begin, at(113));
  EXPECT_EQ(timeline.fault->end, at(130));
  EXPECT_EQ(timeline.recovery->begin, at(130));
  EXPECT_EQ(timeline.recovery->end, at(150));
  const FaultWindow* fault = timeline.find("outage");
  ASSERT_NE(fault, nullptr);
  EXPECT_EQ(fault->inject, at(111));
  EXPECT_EQ(fault->verified, at(132));
}

TEST(Timeline, AFaultWithoutEffectHasNoWindow) {
  auto events = whole_run();
  std::erase_if(events, [](const Event& e) { return e.type == "fault.effective"; });
  const Timeline timeline = timeline_of_events(std::move(events));
  EXPECT_FALSE(timeline.fault.has_value());
  EXPECT_FALSE(timeline.find("outage")->active().has_value());
  EXPECT_TRUE(timeline.recovery.has_value());
}

TEST(Timeline, AKindThatCannotBeEffectiveCountsFromArmed) {
  auto events = whole_run();
  std::erase_if(events, [](const Event& e) { return e.type == "fault.effective"; });
  events[4].details = R"({"can_be_effective": false})";
  const Timeline timeline = timeline_of_events(std::move(events));
  ASSERT_TRUE(timeline.fault.has_value());
  EXPECT_EQ(timeline.fault->begin, at(112));
}

TEST(Timeline, TwoFaultsSpanFromTheFirstEffectToTheLastRevert) {
  auto events = whole_run();
  events.insert(events.begin() + 6,
                {event(115, "fault.arming", "slow"), event(116, "fault.effective", "slow"),
                 event(120, "fault.reverting", "slow")});
  const Timeline timeline = timeline_of_events(std::move(events));
  EXPECT_EQ(timeline.fault->begin, at(113));
  EXPECT_EQ(timeline.fault->end, at(130));
  EXPECT_EQ(timeline.find("slow")->active()->length(), seconds(4));
  EXPECT_EQ(timeline.baseline->end, at(111));
}

TEST(Timeline, AnEngineKilledDuringTheFaultLeavesAFaultThatEndsWithTheRecord) {
  auto events = whole_run();
  events.resize(6);
  events.push_back(event(118, "note"));
  const Timeline timeline = timeline_of_events(std::move(events));
  ASSERT_TRUE(timeline.fault.has_value());
  EXPECT_EQ(timeline.fault->end, at(118));
  EXPECT_FALSE(timeline.recovery.has_value());
}

TEST(Timeline, ABaselineThatNeverEndedEndsWithTheRecord) {
  const Timeline timeline = timeline_of_events(
      {event(100, "run.started"), event(101, "phase.started", "baseline"), event(107, "note")});
  EXPECT_EQ(timeline.baseline->end, at(107));
  EXPECT_FALSE(timeline.fault.has_value());
  EXPECT_TRUE(timeline.faults.empty());
}

TEST(Timeline, AFaultThatFailedToArmIsSaidToHaveFailed) {
  const Timeline timeline =
      timeline_of_events({event(101, "phase.started", "baseline"), event(110, "fault.arming", "x"),
                          event(111, "fault.failed", "x"), event(112, "fault.reverting", "x")});
  EXPECT_TRUE(timeline.find("x")->failed);
  EXPECT_FALSE(timeline.fault.has_value());
}

TEST(Timeline, AWallClockSetBackAnHourChangesNothing) {
  Record::Content content;
  content.header.boot_start = at(100);
  content.header.wall_start = base::WallTime(seconds(-3600));  // as read after it was set back
  content.events = whole_run();
  const Timeline timeline = timeline_of(Record::make(std::move(content)));
  EXPECT_EQ(timeline.fault->length(), seconds(17));
  EXPECT_EQ(timeline.end, at(150));
}

TEST(Timeline, WhatCannotBeReadInDetailsIsIgnored) {
  auto events = whole_run();
  events[4].details = "[[[";
  EXPECT_TRUE(timeline_of_events(std::move(events)).fault.has_value());
}

}  // namespace
}  // namespace squall::evidence
