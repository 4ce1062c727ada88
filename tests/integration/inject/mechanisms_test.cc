// `squall doctor`: what it says is what this host does.

#include "inject/faults/network/netem_fault.h"
#include "integration/inject/fixture.h"

namespace squall::inject {
namespace {

class Mechanisms : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  }
  static std::vector<MechanismReport>& reports() {
    static std::vector<MechanismReport> all = probe_mechanisms();
    return all;
  }
  static const MechanismReport* report(const std::string& mechanism) {
    for (const MechanismReport& report : reports()) {
      if (report.mechanism == mechanism) return &report;
    }
    return nullptr;
  }
  static std::string queues() {
    return base::run_command({.argv = {"tc", "qdisc", "show"}}, 10s).value().output;
  }
};

TEST_F(Mechanisms, EveryOneThatAKindUsesIsTriedAndNothingIsLeft) {
  const std::string before = queues();
  ASSERT_FALSE(reports().empty());
  EXPECT_EQ(queues(), before);
  for (const FaultKind* kind : all_kinds()) {
    for (const std::string_view mechanism : kind->descriptor->mechanisms) {
      // Controllers have names of their own; these two are the target's, and preflight asks them.
      const bool group = mechanism == "cgroup v1" || mechanism == "cgroup v2";
      const bool of_the_target = mechanism == "Sentinel" || mechanism == "QEMU monitor";
      if (!group && !of_the_target) {
        EXPECT_NE(report(std::string(mechanism)), nullptr) << mechanism;
      }
    }
  }
  const auto tables = base::run_command({.argv = {"nft", "list", "tables"}}, 10s);
  EXPECT_EQ(tables->output.find("squall_scratch"), std::string::npos);
  for (const char* folder : {"/sys/fs/cgroup", "/sys/fs/cgroup/cpu", "/sys/fs/cgroup/unified"}) {
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(folder, error))
      EXPECT_EQ(entry.path().string().find("squall-scratch"), std::string::npos) << entry.path();
  }
}

TEST_F(Mechanisms, WhatDoesNotWorkSaysWhyAndWhatToDo) {
  for (const MechanismReport& report : reports()) {
    EXPECT_FALSE(report.detail.empty()) << report.mechanism;
    EXPECT_FALSE(report.kinds.empty() && report.works) << report.mechanism;
    if (!report.works) {
      EXPECT_FALSE(report.remedy.empty()) << report.mechanism << ": " << report.detail;
    }
  }
  ASSERT_NE(report("netem"), nullptr);
  EXPECT_EQ(report("netem")->works, check_netem().ok()) << report("netem")->detail;
  EXPECT_EQ(report("packet scheduler")->works, check_packet_queues().ok());
}

TEST_F(Mechanisms, ThePrecisionIsMeasured) {
  const auto* scheduler = report("packet scheduler");
  ASSERT_NE(scheduler, nullptr);
  EXPECT_NE(scheduler->precision.find("10ms asked: "), std::string::npos)
      << scheduler->precision << scheduler->detail;
  EXPECT_NE(report("worker processes")->precision.find("30 % of a processor asked"),
            std::string::npos)
      << report("worker processes")->precision;
}

TEST_F(Mechanisms, ControllersAreNamedByTheHierarchyThatHasThem) {
  for (const char* controller : {"cpu", "memory", "pids"}) {
    const bool one = std::filesystem::exists(std::string("/sys/fs/cgroup/") + controller);
    const bool two = std::filesystem::exists("/sys/fs/cgroup/cgroup.controllers");
    if (!one && !two) continue;
    const std::string name = std::string(one ? "cgroup v1 " : "cgroup v2 ") + controller;
    ASSERT_NE(report(name), nullptr) << name;
    if (one) {
      EXPECT_TRUE(report(name)->works) << report(name)->detail;
    }
  }
}

}  // namespace
}  // namespace squall::inject
