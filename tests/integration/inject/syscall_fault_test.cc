#include <poll.h>
#include <sys/syscall.h>

#include "base/random.h"
#include "inject/programs.h"
#include "inject/workers/tracer/tracer.h"
#include "inject/workers/worker_watch.h"
#include "integration/inject/interception_fixture.h"

namespace squall::inject {
namespace {

class SyscallFaultTest : public InterceptionTest {};

TEST_F(SyscallFaultTest, CallsFailAndNothingElseChanges) {
  const auto caller = start_caller("checks");
  start_holder();
  const auto binding =
      bind_or_die("syscall.fault",
                  call_parameters({{"calls", {"pwrite64"}}, {"error", "EIO"}, {"share", 0.25}}));
  const auto rehearsed = client_->rehearse(binding);
  ASSERT_TRUE(rehearsed.ok()) << rehearsed.error().to_string();
  const auto lease = arm_effective(binding);
  const auto armed = proof_of(armed_);
  EXPECT_EQ(status_field(caller.pid, "TracerPid"), armed.value("tracer", 0));
  EXPECT_GE(armed.value("threads", 0), 4);
  wait_for_turns(600);
  revert(lease);
  EXPECT_EQ(status_field(caller.pid, "TracerPid"), 0);
  expect_nothing_wrong();
  const auto proof = proof_of(reverted_).value("tracer", Json::object());
  const double share = proof.value("failed", 0.0) / proof.value("met", 1.0);
  EXPECT_NEAR(share, 0.25, 0.08) << reverted_.text;
  const std::uint64_t refused = report_->refused;
  EXPECT_GT(refused, 0u);
  wait_for_turns(50);
  EXPECT_EQ(report_->refused, refused) << "after the revert";
  expect_nothing_wrong();
}

TEST_F(SyscallFaultTest, CallsWaitAndOthersDoNot) {
  start_caller("keeps");
  const auto lease = arm_effective(bind_or_die(
      "syscall.fault", call_parameters({{"calls", {"fdatasync"}}, {"delay", 30'000'000}})));
  wait_for_turns(3);
  EXPECT_GE(report_->calls[kSync].took_ns, 30'000'000);
  wait_until([&] { return report_->calls[kRead].took_ns < 30'000'000; }, "a quick read");
  EXPECT_EQ(report_->calls[kSync].failed, 0u);
  revert(lease);
  wait_until([&] { return report_->calls[kSync].took_ns < 30'000'000; }, "a quick sync");
}

// What a supervisor starts in its place meets the same calls; a second tracer holds it.
TEST_F(SyscallFaultTest, ARestartedCallerIsHitToo) {
  const auto caller = start_caller("keeps");
  const auto lease = arm_effective(bind_or_die(
      "syscall.fault", call_parameters({{"calls", {"fdatasync"}}, {"delay", 30'000'000}})));
  ASSERT_TRUE(caller_.pidfd().signal(SIGKILL).ok());
  ASSERT_TRUE(caller_.wait(10s).ok());
  const auto fresh = start_caller("keeps");
  const auto notice = wait_for_event(
      [&](const LeaseEvent& event) {
        return event.notice && event.text.find("came up in place") != std::string::npos;
      },
      true, true);
  EXPECT_NE(notice.text.find("in place of pid " + std::to_string(caller.pid) + " and is traced"),
            std::string::npos)
      << notice.text;
  wait_for_turns(2);
  EXPECT_GE(report_->calls[kSync].took_ns, 30'000'000);
  revert(lease);
  EXPECT_EQ(status_field(fresh.pid, "TracerPid"), 0);
  wait_until([&] { return report_->calls[kSync].took_ns < 30'000'000; }, "a quick sync");
}

// A caller is told that its write failed, and the write was made.
TEST_F(SyscallFaultTest, CallsThatAreDoneFail) {
  start_caller("keeps");
  const auto lease = arm_effective(
      bind_or_die("syscall.fault",
                  call_parameters({{"calls", {"pwrite64"}}, {"error", "ENOSPC"}, {"done", true}})));
  wait_for_turns(3);
  EXPECT_EQ(report_->calls[kWrite].error, ENOSPC);
  revert(lease);
  wait_for_turns(2);
  EXPECT_EQ(report_->calls[kWrite].error, 0);
}

// The promise itself: whenever the tracer is killed, the target has seen the truth or the error
// that was meant. 200 times, while four threads write, fork, execute and get signals.
TEST_F(SyscallFaultTest, ATracerMayBeKilledAtAnyMoment) {
  const auto caller = start_caller("checks");
  auto programs = fork_starter();
  ASSERT_TRUE(programs.ok());
  base::Random random{20261121};
  for (int round = 0; round < 200; ++round) {
    TracerConfiguration configuration;
    configuration.interception.share = 0.5;
    if (round % 4 == 3)
      configuration.interception.delay = 1ms;
    else
      configuration.interception.error = EIO;
    configuration.afterwards = false;
    configuration.seed = random.next();
    configuration.processes = {caller};
    configuration.calls = {SYS_pwrite64};
    std::optional<base::ProcessIdentity> worker;
    {
      WorkerWatch watch{**programs, "the tracer", 10s};
      watch.start("tracer", to_json(configuration));
      WorkerReport report = watch.look();
      while (report.state.empty() && !report.trouble) {
        pollfd request{.fd = watch.fd(), .events = POLLIN, .revents = 0};
        ::poll(&request, 1, 1000);
        report = watch.look();
      }
      ASSERT_FALSE(report.trouble) << round << ": " << report.trouble->to_string();
      worker = report.process;
      ::usleep(static_cast<useconds_t>(random.below(4000)));
      ASSERT_TRUE(base::PidFd::open(*worker)->signal(SIGKILL).ok());
    }
    wait_until([&] { return status_field(caller.pid, "TracerPid") == 0; }, "the tracer to let go");
    ASSERT_EQ(report_->wrong, 0u) << "round " << round << " at " << report_->wrong_at << ": "
                                  << report_->wrong_value;
  }
  EXPECT_GT(report_->refused, 0u);
  wait_for_turns(200);
  expect_nothing_wrong();
}

// To be traced interrupts a sleep that the kernel does not resume, once; to be let go does not.
TEST_F(SyscallFaultTest, SleepersAreInterruptedAtMostOnce) {
  const auto caller = start_caller("sleeps");
  const auto lease = arm_effective(bind_or_die(
      "syscall.fault", call_parameters({{"calls", {"epoll_wait"}}, {"delay", 1'000'000}})));
  wait_for_turns(2);
  EXPECT_LE(report_->interrupted, 1u);
  wait_until([&] { return process_state(caller) == 'S'; }, "the caller to sleep");
  revert(lease);
  wait_for_turns(3);
  EXPECT_LE(report_->interrupted, 1u);
}

TEST_F(SyscallFaultTest, AStoppedTargetStaysStoppedAndRunsOnWhenContinued) {
  const auto caller = start_caller("checks");
  const auto lease = arm_effective(
      bind_or_die("syscall.fault",
                  call_parameters({{"calls", {"pwrite64"}}, {"error", "EIO"}, {"share", 0.1}})));
  ASSERT_EQ(::kill(caller.pid, SIGSTOP), 0);
  wait_until([&] { return process_state(caller).value_or('X') == 't'; }, "it to be stopped");
  const std::uint64_t turns = report_->turns;
  revert(lease);
  EXPECT_EQ(report_->turns, turns);
  wait_until([&] { return process_state(caller).value_or('X') == 'T'; }, "it to stay stopped");
  EXPECT_EQ(report_->turns, turns);
  ASSERT_EQ(::kill(caller.pid, SIGCONT), 0);
  wait_for_turns(50);
  expect_nothing_wrong();
}

TEST_F(SyscallFaultTest, AKilledHolderLetsTheTargetGo) {
  const auto caller = start_caller("checks");
  arm_effective(bind_or_die(
      "syscall.fault",
      call_parameters({{"calls", {"pwrite64"}}, {"delay", 5'000'000'000}, {"share", 0.05}})));
  kill_holder();
  wait_until([&] { return status_field(caller.pid, "TracerPid") == 0; }, "it to be let go");
  await_replay();
  wait_for_turns(50);
  expect_nothing_wrong();
}

TEST_F(SyscallFaultTest, AKilledTracerEndsTheFault) {
  start_caller("checks");
  arm_effective(
      bind_or_die("syscall.fault", call_parameters({{"calls", {"pwrite64"}}, {"error", "EIO"}})));
  const auto worker = base::PidFd::open(proof_of(armed_).value("tracer", 0));
  ASSERT_TRUE(worker.ok() && worker->signal(SIGKILL).ok());
  EXPECT_FALSE(wait_for_notice().text.empty());
  EXPECT_EQ(wait_for(LeaseState::kReverting).cause, "fault broke");
  wait_for(LeaseState::kVerified);
  expect_nothing_wrong();
}

TEST_F(SyscallFaultTest, TheTracerIsConfined) {
  start_caller("keeps");
  const auto lease = arm_effective(
      bind_or_die("syscall.fault", call_parameters({{"calls", {"fdatasync"}}, {"error", "EIO"}})));
  const auto worker = proof_of(armed_).value("tracer", 0);
  const auto text = base::read_pseudo_file("/proc/" + std::to_string(worker) + "/status");
  ASSERT_TRUE(text.ok());
  EXPECT_NE(text->find("CapEff:\t0000000000000000"), std::string::npos) << *text;
  EXPECT_EQ(status_field(worker, "Seccomp"), 2);
  std::error_code error;
  EXPECT_EQ(std::filesystem::read_symlink("/proc/" + std::to_string(worker) + "/root", error),
            "/proc");
  revert(lease);
}

// The deadline holds in the worker, too, for a holder that hangs.
TEST_F(SyscallFaultTest, ATracerEndsByItself) {
  const auto caller = start_caller("checks");
  auto programs = fork_starter();
  ASSERT_TRUE(programs.ok());
  TracerConfiguration configuration;
  configuration.interception.error = EIO;
  configuration.lifetime = 1ms;
  configuration.processes = {caller};
  configuration.calls = {SYS_pwrite64};
  WorkerWatch watch{**programs, "the tracer", 10s};
  watch.start("tracer", to_json(configuration));
  wait_until([&] { return watch.look().ended; }, "the tracer to end");
  EXPECT_EQ(status_field(caller.pid, "TracerPid"), 0);
  expect_nothing_wrong();
}

TEST_F(SyscallFaultTest, ChildrenAreHitIfTheyShallBe) {
  start_caller("forks");
  start_holder();
  const Json parameters = call_parameters({{"calls", {"pwrite64"}}, {"error", "EIO"}});
  Json alone = parameters;
  alone["children"] = false;
  const auto first = arm(bind_or_die("syscall.fault", alone));
  wait_for(LeaseState::kArmed);
  wait_for_turns(20);
  EXPECT_EQ(report_->calls[kWrite].failed, 0u);
  ASSERT_TRUE(client_->revert(first, "asked").ok());
  wait_for(LeaseState::kVerified);
  const auto second = arm_effective(bind_or_die("syscall.fault", parameters));
  wait_for_turns(3);
  EXPECT_EQ(report_->calls[kWrite].error, EIO);
  revert(second);
  wait_for_turns(2);
  EXPECT_EQ(report_->calls[kWrite].error, 0);
}

// Its filter would kill it for a call without number.
TEST_F(SyscallFaultTest, ATargetThatFiltersItsCallsIsSpared) {
  const auto caller = start_caller("checks");
  const Json parameters = call_parameters({{"calls", {"pwrite64"}}, {"error", "EIO"}});
  const auto lease = arm_effective(bind_or_die("syscall.fault", parameters));
  ASSERT_EQ(::kill(caller.pid, SIGUSR2), 0);
  wait_until([&] { return status_field(caller.pid, "Seccomp") == 2; }, "it to install a filter");
  wait_for_turns(100);
  const std::uint64_t refused = report_->refused;
  wait_for_turns(100);
  EXPECT_EQ(report_->refused, refused);
  revert(lease);
  EXPECT_NE(reverted_.text.find("spared"), std::string::npos) << reverted_.text;
  expect_nothing_wrong();
  const auto refusal = try_bind("syscall.fault", parameters);
  ASSERT_FALSE(refusal.ok());
  EXPECT_EQ(refusal.error().code, base::ErrorCode::kUnsupported);
  // What needs no such call works.
  Json done = parameters;
  done["done"] = true;
  const auto again = arm_effective(bind_or_die("syscall.fault", done));
  wait_until([&] { return report_->wrong > 0; },
             "a write that was made and is said to have failed");
  EXPECT_EQ(report_->wrong_at, 3);
  revert(again);
}

TEST_F(SyscallFaultTest, ATargetThatDiesIsTold) {
  const auto caller = start_caller("checks");
  const auto lease = arm_effective(
      bind_or_die("syscall.fault", call_parameters({{"calls", {"pwrite64"}}, {"error", "EIO"}})));
  ASSERT_EQ(::kill(caller.pid, SIGKILL), 0);
  const auto notice = wait_for_notice();
  EXPECT_NE(notice.text.find("ended while the fault was in force"), std::string::npos)
      << notice.text;
  revert(lease);
}

TEST_F(SyscallFaultTest, WhatCannotBeIsRefused) {
  const auto caller = start_caller("checks");
  const auto code = [&](const Json& more) {
    auto refused = try_bind("syscall.fault", call_parameters(more));
    EXPECT_FALSE(refused.ok()) << more.dump();
    if (refused.ok()) return base::ErrorCode::kInternal;
    EXPECT_FALSE(refused.error().hint.empty()) << refused.error().to_string();
    return refused.error().code;
  };
  using base::ErrorCode;
  EXPECT_EQ(code({{"calls", {"exit_group"}}, {"delay", 1'000'000}}), ErrorCode::kBadFile);
  EXPECT_EQ(code({{"calls", {"execve"}}, {"error", "EIO"}}), ErrorCode::kBadFile);
  EXPECT_EQ(code({{"calls", {"rt_sigreturn"}}, {"error", "EIO"}}), ErrorCode::kBadFile);
  EXPECT_EQ(code({{"calls", {"close"}}, {"error", "EIO"}}), ErrorCode::kBadFile);
  EXPECT_EQ(code({{"calls", {"brk"}}, {"error", "ENOMEM"}}), ErrorCode::kBadFile);
  EXPECT_EQ(code({{"calls", {"openat"}}, {"error", "EIO"}, {"done", true}}), ErrorCode::kBadFile);
  EXPECT_EQ(code({{"calls", {"no_such_call"}}, {"error", "EIO"}}), ErrorCode::kBadFile);
  EXPECT_EQ(code({{"calls", {"fsync"}}, {"error", "EVERYTHING"}}), ErrorCode::kBadFile);
  EXPECT_EQ(code({{"calls", {"fsync"}}}), ErrorCode::kBadFile);
  // Somebody else traces it.
  const pid_t other = ::fork();
  if (other == 0) {
    ::syscall(SYS_ptrace, 0x4206 /* PTRACE_SEIZE */, caller.pid, 0, 0);
    while (true) ::pause();
  }
  wait_until([&] { return status_field(caller.pid, "TracerPid") == other; }, "another tracer");
  EXPECT_EQ(code({{"calls", {"fsync"}}, {"error", "EIO"}}), ErrorCode::kConflict);
  ::kill(other, SIGKILL);
  ::waitpid(other, nullptr, 0);
}

}  // namespace
}  // namespace squall::inject
