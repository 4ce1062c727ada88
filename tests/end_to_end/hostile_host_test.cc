// The host turns against the run: the wall clock jumps back an hour, the disk fills up.

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "support/small_system/small_system.h"

namespace squall::end_to_end {
namespace {

constexpr const char* kHypothesis =
    "  no-errors: reads.success >= 95% during fault\n"
    "  recovers: reads.success >= 90% for 1s within 3s of revert";

base::Json only_run_of(const SmallSystem& system) {
  const Finished list = system.squall({"list", "--json"});
  auto json = base::parse_json(list.output);
  if (!json.ok() || json->size() != 1) {
    ADD_FAILURE() << list.output << list.error;
    return base::Json::object();
  }
  return (*json)[0];
}

std::uintmax_t record_size(const SmallSystem& system) {
  std::uintmax_t size = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(system.path(".squall"))) {
    if (entry.path().extension() == ".record") size = std::max(size, entry.file_size());
  }
  return size;
}

TEST(WallClock, SetBackAnHourDuringARunChangesNothing) {
  const SmallSystem system;
  system.write_pause_experiment(kHypothesis);
  system.write("clock", "+0\n");
  // Only the wall clock, and only for the program and what it starts. The file is read each time.
  base::SpawnOptions options =
      system.squall_options({"run", "experiment.yaml", "--env", "dev", "--plain"});
  const std::vector<std::string> faked = {"/usr/bin/env",
                                          "LD_PRELOAD=/usr/$LIB/faketime/libfaketime.so.1",
                                          "FAKETIME_TIMESTAMP_FILE=" + system.path("clock"),
                                          "FAKETIME_NO_CACHE=1",
                                          "FAKETIME_DONT_FAKE_MONOTONIC=1",
                                          "DONT_FAKE_MONOTONIC=1"};
  options.argv.insert(options.argv.begin(), faked.begin(), faked.end());
  base::ChildProcess engine = system.start(std::move(options));
  ASSERT_TRUE(system.log_says("phase baseline")) << system.contents("squall.log");
  system.write("clock", "-3600\n");
  auto status = engine.wait(std::chrono::seconds(60));
  ASSERT_TRUE(status.ok());
  EXPECT_EQ(WEXITSTATUS(*status), 0) << system.contents("squall.log");
  EXPECT_TRUE(system.worker_is_running());

  const Finished shown = system.squall({"show", "last", "--json"});
  auto report = base::parse_json(shown.output);
  ASSERT_TRUE(report.ok()) << shown.output << shown.error;
  EXPECT_EQ(report->at("verdict"), "held");
  EXPECT_EQ(report->at("outcome"), "completed");
}

// A small disk of its own for the runs, seen by this process and its children only.
class FullDisk : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root to mount";
    ASSERT_EQ(unshare(CLONE_NEWNS), 0);
    ASSERT_EQ(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    std::filesystem::create_directory(disk_);
    ASSERT_EQ(mount("none", disk_.c_str(), "tmpfs", 0, "size=64m"), 0);
  }
  void TearDown() override { umount2(disk_.c_str(), MNT_DETACH); }
  // Leaves no byte free.
  void fill() const {
    std::ofstream ballast(disk_ + "/ballast");
    for (const std::streamsize size : {1 << 16, 1}) {
      const std::string block(static_cast<std::size_t>(size), 'x');
      while (ballast.write(block.data(), size).flush()) {
      }
      ballast.clear();
    }
  }
  const SmallSystem system_;
  const std::string disk_ = system_.path(".squall");
};

// The record's space is set aside before it is needed.
TEST_F(FullDisk, DuringARunLosesNothing) {
  system_.write_pause_experiment(kHypothesis);
  base::ChildProcess engine =
      system_.start_squall({"run", "experiment.yaml", "--env", "dev", "--plain"});
  ASSERT_TRUE(system_.log_says("outage: armed")) << system_.contents("squall.log");
  fill();
  auto status = engine.wait(std::chrono::seconds(60));
  ASSERT_TRUE(status.ok());
  EXPECT_EQ(WEXITSTATUS(*status), 0) << system_.contents("squall.log");
  EXPECT_TRUE(system_.worker_is_running());
  std::filesystem::remove(disk_ + "/ballast");
  EXPECT_EQ(system_.squall({"reindex"}).exit_status, 0);
  EXPECT_EQ(only_run_of(system_).at("outcome"), "completed");
}

// What a full disk comes to once that space is used up: not one byte more can be written.
TEST(FullRecord, EndsTheRunRevertsAndSaysSo) {
  const SmallSystem system;
  system.write_pause_experiment(kHypothesis);
  base::ChildProcess engine =
      system.start_squall({"run", "experiment.yaml", "--env", "dev", "--plain"});
  ASSERT_TRUE(system.log_says("outage: armed")) << system.contents("squall.log");
  const rlimit limit{record_size(system), RLIM_INFINITY};
  ASSERT_EQ(prlimit(engine.pid(), RLIMIT_FSIZE, &limit, nullptr), 0);
  ASSERT_TRUE(system.log_says("outage: verified")) << system.contents("squall.log");
  const rlimit none{RLIM_INFINITY, RLIM_INFINITY};
  ASSERT_EQ(prlimit(engine.pid(), RLIMIT_FSIZE, &none, nullptr), 0);
  auto status = engine.wait(std::chrono::seconds(60));
  ASSERT_TRUE(status.ok());
  const std::string log = system.contents("squall.log");
  EXPECT_EQ(WEXITSTATUS(*status), 1) << log;
  EXPECT_NE(log.find("could not be written"), std::string::npos) << log;
  EXPECT_EQ(log.find("may still be active"), std::string::npos) << log;
  EXPECT_TRUE(system.worker_is_running());
  EXPECT_EQ(system.squall({"reindex"}).exit_status, 0);
  EXPECT_EQ(only_run_of(system).at("outcome"), "errored");
}

TEST_F(FullDisk, BeforeARunRefusesIt) {
  system_.write_pause_experiment(kHypothesis);
  fill();
  const Finished run = system_.squall({"run", "experiment.yaml", "--env", "dev", "--plain"});
  EXPECT_TRUE(run.exit_status == 3 || run.exit_status == 1) << run.output << run.error;
  EXPECT_NE((run.output + run.error).find("space"), std::string::npos) << run.error;
  EXPECT_TRUE(system_.worker_is_running());
}

}  // namespace
}  // namespace squall::end_to_end
