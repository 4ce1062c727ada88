#include "base/random.h"
#include "inject/programs.h"
#include "inject/workers/file_gate/file_gate.h"
#include "inject/workers/worker_watch.h"
#include "integration/inject/interception_fixture.h"
#include "support/servers.h"

namespace squall::inject {
namespace {

class DiskTest : public InterceptionTest {
 protected:
  // Ours: never held.
  base::Duration own_access() const {
    const base::Instant start = base::BootClock::now();
    EXPECT_TRUE(base::read_file(data_ + "/file", 4096).ok());
    return base::BootClock::now() - start;
  }
  std::string group_of(pid_t worker) const {
    for (const auto& entry :
         std::filesystem::directory_iterator("/proc/" + std::to_string(worker) + "/fdinfo")) {
      const auto text = base::read_pseudo_file(entry.path());
      if (text.ok() && text->find("fanotify ino:") != std::string::npos) return *text;
    }
    return {};
  }
};

TEST_F(DiskTest, AccessesToFilesOpenedLaterWait) {
  start_caller("reopens");
  start_holder();
  const auto binding = bind_or_die(
      "disk.latency",
      disk_parameters(
          {{"opens", true}, {"reads", true}, {"writes", true}, {"delay", 100'000'000}}));
  EXPECT_EQ(binding.mechanism, "fanotify permission group");
  EXPECT_EQ(binding.lifetime, model::LifetimeClass::kKernelHeld);
  const auto rehearsed = client_->rehearse(binding);
  ASSERT_TRUE(rehearsed.ok()) << rehearsed.error().to_string();
  const auto lease = arm_effective(binding);
  const pid_t worker = proof_of(armed_).value("file_gate", 0);
  EXPECT_GT(proof_of(armed_).value("marks", 0), 0);
  EXPECT_NE(group_of(worker), "");
  wait_for_turns(3);
  for (const auto call : {kOpen, kRead, kWrite}) {
    EXPECT_GE(report_->calls[call].took_ns, 100'000'000) << call;
    EXPECT_EQ(report_->calls[call].error, 0) << call;
  }
  // A read raises two events, and is held once.
  wait_until([&] { return report_->calls[kRead].took_ns < 190'000'000; }, "a read held once");
  wait_until([&] { return own_access() < 100ms; }, "an access of ours that is not held");
  revert(lease);
  EXPECT_FALSE(std::filesystem::exists("/proc/" + std::to_string(worker)));
  for (const auto call : {kOpen, kRead, kWrite})
    wait_until([&] { return report_->calls[call].took_ns < 100'000'000; }, "quick accesses");
}

// The gate is told of it, and its open files get a tracer.
TEST_F(DiskTest, ARestartedCallerIsHeldToo) {
  const auto caller = start_caller("keeps");
  const auto binding = bind_or_die(
      "disk.latency",
      disk_parameters(
          {{"reads", true}, {"writes", true}, {"delay", 30'000'000}, {"open_files", "trace"}}));
  const auto lease = arm_effective(binding);
  ASSERT_TRUE(caller_.pidfd().signal(SIGKILL).ok());
  ASSERT_TRUE(caller_.wait(10s).ok());
  const auto fresh = start_caller("reopens");
  const auto notice = wait_for_event(
      [&](const LeaseEvent& event) {
        return event.notice && event.text.find("came up in place") != std::string::npos;
      },
      true, true);
  EXPECT_NE(notice.text.find("in place of pid " + std::to_string(caller.pid)), std::string::npos);
  EXPECT_NE(notice.text.find("meets the file gate"), std::string::npos) << notice.text;
  wait_for_turns(3);
  EXPECT_GE(report_->calls[kWrite].took_ns, 30'000'000);
  revert(lease);
  EXPECT_EQ(status_field(fresh.pid, "TracerPid"), 0);
  wait_until([&] { return report_->calls[kWrite].took_ns < 30'000'000; }, "quick writes");
}

TEST_F(DiskTest, OnlyWritesFailWhenOnlyTheyShould) {
  start_caller("reopens", /*as_nobody=*/true);
  const auto lease = arm_effective(
      bind_or_die("disk.errors", disk_parameters({{"writes", true}, {"error", "ENOSPC"}})));
  const std::uint64_t reads = report_->calls[kRead].failed;
  wait_for_turns(20);
  EXPECT_EQ(report_->calls[kWrite].error, ENOSPC);
  EXPECT_EQ(report_->calls[kRead].failed, reads);
  EXPECT_EQ(report_->calls[kOpen].failed, 0u);
  revert(lease);
  wait_for_turns(3);
  EXPECT_EQ(report_->calls[kWrite].error, 0);
}

TEST_F(DiskTest, OnlyReadsFailWhenOnlyTheyShouldAtTheirShare) {
  start_caller("reopens");
  const auto lease = arm_effective(bind_or_die(
      "disk.errors", disk_parameters({{"reads", true}, {"error", "EIO"}, {"share", 0.3}})));
  wait_for_turns(300);
  revert(lease);
  const auto proof = proof_of(reverted_).value("file_gate", Json::object());
  EXPECT_NEAR(proof.value("failed", 0.0) / proof.value("met", 1.0), 0.3, 0.1) << reverted_.text;
  EXPECT_GT(report_->calls[kRead].failed, 0u);
  EXPECT_EQ(report_->calls[kWrite].failed, 0u);
  EXPECT_EQ(report_->calls[kOpen].failed, 0u);
}

TEST_F(DiskTest, FilesThatAreOpenAreHitByTheTracerOnly) {
  const auto caller = start_caller("keeps", /*as_nobody=*/true);
  // Without it they are left alone.
  if (client_ == nullptr) start_holder();
  const auto alone =
      arm(bind_or_die("disk.errors", disk_parameters({{"writes", true}, {"error", "EIO"}})));
  wait_for(LeaseState::kArmed);
  wait_for_turns(50);
  EXPECT_EQ(report_->calls[kWrite].failed, 0u);
  ASSERT_TRUE(client_->revert(alone, "asked").ok());
  wait_for(LeaseState::kVerified);

  const auto binding =
      bind_or_die("disk.errors",
                  disk_parameters({{"writes", true}, {"error", "EIO"}, {"open_files", "trace"}}));
  EXPECT_EQ(binding.mechanism, "fanotify permission group and ptrace");
  const auto rehearsed = client_->rehearse(binding);
  ASSERT_TRUE(rehearsed.ok()) << rehearsed.error().to_string();
  const auto lease = arm_effective(binding);
  EXPECT_EQ(proof_of(armed_).value("open_files", 0), 1);
  EXPECT_EQ(status_field(caller.pid, "TracerPid"), proof_of(armed_).value("tracer", 0));
  wait_for_turns(20);
  EXPECT_EQ(report_->calls[kWrite].error, EIO);
  EXPECT_EQ(report_->calls[kRead].failed, 0u);
  EXPECT_EQ(report_->calls[kSync].failed, 0u);
  revert(lease);
  EXPECT_EQ(status_field(caller.pid, "TracerPid"), 0);
  wait_for_turns(3);
  EXPECT_EQ(report_->calls[kWrite].error, 0);
}

// A child has copies of its parent's descriptors.
TEST_F(DiskTest, OpenFilesAreHitInChildrenToo) {
  start_caller("forks");
  const auto lease = arm_effective(bind_or_die(
      "disk.errors",
      disk_parameters({{"writes", true}, {"error", "ENOSPC"}, {"open_files", "trace"}})));
  wait_for_turns(3);
  EXPECT_EQ(report_->calls[kWrite].error, ENOSPC);
  revert(lease);
  wait_for_turns(2);
  EXPECT_EQ(report_->calls[kWrite].error, 0);
}

TEST_F(DiskTest, FoldersBelowAreHitIfTheyShallBe) {
  file_ = data_ + "/a/b/file";
  ASSERT_TRUE(base::make_directories(data_ + "/a/b").ok());
  start_caller("reopens");
  start_holder();
  const auto flat = arm(bind_or_die(
      "disk.errors", disk_parameters({{"opens", true}, {"error", "EBUSY"}, {"tree", false}})));
  wait_for(LeaseState::kArmed);
  wait_for_turns(20);
  EXPECT_EQ(report_->calls[kOpen].failed, 0u);
  ASSERT_TRUE(client_->revert(flat, "asked").ok());
  wait_for(LeaseState::kVerified);
  const auto lease = arm_effective(
      bind_or_die("disk.errors", disk_parameters({{"opens", true}, {"error", "EBUSY"}})));
  EXPECT_EQ(proof_of(armed_).value("marks", 0), 3);
  wait_for_turns(3);
  EXPECT_EQ(report_->calls[kOpen].error, EBUSY);
  revert(lease);
}

TEST_F(DiskTest, OneFileMayBeNamed) {
  start_caller("reopens");
  ASSERT_TRUE(base::write_file_atomically(data_ + "/other", "x").ok());
  start_holder();
  Json parameters = disk_parameters({{"opens", true}, {"error", "EPERM"}});
  parameters["path"] = data_ + "/other";
  const auto other = arm(bind_or_die("disk.errors", parameters));
  wait_for(LeaseState::kArmed);
  wait_for_turns(20);
  EXPECT_EQ(report_->calls[kOpen].failed, 0u);
  ASSERT_TRUE(client_->revert(other, "asked").ok());
  wait_for(LeaseState::kVerified);
  parameters["path"] = file_;
  const auto lease = arm_effective(bind_or_die("disk.errors", parameters));
  wait_for_turns(3);
  EXPECT_EQ(report_->calls[kOpen].error, EPERM);
  revert(lease);
}

TEST_F(DiskTest, AKilledHolderLetsEverythingGo) {
  start_caller("reopens");
  arm_effective(
      bind_or_die("disk.latency",
                  disk_parameters({{"opens", true}, {"delay", 20'000'000'000}, {"share", 0.2}})));
  // By now or soon it hangs in an open for 20 s.
  kill_holder();
  await_replay();
  wait_for_turns(50);
  EXPECT_EQ(report_->calls[kOpen].failed, 0u);
}

// Killed 100 times with accesses held: they go through, and nothing else is seen.
TEST_F(DiskTest, TheGateMayBeKilledAtAnyMoment) {
  const auto caller = start_caller("reopens");
  auto programs = fork_starter();
  ASSERT_TRUE(programs.ok());
  base::Random random{20261121};
  for (int round = 0; round < 100; ++round) {
    FileGateConfiguration configuration;
    configuration.interception.delay = 5s;
    configuration.interception.share = 0.5;
    configuration.seed = random.next();
    configuration.processes = {caller};
    configuration.path = data_;
    configuration.opens = configuration.reads = configuration.writes = true;
    WorkerWatch watch{**programs, "the file gate", 10s};
    watch.start("file_gate", to_json(configuration));
    WorkerReport report;
    wait_until([&] { return !(report = watch.look()).state.empty(); }, "the gate");
    ASSERT_FALSE(report.trouble) << report.trouble->to_string();
    ::usleep(static_cast<useconds_t>(random.below(3000)));
    ASSERT_TRUE(base::PidFd::open(*report.process)->signal(SIGKILL).ok());
    wait_for_turns(1);
  }
  for (const auto call : {kOpen, kRead, kWrite}) EXPECT_EQ(report_->calls[call].failed, 0u) << call;
}

TEST_F(DiskTest, AGateThatHangsIsEnded) {
  start_caller("reopens");
  arm_effective(
      bind_or_die("disk.latency", disk_parameters({{"opens", true}, {"delay", 1'000'000}})));
  const auto worker = base::PidFd::open(proof_of(armed_).value("file_gate", 0));
  ASSERT_TRUE(worker.ok() && worker->signal(SIGSTOP).ok());
  EXPECT_FALSE(wait_for_notice().text.empty());
  EXPECT_EQ(wait_for(LeaseState::kReverting).cause, "fault broke");
  wait_for(LeaseState::kVerified);
  wait_for_turns(5);
}

TEST_F(DiskTest, WhatCannotBeIsRefused) {
  start_caller("reopens");
  using base::ErrorCode;
  const auto code = [&](const std::string& kind, const Json& more) {
    auto refused = try_bind(kind, disk_parameters(more));
    EXPECT_FALSE(refused.ok()) << more.dump();
    if (refused.ok()) return ErrorCode::kInternal;
    EXPECT_FALSE(refused.error().hint.empty()) << refused.error().to_string();
    return refused.error().code;
  };
  const Json wait = {{"delay", 1'000'000}};
  const auto with = [&](const Json& more) {
    Json json = wait;
    json.update(more);
    return json;
  };
  EXPECT_EQ(code("disk.latency", wait), ErrorCode::kBadFile);  // no access chosen
  EXPECT_EQ(code("disk.latency", with({{"syncs", true}})), ErrorCode::kBadFile);
  EXPECT_EQ(code("disk.latency", with({{"opens", true}, {"open_files", "trace"}})),
            ErrorCode::kBadFile);
  // Everything of ours: the state folder, the record, the binary and its libraries.
  for (const std::string& path : {std::string("/"), folder_, state_, std::string("/usr")}) {
    if (!std::filesystem::exists(path)) continue;
    EXPECT_EQ(code("disk.latency", with({{"opens", true}, {"path", path}})), ErrorCode::kBlocked)
        << path;
  }
  EXPECT_EQ(code("disk.latency", with({{"opens", true}, {"path", data_ + "/none"}})),
            ErrorCode::kNotFound);
  // A filesystem that raises no event before writes.
  const std::string memory = base::make_temporary_directory("squall-disk").value();
  EXPECT_EQ(code("disk.latency", with({{"writes", true}, {"path", "/dev/shm"}})),
            ErrorCode::kUnsupported);
  std::filesystem::remove_all(memory);
}

class DatabaseDiskTest : public DiskTest {
 protected:
  void add_database(std::uint16_t port) {
    model::Service service;
    service.name = "caller";
    service.listens = model::ListenAddress{.address = "127.0.0.1", .port = port};
    service.expected_members = 1;
    map_.services = {service};
  }
};

// Redis holds its append-only file open and syncs it before it answers.
TEST_F(DatabaseDiskTest, RedisRefusesWritesWhenItsLogFails) {
  if (::access("/usr/bin/redis-server", X_OK) != 0) GTEST_SKIP() << "no redis-server";
  const std::uint16_t port = test::free_port();
  test::ServerProcess redis(
      {"redis-server", "--port", std::to_string(port), "--bind", "127.0.0.1", "--dir", data_,
       "--save", "", "--appendonly", "yes", "--appendfsync", "everysec"},
      folder_ + "/redis.log");
  test::require_listening(port, folder_ + "/redis.log");
  add_database(port);
  const auto command = [&](std::vector<std::string> words) {
    words.insert(words.begin(), {"redis-cli", "-p", std::to_string(port)});
    const auto result = base::run_command({.argv = words}, 10s);
    return result.ok() ? result->output.substr(0, result->output.find('\n')) : "none";
  };
  EXPECT_EQ(command({"SET", "key", "before"}), "OK");
  if (client_ == nullptr) start_holder();
  const auto lease = arm(bind_or_die(
      "disk.errors",
      disk_parameters({{"writes", true}, {"error", "ENOSPC"}, {"open_files", "trace"}})));
  wait_for(LeaseState::kArmed);
  wait_until(
      [&] {
        return command({"SET", "key", "during"}).starts_with("MISCONF");
      },
      "Redis to refuse");
  EXPECT_EQ(command({"GET", "key"}), "during");
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kVerified);
  wait_until([&] { return command({"SET", "key", "after"}) == "OK"; }, "Redis to write again");
  EXPECT_EQ(redis.stop(SIGTERM), 0);
}

// A commit waits for its log to be synced; backends are children of the process that is bound, and
// one that is born during the fault is hit, too.
TEST_F(DatabaseDiskTest, PostgresCommitsWaitForASlowDisk) {
  if (::getpwnam("postgres") == nullptr) GTEST_SKIP() << "no PostgreSQL";
  test::PostgresServer postgres{{"-c", "fsync=on"}};
  add_database(postgres.port());
  const auto query = [&](const std::string& text) {
    const base::Instant start = base::BootClock::now();
    const auto result =
        base::run_command({.argv = {"psql", "-qAtX", "-d", postgres.dsn(), "-c", text}}, 20s);
    EXPECT_TRUE(result.ok() && result->exit_status == 0) << text;
    return base::BootClock::now() - start;
  };
  query("create table t (n int)");
  if (client_ == nullptr) start_holder();
  Json parameters =
      disk_parameters({{"syncs", true}, {"open_files", "trace"}, {"delay", 500'000'000}});
  parameters["path"] = postgres.directory();
  const auto lease = arm(bind_or_die("disk.latency", parameters));
  wait_for(LeaseState::kArmed);
  EXPECT_GE(query("insert into t values (1)"), 500ms);
  wait_for(LeaseState::kEffective);
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kVerified);
  EXPECT_EQ(status_field(postgres.process().pid(), "TracerPid"), 0);
  query("insert into t values (2)");
}

}  // namespace
}  // namespace squall::inject
