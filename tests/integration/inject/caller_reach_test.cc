// Kinds beyond processes and packets, for callers who are not root: allowed by a rule, refused
// without one, and refused beyond it, also by forged bindings.

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/prctl.h>

#include "integration/inject/caller_fixture.h"
#include "integration/inject/calls_report.h"

namespace squall::inject {
namespace {

constexpr std::uint64_t kMiB = 1024 * 1024;

class CallerReach : public CallerTest {
 protected:
  void TearDown() override {
    for (const pid_t pid : forked_) {
      ::kill(pid, SIGKILL);
      ::waitpid(pid, nullptr, 0);
    }
    CallerTest::TearDown();
  }
  void expect_refused(const model::FaultBinding& binding, const std::string& why) {
    const std::string said = UserEngine(kAlice, options(), binding).wait_for("failed");
    EXPECT_NE(said.find(why), std::string::npos) << said;
  }
  void expect_allowed(const model::FaultBinding& binding) {
    UserEngine engine(kAlice, options(), binding);
    engine.wait_for("effective");
    engine.revert();
    engine.wait_for("verified");
  }
  // A process of that account that reads and writes data/file again and again, and tells in a
  // report of its own how it goes. `root_child`: so does a child of it that is root's.
  pid_t start_reader(const Account& account, bool root_child = false) {
    data_ = folder_ + "/data";
    EXPECT_TRUE(base::make_directories(data_, 0755).ok());
    const std::string file = data_ + "/file";
    std::ofstream(file) << "x";
    EXPECT_EQ(::chown(file.c_str(), account.user, account.group), 0);
    report_ = report("own", account);
    if (root_child) root_report_ = report("root", Account{});
    const pid_t pid = ::fork();
    if (pid == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      const bool child = root_child && ::fork() == 0;
      if (child) ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (!child) become(account);
      const std::string name = program("calls_for_tests");
      const std::string told = folder_ + (child ? "/report-root" : "/report-own");
      ::execl(name.c_str(), name.c_str(), "reader", told.c_str(), file.c_str(), "reopens", nullptr);
      ::_exit(1);
    }
    forked_.push_back(pid);
    wait_until([&] { return report_->turns > 2; }, "the reader");
    if (root_child) wait_until([&] { return root_report_->turns > 2; }, "the reader of root");
    return pid;
  }
  // The binding of a kind that stands in the way, aimed at this process.
  static model::FaultBinding aimed_at(model::FaultBinding binding, pid_t pid) {
    const auto identity = base::identify_process(pid).value();
    binding.targets[0].process = identity;
    Json details = binding.details.json();
    for (const char* worker : {"file_gate", "tracer"}) {
      if (!details.contains(worker)) continue;
      details[worker]["processes"] =
          Json::array({{{"pid", identity.pid}, {"start_time", identity.start_time}}});
    }
    binding.details = model::Parameters{details};
    return binding;
  }
  static model::FaultBinding with(model::FaultBinding binding, const Json& more) {
    Json details = binding.details.json();
    details.update(more);
    binding.details = model::Parameters{details};
    return binding;
  }
  model::FaultBinding bind_disk_errors() {
    return bind_or_die("disk.errors", {{"service", "victim"},
                                       {"count", 1},
                                       {"random", true},
                                       {"path", data_},
                                       {"tree", true},
                                       {"share", 1.0},
                                       {"opens", false},
                                       {"reads", true},
                                       {"writes", false},
                                       {"syncs", false},
                                       {"open_files", "none"},
                                       {"error", "EIO"}});
  }
  model::FaultBinding bind_syscall_fault() {
    return bind_or_die("syscall.fault", {{"service", "victim"},
                                         {"count", 1},
                                         {"random", true},
                                         {"calls", {"pread64"}},
                                         {"error", "EIO"},
                                         {"jitter", 0},
                                         {"done", false},
                                         {"share", 1.0},
                                         {"children", true}});
  }

  std::string data_;
  CallsReport* report_ = nullptr;
  CallsReport* root_report_ = nullptr;
  std::vector<pid_t> forked_;

 private:
  CallsReport* report(const std::string& name, const Account& account) const {
    const std::string path = folder_ + "/report-" + name;
    CallsReport* made = CallsReport::open(path.c_str());
    EXPECT_EQ(::chown(path.c_str(), account.user, account.group), 0);
    return made;
  }
};

TEST_F(CallerReach, MemoryIsHeldUpToWhatTheRuleSays) {
  start_warden();
  const auto binding =
      bind_or_die("resource.memory_fill", {{"size", 8 * kMiB}, {"reserve", 64 * kMiB}});
  expect_refused(binding, "no rule for resource.memory_fill");
  write_policy("allow: [{ users: [61234], kinds: [resource] }]");
  expect_refused(binding, "no `memory` is said");
  write_policy("allow: [{ users: [61234], kinds: [resource], memory: 4MiB }]");
  expect_refused(binding, "8MiB of memory are more than 4MiB");
  write_policy("allow: [{ users: [61234], kinds: [resource], memory: 8MiB }]");
  expect_refused(with(binding, {{"bytes", 8 * kMiB + 4096}}), "more than 8MiB");
  expect_refused(with(binding, {{"reserve", 1}}), "too little memory");
  expect_refused(with(binding, {{"folder", folder_}}), "is no cgroup");
  // Two of them would be more than the rule says.
  expect_refused(with(binding, {{"resources", Json::array()}}), "does not lock host/memory");
  auto shared = binding;
  shared.overlap = true;
  expect_refused(shared, "one fault at a time");
  expect_allowed(binding);
}

TEST_F(CallerReach, InodesAreTakenBelowThePathsOfARuleOnly) {
  enter_own_mounts();
  const std::string disk = folder_ + "/disk";
  ASSERT_TRUE(base::make_directories(disk, 0755).ok());
  ASSERT_EQ(::mount("none", disk.c_str(), "tmpfs", 0, "size=8m,nr_inodes=200"), 0);
  start_warden();
  const auto binding = bind_or_die("resource.inodes", {{"path", disk}, {"leave", "10"}});
  expect_refused(binding, "no rule for resource.inodes");
  write_policy("allow: [{ users: [61234], kinds: [resource], paths: [/srv/elsewhere] }]");
  expect_refused(binding, "below none of its `paths`");
  write_policy("allow: [{ users: [61234], kinds: [resource], paths: [" + disk + "] }]");
  ASSERT_EQ(::symlink("/", (disk + "/link").c_str()), 0);
  expect_refused(with(binding, {{"path", disk + "/link"}}), "is not the real path");
  expect_refused(with(binding, {{"path", disk + "/../disk"}}), "is not the real path");
  expect_refused(with(binding, {{"path", state_}}), "below none of its `paths`");
  expect_allowed(binding);
  ::umount2(disk.c_str(), MNT_DETACH);
}

TEST_F(CallerReach, ADiskWithTheJournalsOrAnotherThanNamedIsNotKeptBusy) {
  auto binding = try_bind("resource.io_saturation", {{"path", folder_},
                                                     {"operation", "mixed"},
                                                     {"depth", 1},
                                                     {"block", 4096},
                                                     {"share", 0.05},
                                                     {"size", kMiB},
                                                     {"total", 64 * kMiB}});
  if (!binding.ok() && binding.error().code == base::ErrorCode::kUnsupported)
    GTEST_SKIP() << binding.error().message;
  ASSERT_TRUE(binding.ok()) << binding.error().to_string();
  write_policy("allow: [{ users: [61234], kinds: [resource], paths: [/] }]");
  start_warden();
  expect_refused(*binding, "the journals");
  expect_refused(with(*binding, {{"disk", "../../../../etc"}}), "another disk");
}

TEST_F(CallerReach, AccessesToFilesFailForTheCallersOwnRightsOnly) {
  start_warden();
  start_victim_of(kAlice);
  const pid_t reader = start_reader(kAlice, /*root_child=*/true);
  const auto binding = aimed_at(bind_disk_errors(), reader);
  expect_refused(binding, "no rule for disk.errors");
  write_policy("allow: [{ users: [61234], kinds: [disk], paths: [/srv/elsewhere] }]");
  expect_refused(binding, "below none of its `paths`");
  write_policy("allow: [{ users: [61234], kinds: [disk], paths: [/] }]");
  // A path that holds what Squall needs to end the fault.
  Json details = binding.details.json();
  details["file_gate"]["path"] = folder_;
  expect_refused(with(binding, details), "which Squall itself needs");
  // A gate that is told of more processes than the targets.
  details = binding.details.json();
  details["file_gate"]["processes"].push_back(
      {{"pid", ::getpid()}, {"start_time", base::identify_process(::getpid())->start_time}});
  details["file_gate"]["users"] = {0};
  expect_refused(with(binding, details), "belongs to root");

  UserEngine engine(kAlice, options(), binding);
  engine.wait_for("effective");
  wait_until([&] { return report_->calls[kRead].failed > 5; }, "reads of the caller that fail");
  EXPECT_EQ(report_->calls[kRead].error, EIO);
  // A process with more rights than the caller's descends from it, as one of a setuid program.
  const std::uint64_t before = root_report_->calls[kRead].made;
  wait_until([&] { return root_report_->calls[kRead].made > before + 20; }, "reads of root");
  EXPECT_EQ(root_report_->calls[kRead].failed, 0u);
  engine.revert();
  engine.wait_for("verified");
  wait_until([&] { return report_->calls[kRead].error == 0; }, "reads that succeed");
}

TEST_F(CallerReach, ATracerHasTheRightsOfTheTraced) {
  start_warden();
  start_victim_of(kAlice);
  const pid_t own = start_reader(kAlice);
  const auto binding = bind_syscall_fault();
  {
    UserEngine engine(kAlice, options(), aimed_at(binding, own), 30s, /*rehearses=*/true);
    engine.wait_for("rehearsed");
    engine.wait_for("effective");
    wait_until([&] { return report_->calls[kRead].failed > 5; }, "reads that fail");
    const std::string status = text_of(fmt::format("/proc/{}/status", own));
    const long tracer = std::strtol(status.c_str() + status.find("TracerPid:") + 10, nullptr, 10);
    ASSERT_GT(tracer, 1);
    const std::string worker = text_of(fmt::format("/proc/{}/status", tracer));
    EXPECT_NE(worker.find("Uid:\t61234\t61234\t61234\t61234"), std::string::npos) << worker;
    EXPECT_NE(worker.find("Gid:\t61234\t61234\t61234\t61234"), std::string::npos) << worker;
    EXPECT_NE(worker.find("CapPrm:\t0000000000000000"), std::string::npos) << worker;
    engine.revert();
    engine.wait_for("verified");
    wait_until([&] { return report_->calls[kRead].error == 0; }, "reads that succeed");
  }
  // Another user's needs a rule, and the tracer has his rights then; root's are root's.
  const pid_t bobs = start_reader(kBob);
  expect_refused(aimed_at(binding, bobs), "belongs to user 61235");
  auto forged = binding;  // the target is her own, what the tracer is told is not
  Json details = binding.details.json();
  details["tracer"] = aimed_at(binding, bobs).details.json()["tracer"];
  details["account"] = {{"user", 0}, {"group", 0}};
  expect_refused(with(forged, details), "belongs to user 61235");
  write_policy("allow: [{ users: [61234], kinds: [syscall], targets: [61235, root] }]");
  expect_allowed(aimed_at(binding, bobs));
  expect_refused(aimed_at(binding, start_reader(Account{})), "traced for root only");
}

// A process that was the caller's when it was bound, and has a child that is not.
TEST_F(CallerReach, AChildOfAnotherUserIsNotTraced) {
  start_warden();
  start_victim_of(kAlice);
  const pid_t reader = start_reader(kAlice, /*root_child=*/true);
  {
    UserEngine engine(kAlice, options(), aimed_at(bind_syscall_fault(), reader));
    EXPECT_NE(engine.wait_for("failed").find("trace process"), std::string::npos);
  }
  EXPECT_EQ(root_report_->calls[kRead].failed, 0u);
}

TEST_F(CallerReach, AnotherClockIsForProcessesOfOnesOwnAndOfTheRule) {
  start_warden();
  const auto victim = start_victim_of(kBob);
  auto binding = bind_or_die("process.kill", kill_parameters("start"));
  binding.kind = "clock.skew";
  binding.mechanism = "libfaketime";
  binding = with(binding, {{"library", "/usr/lib/none.so"},
                           {"first", "+60"},
                           {"then", "+60"},
                           {"offset", 60},
                           {"grace_ns", 1'000'000'000}});
  expect_refused(binding, "belongs to user 61235");
  write_policy("allow: [{ users: [61234], kinds: [clock], targets: [61235] }]");
  expect_refused(binding, "start: true");
  EXPECT_TRUE(process_state(victim).has_value());
}

}  // namespace
}  // namespace squall::inject
