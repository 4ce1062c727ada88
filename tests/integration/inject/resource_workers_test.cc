// The kinds that use up a resource of the host by a worker: memory, inodes, a disk's time.

#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <fstream>

#include "integration/inject/fixture.h"

namespace squall::inject {
namespace {

constexpr std::uint64_t kMiB = 1024 * 1024;

class WorkerFault : public InjectTest {
 protected:
  LeaseEvent put_in_force(const model::FaultBinding& binding) {
    if (client_ == nullptr) start_holder();
    lease_ = arm(binding);
    const Json proof = proof_of(wait_for(LeaseState::kArmed));
    if (proof.contains("worker")) {
      auto worker = base::PidFd::open(proof["worker"].get<pid_t>());
      EXPECT_TRUE(worker.ok());
      if (worker.ok()) worker_ = std::move(*worker);
    }
    return wait_for(LeaseState::kEffective);
  }
  LeaseEvent take_away() {
    EXPECT_TRUE(client_->revert(lease_, "asked").ok());
    return wait_for(LeaseState::kVerified);
  }
  void kill_worker() {
    ASSERT_TRUE(worker_.signal(SIGKILL).ok());
    EXPECT_FALSE(wait_for_notice().text.empty());
    EXPECT_EQ(wait_for(LeaseState::kReverting).cause, "fault broke");
    wait_for(LeaseState::kVerified);
  }
  void expect_rehearsal(const model::FaultBinding& binding) {
    if (client_ == nullptr) start_holder();
    const auto rehearsed = client_->rehearse(binding);
    ASSERT_TRUE(rehearsed.ok()) << rehearsed.error().to_string();
    EXPECT_NE(rehearsed->find("reverted and verified"), std::string::npos);
  }
  void expect_refused(const std::string& kind, Json parameters, const std::string& reason) {
    const auto binding = try_bind(kind, std::move(parameters));
    ASSERT_FALSE(binding.ok()) << reason;
    EXPECT_NE(binding.error().message.find(reason), std::string::npos) << binding.error().message;
    EXPECT_FALSE(binding.error().hint.empty());
  }
  std::string of_worker(const std::string& file) const {
    return base::read_pseudo_file("/proc/" + std::to_string(worker_.identity().pid) + "/" + file)
        .value_or("unreadable");
  }
  // No capability but `left` (a mask in hexadecimal), and a filter for system calls.
  void expect_confined(const std::string& left) {
    const std::string status = of_worker("status");
    EXPECT_NE(status.find("CapEff:\t" + left + "\n"), std::string::npos) << status;
    EXPECT_NE(status.find("CapPrm:\t" + left + "\n"), std::string::npos) << status;
    EXPECT_NE(status.find("Seccomp:\t2\n"), std::string::npos) << status;
  }

  base::LeaseId lease_;
  base::PidFd worker_;
};

// ---- resource.memory_fill ------------------------------------------------------------------

class MemoryFill : public WorkerFault {
 protected:
  void TearDown() override {
    client_.reset();
    WorkerFault::TearDown();
    if (group_.empty()) return;
    wait_until([&] { return ::rmdir(group_.c_str()) == 0 || errno == ENOENT; }, "an empty group");
  }
  static Json size(std::uint64_t bytes) { return {{"size", bytes}, {"reserve", 64 * kMiB}}; }
  static std::uint64_t available() {
    const std::string text = base::read_pseudo_file("/proc/meminfo").value_or("");
    return std::strtoull(text.c_str() + text.find("MemAvailable:") + 13, nullptr, 10) * 1024;
  }
  // The service `victim` with a member in a group of its own that may have `limit`.
  bool make_group(std::uint64_t limit) {
    for (const std::string folder : {"/sys/fs/cgroup/memory", "/sys/fs/cgroup"}) {
      const std::string path = folder + "/squall-fill-" + std::to_string(::getpid());
      if (!std::filesystem::exists(folder + "/cgroup.procs") || ::mkdir(path.c_str(), 0755) != 0)
        continue;
      group_ = path;
      const bool v1 = std::filesystem::exists(path + "/memory.limit_in_bytes");
      if (!v1 && !std::filesystem::exists(path + "/memory.max")) return false;
      usage_ = path + (v1 ? "/memory.usage_in_bytes" : "/memory.current");
      write(path + (v1 ? "/memory.limit_in_bytes" : "/memory.max"), std::to_string(limit));
      add_service(1);
      write(path + "/cgroup.procs", std::to_string(start_victim().pid));
      return true;
    }
    return false;
  }
  static void write(const std::string& file, const std::string& value) {
    const base::UniqueFd fd{::open(file.c_str(), O_WRONLY | O_CLOEXEC)};
    EXPECT_TRUE(base::write_all(fd.get(), value).ok()) << file;
  }
  std::uint64_t used() const {
    return std::strtoull(base::read_pseudo_file(usage_).value_or("0").c_str(), nullptr, 10);
  }
  static Json in_group(std::uint64_t bytes) {
    Json json = size(bytes);
    json["service"] = "victim";
    return json;
  }

  std::string group_;
  std::string usage_;
};

TEST_F(MemoryFill, HoldsWhatWasAskedAndTheKernelSaysSo) {
  const auto binding = bind_or_die("resource.memory_fill", size(96 * kMiB));
  expect_rehearsal(binding);
  const Json proof = proof_of(put_in_force(binding));
  EXPECT_GE(proof.value("resident", 0ull), 96 * kMiB);
  EXPECT_LT(proof.value("resident", 0ull), 104 * kMiB);
  expect_confined("0000000000000000");
  EXPECT_EQ(of_worker("oom_score_adj"), "1000\n");
  take_away();
  EXPECT_TRUE(worker_.ended());
}

TEST_F(MemoryFill, InAGroupItCountsThereAndIsFreeAgain) {
  if (!make_group(96 * kMiB)) GTEST_SKIP() << "no cgroup with the controller memory";
  expect_refused("resource.memory_fill", in_group(95 * kMiB), "at most");
  const std::uint64_t before = used();
  const Json proof =
      proof_of(put_in_force(bind_or_die("resource.memory_fill", in_group(64 * kMiB))));
  EXPECT_GE(proof.value("group_used", 0ull), before + 63 * kMiB);
  EXPECT_GE(used(), before + 63 * kMiB);
  take_away();
  wait_until([&] { return used() < before + 2 * kMiB; }, "the group's memory to be free");
}

TEST_F(MemoryFill, AKilledHolderFreesIt) {
  if (!make_group(96 * kMiB)) GTEST_SKIP() << "no cgroup with the controller memory";
  const std::uint64_t before = used();
  put_in_force(bind_or_die("resource.memory_fill", in_group(64 * kMiB)));
  kill_holder();
  await_replay();
  EXPECT_TRUE(worker_.ended());
  wait_until([&] { return used() < before + 2 * kMiB; }, "the group's memory to be free");
}

TEST_F(MemoryFill, WhereAGroupRunsOutTheWorkerIsKilledFirst) {
  if (!make_group(64 * kMiB)) GTEST_SKIP() << "no cgroup with the controller memory";
  put_in_force(bind_or_die("resource.memory_fill", in_group(48 * kMiB)));
  // Somebody else in the group needs what is not there.
  const auto greedy = base::run_command(
      {.argv = {"/bin/sh", "-c",
                "echo $$ > " + group_ + "/cgroup.procs; exec head -c 40000000 /dev/zero | tail"}},
      30s, 1 << 26);
  ASSERT_TRUE(greedy.ok()) << greedy.error().to_string();
  EXPECT_EQ(wait_for(LeaseState::kReverting).cause, "fault broke");
  wait_for(LeaseState::kVerified);
  EXPECT_EQ(find_victims().size(), 1u);
}

TEST_F(MemoryFill, AKilledWorkerEndsTheFault) {
  put_in_force(bind_or_die("resource.memory_fill", size(kMiB)));
  kill_worker();
}

TEST_F(MemoryFill, TheReserveIsKeptWhoeverTookTheRest) {
  auto binding = bind_or_die("resource.memory_fill", size(kMiB));
  // As if others had used up memory since it was bound.
  Json details = binding.details.json();
  details["reserve"] = available() * 2;
  binding.details = model::Parameters{details};
  start_holder();
  arm(binding);
  const auto failed = wait_for(LeaseState::kFailed);
  EXPECT_NE(failed.text.find("gave all back"), std::string::npos) << failed.text;
  EXPECT_FALSE(failed.still_active);
}

TEST_F(MemoryFill, WhatTheHostCannotSpareIsRefused) {
  expect_refused("resource.memory_fill", size(available()), "at most");
  expect_refused("resource.memory_fill", {{"share", 1.0}, {"reserve", 64 * kMiB}},
                 "the host keeps");
  expect_refused("resource.memory_fill", {{"reserve", 64 * kMiB}}, "exactly one");
  Json unknown = size(kMiB);
  unknown["service"] = "nobody";
  const auto refused = try_bind("resource.memory_fill", unknown);
  EXPECT_FALSE(refused.ok());
}

// ---- resource.inodes -----------------------------------------------------------------------

class InodeFill : public WorkerFault {
 protected:
  void SetUp() override {
    WorkerFault::SetUp();
    if (IsSkipped()) return;
    enter_own_mounts();
    disk_ = folder_ + "/disk";
    std::filesystem::create_directory(disk_);
  }
  void TearDown() override {
    client_.reset();
    ::umount2(disk_.c_str(), MNT_DETACH);
    WorkerFault::TearDown();
  }
  void mount_tmpfs(const std::string& inodes) {
    ASSERT_EQ(::mount("none", disk_.c_str(), "tmpfs", 0, ("size=64m,nr_inodes=" + inodes).c_str()),
              0);
  }
  bool mount_image() {
    const std::string image = folder_ + "/image";
    std::ofstream(image).close();
    std::filesystem::resize_file(image, 32 * kMiB);
    const auto made =
        base::run_command({.argv = {"mkfs.ext4", "-q", "-F", "-N", "300", image}}, 30s);
    const auto mounted = base::run_command({.argv = {"mount", "-o", "loop", image, disk_}}, 30s);
    return made.ok() && made->exit_status == 0 && mounted.ok() && mounted->exit_status == 0;
  }
  std::uint64_t free_inodes() const {
    struct statvfs info {};
    EXPECT_EQ(::statvfs(disk_.c_str(), &info), 0);
    return info.f_ffree;
  }
  // How many empty files can be made before the error, which must be ENOSPC; at most `most`.
  int make_files(int most, const std::string& prefix = "file") {
    for (int i = 0; i < most; ++i) {
      const std::string path = disk_ + "/" + prefix + std::to_string(i);
      const base::UniqueFd file{::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600)};
      if (file) continue;
      EXPECT_EQ(errno, ENOSPC);
      return i;
    }
    return most;
  }
  Json leave(const std::string& amount) const { return {{"path", disk_}, {"leave", amount}}; }

  std::string disk_;
};

TEST_F(InodeFill, WhoMakesMoreFilesThanAreLeftGetsENOSPC) {
  mount_tmpfs("500");
  const std::uint64_t before = free_inodes();
  const auto binding = bind_or_die("resource.inodes", leave("10"));
  expect_rehearsal(binding);
  EXPECT_EQ(free_inodes(), before);
  const Json proof = proof_of(put_in_force(binding));
  EXPECT_EQ(proof.value("taken", 0ull), before - 10);
  EXPECT_EQ(free_inodes(), 10u);
  EXPECT_TRUE(std::filesystem::is_empty(disk_));
  EXPECT_EQ(make_files(20), 10);
  take_away();
  // What others made meanwhile is theirs.
  EXPECT_EQ(free_inodes(), before - 10);
  EXPECT_EQ(make_files(20, "more"), 20);
}

TEST_F(InodeFill, AKilledHolderGivesThemBackAndOthersFilesStay) {
  if (!mount_image()) GTEST_SKIP() << "no loop devices here";
  const std::uint64_t before = free_inodes();
  put_in_force(bind_or_die("resource.inodes", leave("3")));
  EXPECT_EQ(make_files(20), 3);
  kill_holder();
  await_replay();
  wait_until([&] { return free_inodes() == before - 3; }, "the inodes to be free");
  EXPECT_TRUE(std::filesystem::exists(disk_ + "/file2"));
  EXPECT_EQ(make_files(20, "more"), 20);
}

TEST_F(InodeFill, ManyAreHeldBySeveralWorkers) {
  mount_tmpfs("70000");
  const std::uint64_t before = free_inodes();
  const auto effective = put_in_force(bind_or_die("resource.inodes", leave("0")));
  EXPECT_EQ(proof_of(effective).value("taken", 0ull), before);
  EXPECT_EQ(make_files(1), 0);
  take_away();
  EXPECT_EQ(free_inodes(), before);
}

TEST_F(InodeFill, AShareIsLeftAndANumberIsTaken) {
  mount_tmpfs("1000");
  put_in_force(bind_or_die("resource.inodes", leave("50%")));
  EXPECT_EQ(free_inodes(), 500u);
  take_away();
  const std::uint64_t before = free_inodes();
  put_in_force(bind_or_die("resource.inodes", {{"path", disk_}, {"count", 100}}));
  EXPECT_EQ(free_inodes(), before - 100);
  take_away();
  EXPECT_EQ(free_inodes(), before);
}

TEST_F(InodeFill, WhatCannotWorkIsRefused) {
  mount_tmpfs("100");
  const std::string kind = "resource.inodes";
  expect_refused(kind, leave("many"), "neither a number nor a share");
  expect_refused(kind, leave("1000"), "not more than are to be left");
  expect_refused(kind, {{"path", disk_}, {"count", 1000}}, "cannot be taken");
  expect_refused(kind, {{"path", disk_}}, "exactly one");
  expect_refused(kind, {{"path", disk_ + "/none"}, {"leave", "1"}}, "no folder");
  expect_refused(kind, {{"path", "/proc"}, {"leave", "1"}}, "no fixed number");
  expect_refused(kind, {{"path", folder_}, {"leave", "1"}}, "same filesystem");
}

// ---- resource.io_saturation ----------------------------------------------------------------

class IoSaturation : public WorkerFault {
 protected:
  static Json busy(const std::string& path, const std::string& operation) {
    return {{"path", path}, {"operation", operation}, {"depth", 8},          {"block", 65536},
            {"share", 0.5}, {"size", 8 * kMiB},       {"total", 1024 * kMiB}};
  }
  // False where the tests' folder lies on no disk.
  bool on_a_disk() { return try_bind("resource.io_saturation", busy(folder_, "read")).ok(); }
  std::uint64_t bytes_of_worker(const std::string& key) const {
    const std::string io = "\n" + of_worker("io");
    const std::size_t at = io.find("\n" + key + ": ");
    return at == std::string::npos ? 0
                                   : std::strtoull(io.c_str() + at + key.size() + 3, nullptr, 10);
  }
};

TEST_F(IoSaturation, TheDiskIsBusyByTheKernelsOwnCount) {
  if (!on_a_disk()) GTEST_SKIP() << "the folder for temporary files lies on no disk";
  const auto binding = bind_or_die("resource.io_saturation", busy(folder_, "mixed"));
  expect_rehearsal(binding);
  const Json proof = proof_of(put_in_force(binding));
  EXPECT_GT(proof.value("bytes", 0ull), 0u);
  EXPECT_GE(proof.value("disk_bytes", 0ull), proof.value("bytes", 0ull) / 2);
  EXPECT_GT(proof.value("busy", 0.0), 0.0);
  expect_confined("0000000000000000");
  EXPECT_GT(bytes_of_worker("read_bytes"), 0u);
  EXPECT_GT(bytes_of_worker("write_bytes"), 0u);
  take_away();
  EXPECT_TRUE(worker_.ended());
  for (const auto& entry : std::filesystem::directory_iterator(folder_))
    EXPECT_TRUE(entry.is_directory()) << entry.path();
}

TEST_F(IoSaturation, ReadingWritesOnlyTheFileAndRestsAfterTheTotal) {
  if (!on_a_disk()) GTEST_SKIP() << "the folder for temporary files lies on no disk";
  Json parameters = busy(folder_, "read");
  parameters["total"] = 24 * kMiB;
  put_in_force(bind_or_die("resource.io_saturation", parameters));
  EXPECT_NE(wait_for_notice().text.find("the disk rests"), std::string::npos);
  EXPECT_EQ(bytes_of_worker("write_bytes"), 8 * kMiB);
  // Those that were on their way when the total was reached still come.
  EXPECT_LE(bytes_of_worker("read_bytes"), 17 * kMiB);
  take_away();
}

TEST_F(IoSaturation, AKilledHolderLeavesTheDiskAlone) {
  if (!on_a_disk()) GTEST_SKIP() << "the folder for temporary files lies on no disk";
  put_in_force(bind_or_die("resource.io_saturation", busy(folder_, "write")));
  kill_holder();
  await_replay();
  EXPECT_TRUE(worker_.ended());
}

TEST_F(IoSaturation, AKilledWorkerEndsTheFault) {
  if (!on_a_disk()) GTEST_SKIP() << "the folder for temporary files lies on no disk";
  put_in_force(bind_or_die("resource.io_saturation", busy(folder_, "mixed")));
  kill_worker();
}

TEST_F(IoSaturation, WhatCannotWorkIsRefused) {
  const std::string kind = "resource.io_saturation";
  expect_refused(kind, busy("/dev/shm", "read"), "no disk of its own");
  expect_refused(kind, busy(folder_ + "/none", "read"), "no folder");
  Json odd = busy(folder_, "read");
  odd["block"] = 5000;
  expect_refused(kind, odd, "whole number of 4 KiB");
  if (!on_a_disk()) return;
  Json large = busy(folder_, "read");
  large["size"] = base::free_space(folder_).value();
  expect_refused(kind, large, "may take half");
  Json little = busy(folder_, "read");
  little["total"] = kMiB;
  expect_refused(kind, little, "uses up the `total`");
}

}  // namespace
}  // namespace squall::inject
