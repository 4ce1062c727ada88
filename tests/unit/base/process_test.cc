#include "base/process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "base/files.h"
#include "base/text.h"

namespace squall::base {
namespace {

using namespace std::chrono_literals;

CommandOutput run(std::vector<std::string> argv) {
  auto result = run_command({.argv = std::move(argv)}, 60s);
  EXPECT_TRUE(result.ok()) << result.error().to_string();
  return std::move(result).value_or({});
}

// True once the process is gone or only waits to be reaped by somebody else.
bool wait_until_dead(pid_t pid) {
  for (int i = 0; i < 3000; ++i) {
    const auto stat = read_pseudo_file("/proc/" + std::to_string(pid) + "/stat");
    if (!stat.ok() || stat->find(") Z ") != std::string::npos) return true;
    std::this_thread::sleep_for(10ms);
  }
  return false;
}

TEST(Process, ReportsOutputAndExitStatus) {
  const auto result = run({"/bin/sh", "-c", "echo out; echo err >&2; exit 3"});
  EXPECT_EQ(result.exit_status, 3);
  EXPECT_EQ(result.output, "out\n");
  EXPECT_EQ(result.error, "err\n");
  EXPECT_GT(result.took, 0ns);
  EXPECT_EQ(run({"/bin/sh", "-c", "kill -9 $$"}).exit_status, 128 + SIGKILL);
}

TEST(Process, LooksProgramsUpInPath) {
  EXPECT_EQ(run({"echo", "a b", "$HOME"}).output, "a b $HOME\n");  // nothing expands arguments
  const auto missing = run_command({.argv = {"squall-no-such-program"}}, 1s);
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_NE(missing.error().message.find("squall-no-such-program"), std::string::npos);
  EXPECT_EQ(spawn({.argv = {"/no/such/program"}}).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(spawn({.argv = {"/etc/passwd"}}).error().code, ErrorCode::kPermission);
  EXPECT_EQ(spawn({.argv = {}}).error().code, ErrorCode::kUsage);
  EXPECT_EQ(spawn({.argv = {"echo"}, .environment = {{{"PATH", "/nowhere"}}}}).error().code,
            ErrorCode::kNotFound);
}

TEST(Process, FailedStartsLeaveNoChildAndNoDescriptor) {
  const auto count = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {});
  };
  const auto before = count();
  for (int i = 0; i < 20; ++i) {
    EXPECT_FALSE(spawn({.argv = {"/no/such/program"}}).ok());
    EXPECT_FALSE(spawn({.argv = {"/bin/true"}, .working_directory = "/no/such/folder"}).ok());
  }
  EXPECT_EQ(count(), before);
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD);
}

TEST(Process, SaysWhyAScriptDoesNotStart) {
  const std::string folder = make_temporary_directory("squall-process-").value();
  const std::string script = join_path(folder, "script");
  ASSERT_TRUE(write_file_atomically(script, "#!/no/such/interpreter\n", 0755).ok());
  const auto started = spawn({.argv = {"./script"}, .working_directory = folder});
  ASSERT_FALSE(started.ok());
  EXPECT_NE(started.error().hint.find("interpreter"), std::string::npos);
  ASSERT_TRUE(write_file_atomically(script, "echo hello\n", 0755).ok());
  EXPECT_EQ(spawn({.argv = {script}}).error().code, ErrorCode::kUnsupported);
  ASSERT_TRUE(write_file_atomically(script, "#!/bin/sh\necho hello\n", 0755).ok());
  const auto result = run_command({.argv = {"./script"}, .working_directory = folder}, 60s);
  EXPECT_EQ(result.value().output, "hello\n");
  std::filesystem::remove_all(folder);
}

TEST(Process, PassesNoDescriptorButThoseNamed) {
  const UniqueFd leaky{::open("/dev/null", O_RDONLY)};  // without O_CLOEXEC
  ASSERT_TRUE(leaky.valid());
  EXPECT_EQ(run({"ls", "/proc/self/fd"}).output, "0\n1\n2\n3\n");  // 3 is the listing's own
  SpawnOptions options{.argv = {"ls", "/proc/self/fd"}};
  options.pass = {{leaky.get(), 9}};
  EXPECT_EQ(run_command(options, 60s).value().output, "0\n1\n2\n3\n9\n");
}

TEST(Process, PlacesDescriptorsThatCrossEachOther) {
  const std::string folder = make_temporary_directory("squall-process-").value();
  ASSERT_TRUE(write_file_atomically(join_path(folder, "a"), "A").ok());
  ASSERT_TRUE(write_file_atomically(join_path(folder, "b"), "B").ok());
  const UniqueFd a{::open(join_path(folder, "a").c_str(), O_RDONLY | O_CLOEXEC)};
  const UniqueFd b{::open(join_path(folder, "b").c_str(), O_RDONLY | O_CLOEXEC)};
  SpawnOptions options{.argv = {"/bin/sh", "-c", "cat /dev/fd/3 /dev/fd/4 /dev/fd/5"}};
  options.argv[2] =
      "cat /proc/self/fd/" + std::to_string(b.get()) + " /proc/self/fd/" + std::to_string(a.get());
  options.pass = {{a.get(), b.get()}, {b.get(), a.get()}};  // each at the number of the other
  EXPECT_EQ(run_command(options, 60s).value().output, "AB");
  options.pass = {{a.get(), 7}, {b.get(), 7}};
  EXPECT_FALSE(spawn(options).ok());
  std::filesystem::remove_all(folder);
}

TEST(Process, GivesTheEnvironmentAndFolderAskedFor) {
  SpawnOptions options{.argv = {"/usr/bin/env"}};
  options.environment = {{"A", "1"}, {"B", "x y"}};
  EXPECT_EQ(run_command(options, 60s).value().output, "A=1\nB=x y\n");
  EXPECT_EQ(run_command({.argv = {"/bin/pwd"}, .working_directory = "/usr"}, 60s).value().output,
            "/usr\n");
  EXPECT_EQ(spawn({.argv = {"/bin/pwd"}, .working_directory = "/none"}).error().code,
            ErrorCode::kNotFound);
}

TEST(Process, ChildHasOrdinarySignals) {
  sigset_t blocked;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGTERM);
  sigset_t before;
  pthread_sigmask(SIG_BLOCK, &blocked, &before);
  const auto old = std::signal(SIGPIPE, SIG_IGN);
  const std::string status = run({"grep", "-E", "SigBlk|SigIgn", "/proc/self/status"}).output;
  std::signal(SIGPIPE, old);
  sigset_t now;
  pthread_sigmask(SIG_SETMASK, &before, &now);
  EXPECT_TRUE(sigismember(&now, SIGTERM)) << "our own mask must be untouched";
  EXPECT_NE(status.find("SigBlk:\t0000000000000000"), std::string::npos) << status;
  const auto ignored = std::stoull(status.substr(status.find("SigIgn:") + 8), nullptr, 16);
  EXPECT_EQ(ignored >> (SIGPIPE - 1) & 1, 0u) << status;
}

TEST(Process, KillsTheWholeGroupAtTheLimit) {
  const std::string folder = make_temporary_directory("squall-process-").value();
  SpawnOptions options{.argv = {"/bin/sh", "-c", "sleep 600 & echo $! > pid; mv pid ready; wait"},
                       .working_directory = folder};
  const auto result = run_command(options, 2s);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, ErrorCode::kTimeout);
  const auto pid = read_file(join_path(folder, "ready"), 100);
  ASSERT_TRUE(pid.ok());
  EXPECT_TRUE(wait_until_dead(std::stoi(*pid)));
  std::filesystem::remove_all(folder);
}

TEST(Process, DoesNotWaitForWhatRunsInTheBackground) {
  const auto result = run({"/bin/sh", "-c", "sleep 600 & echo $!"});
  const auto background = PidFd::open(std::stoi(result.output));
  ASSERT_TRUE(background.ok()) << "it lives on";
  EXPECT_TRUE(background->signal(SIGKILL).ok());
}

TEST(Process, BoundsOutputAndNeverDeadlocks) {
  const auto result = run_command(
      {.argv = {"/bin/sh", "-c",
                "head -c 3000000 /dev/zero >&2; head -c 3000000 /dev/zero; echo end >&2"}},
      60s, 1000);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->exit_status, 0);
  EXPECT_EQ(result->output.size(), 1000u);
  EXPECT_EQ(result->error.size(), 1000u);
}

TEST(Process, WaitSaysWhenItStillRuns) {
  auto child = spawn({.argv = {"sleep", "600"}});
  ASSERT_TRUE(child.ok());
  EXPECT_EQ(child->wait(1ms).error().code, ErrorCode::kTimeout);
  EXPECT_FALSE(child->pidfd().ended());
  ASSERT_TRUE(child->pidfd().signal(SIGTERM).ok());
  const int status = child->wait(60s).value();
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGTERM);
  EXPECT_EQ(child->wait(0s).value(), status) << "asking again gives the same answer";
  EXPECT_EQ(child->pidfd().signal(SIGTERM).error().code, ErrorCode::kNotFound);
  auto quick = spawn({.argv = {"/bin/sh", "-c", "exit 7"}});
  const int exited = quick->wait(Duration::max()).value();
  EXPECT_TRUE(WIFEXITED(exited));
  EXPECT_EQ(WEXITSTATUS(exited), 7);
}

TEST(Process, DiesWithTheThreadThatStartedIt) {
  Result<ChildProcess> child = Error{};
  std::thread([&] {
    child = spawn({.argv = {"sleep", "600"}, .parent_death_signal = SIGKILL});
  }).join();
  ASSERT_TRUE(child.ok());
  EXPECT_EQ(child->wait(60s).value(), SIGKILL);
}

TEST(Process, StartsInParallelFromManyThreads) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([i] {
      for (int round = 0; round < 10; ++round)
        EXPECT_EQ(run({"/bin/echo", std::to_string(i)}).output, std::to_string(i) + "\n");
    });
  }
  for (auto& thread : threads) thread.join();
}

TEST(Process, DropsToAUser) {
  SpawnOptions options{
      .argv = {"/bin/sh", "-c", "id -u; id -g; id -G; grep ^CapEff /proc/self/status"}};
  options.user = 65534;
  options.parent_death_signal = SIGKILL;
  const auto result = run_command(options, 60s);
  if (::geteuid() != 0) {
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error().code, ErrorCode::kPermission);
    GTEST_SKIP() << "needs root";
  }
  EXPECT_EQ(result.value().output, "65534\n65534\n65534\nCapEff:\t0000000000000000\n");
  options.group = 1;
  EXPECT_EQ(split(run_command(options, 60s).value().output, '\n')[1], "1");
  options.argv = {"/bin/sh", "-c", "id -G; grep ^NoNewPrivs /proc/self/status"};
  options.supplementary_groups = {1, 61299};
  options.no_new_privileges = true;
  EXPECT_EQ(run_command(options, 60s).value().output, "1 61299\nNoNewPrivs:\t1\n");
}

TEST(Process, BecomingOurselvesNeedsNoPrivilege) {
  SpawnOptions options{.argv = {"/bin/true"}};
  options.user = ::getuid();
  EXPECT_EQ(run_command(options, 60s).value().exit_status, 0);
}

TEST(Process, KnowsItsOwnExecutable) {
  EXPECT_TRUE(own_executable().value().ends_with("base_unit_tests"));
}

TEST(PidFd, IsNeverAnotherProcessOfTheSameNumber) {
  auto identity = identify_process(::getpid()).value();
  EXPECT_GT(identity.start_time, 0u);
  EXPECT_TRUE(PidFd::open(identity).ok());
  ++identity.start_time;  // as if our number had belonged to an earlier process
  const auto reborn = PidFd::open(identity);
  ASSERT_FALSE(reborn.ok());
  EXPECT_EQ(reborn.error().code, ErrorCode::kNotFound);
  EXPECT_NE(reborn.error().message.find("another process"), std::string::npos);
}

TEST(PidFd, SaysWhenAProcessIsGone) {
  auto child = spawn({.argv = {"/bin/true"}}).value();
  const ProcessIdentity identity = child.pidfd().identity();
  ASSERT_TRUE(child.wait(60s).ok());
  EXPECT_TRUE(child.pidfd().ended());
  EXPECT_EQ(PidFd::open(identity).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(identify_process(identity.pid).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(PidFd::open(0).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(PidFd::open(-1).error().code, ErrorCode::kNotFound);
}

TEST(PidFd, IdentifiesOddNames) {
  const std::string folder = make_temporary_directory("squall-process-").value();
  const std::string odd = join_path(folder, "a) S 1 (b");
  std::filesystem::copy_file("/bin/sleep", odd);
  auto child = spawn({.argv = {odd, "600"}, .parent_death_signal = SIGKILL}).value();
  auto plain = spawn({.argv = {"sleep", "600"}, .parent_death_signal = SIGKILL}).value();
  const auto a = child.pidfd().identity().start_time;
  const auto b = plain.pidfd().identity().start_time;
  EXPECT_LE(a, b);
  EXPECT_LT(b - a, 6000u);
  for (ChildProcess* started : {&child, &plain}) {
    EXPECT_TRUE(started->pidfd().signal(SIGKILL).ok());
    EXPECT_TRUE(started->wait(60s).ok());
  }
  std::filesystem::remove_all(folder);
}

TEST(UniqueFd, ClosesOnce) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  UniqueFd first{ends[0]};
  UniqueFd second{ends[1]};
  UniqueFd moved{std::move(first)};
  moved = std::move(second);
  EXPECT_EQ(::fcntl(ends[0], F_GETFD), -1);
  EXPECT_EQ(moved.get(), ends[1]);
  EXPECT_EQ(moved.release(), ends[1]);
  EXPECT_FALSE(moved.valid());
  ::close(ends[1]);
}

TEST(WakeUp, WakesAPollLoop) {
  const WakeUp wake = WakeUp::create().value();
  pollfd request{.fd = wake.fd(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(::poll(&request, 1, 0), 0);
  std::thread([&] { wake.signal(); }).join();
  EXPECT_EQ(::poll(&request, 1, 60000), 1);
  wake.clear();
  EXPECT_EQ(::poll(&request, 1, 0), 0);
  wake.clear();  // clearing what is clear does not block
}

}  // namespace
}  // namespace squall::base
