// The container kinds by dockerd, where it is installed: what it does otherwise than Podman.

#include <cstdlib>

#include "base/text.h"
#include "host/containers.h"
#include "inject/freezer.h"
#include "integration/inject/fixture.h"

namespace squall::inject {
namespace {

class Docker : public InjectTest {
 protected:
  void SetUp() override {
    InjectTest::SetUp();
    if (IsSkipped()) return;
    for (const char* needed : {"/usr/sbin/dockerd", "/usr/bin/docker", "/bin/busybox"}) {
      if (::access(needed, X_OK) != 0)
        GTEST_SKIP() << needed << " is missing (docker.io is 147 MB, so it is not asked for)";
    }
    socket_ = "unix://" + folder_ + "/docker.sock";
    // A network namespace would keep its proxy away; these options need neither tables nor bridge.
    auto daemon = base::spawn({.argv = {"/usr/sbin/dockerd",
                                        "--data-root",
                                        folder_ + "/data",
                                        "--exec-root",
                                        folder_ + "/exec",
                                        "--pidfile",
                                        folder_ + "/docker.pid",
                                        "-H",
                                        socket_,
                                        "--storage-driver",
                                        "vfs",
                                        "--exec-opt",
                                        "native.cgroupdriver=cgroupfs",
                                        "--default-ulimit",
                                        "nofile=1024:1024",
                                        "--default-ulimit",
                                        "nproc=1000:1000",
                                        "--iptables=false",
                                        "--ip6tables=false",
                                        "--bridge=none",
                                        "--userland-proxy=false"},
                               .parent_death_signal = SIGTERM});
    ASSERT_TRUE(daemon.ok());
    daemon_ = std::move(*daemon);
    ::setenv("DOCKER_HOST", socket_.c_str(), 1);
    wait_until([&] { return docker({"version"}) == 0; }, "dockerd");
    std::filesystem::create_directories(folder_ + "/image/bin");
    std::filesystem::copy_file("/bin/busybox", folder_ + "/image/bin/busybox");
    std::filesystem::create_symlink("busybox", folder_ + "/image/bin/sleep");
    const std::string image = folder_ + "/image.tar";
    ASSERT_TRUE(
        base::run_command({.argv = {"tar", "-C", folder_ + "/image", "-cf", image, "."}}, 20s)
            .ok());
    ASSERT_EQ(docker({"import", image, "squall-test:1"}), 0);
    ASSERT_EQ(docker({"run", "-d", "--name", "box-1", "--network=none", "--restart=always",
                      "squall-test:1", "/bin/sleep", "1000"}),
              0);
    model::Service service;
    service.name = "boxes";
    service.container.name = "box-1";
    map_.services.push_back(service);
  }
  void TearDown() override {
    client_.reset();
    if (daemon_.pidfd().valid()) {
      docker({"rm", "-f", "box-1"});
      static_cast<void>(daemon_.pidfd().signal(SIGTERM));
      static_cast<void>(daemon_.wait(20s));
      ::unsetenv("DOCKER_HOST");
    }
    InjectTest::TearDown();
  }
  int docker(const std::vector<std::string>& words) {
    std::vector<std::string> argv{"/usr/bin/docker", "-H", socket_};
    argv.insert(argv.end(), words.begin(), words.end());
    const auto output = base::run_command({.argv = argv}, 30s);
    said_ = output.ok() ? std::string(base::trim(output->output)) : std::string{};
    return output.ok() ? output->exit_status : -1;
  }
  pid_t pid() {
    docker({"inspect", "-f", "{{.State.Pid}}", "box-1"});
    return std::atoi(said_.c_str());
  }
  static Json chosen(Json more = Json::object()) {
    Json parameters = {{"service", "boxes"}, {"count", 1}, {"random", true}};
    parameters.update(more);
    return parameters;
  }
  void live(const model::FaultBinding& binding) {
    const auto lease = arm(binding);
    wait_for(LeaseState::kEffective);
    ASSERT_TRUE(client_->revert(lease, "asked").ok());
    wait_for(LeaseState::kVerified);
  }

  std::string socket_;
  std::string said_;
  base::ChildProcess daemon_;
};

TEST_F(Docker, PausesStopsKillsAndRestarts) {
  start_holder();
  const pid_t first = pid();
  const auto lease = arm(bind_or_die("container.pause", chosen()));
  EXPECT_EQ(proof_of(wait_for(LeaseState::kEffective))["containers"][0]["paused"], true);
  const auto freezer = freezer_of(first);
  ASSERT_TRUE(freezer.ok());
  EXPECT_TRUE(read_freezer(*freezer)->frozen);
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kVerified);
  EXPECT_FALSE(read_freezer(*freezer)->frozen);
  EXPECT_EQ(pid(), first);
  const Json times = {{"grace", 0}, {"limit", 20'000'000'000}};
  live(bind_or_die("container.stop", chosen(times)));
  const pid_t second = pid();
  EXPECT_NE(second, first);
  // --restart=always does not bring back what was killed by the engine's own command: we do.
  live(bind_or_die(
      "container.kill",
      chosen({{"signal", "SIGKILL"}, {"restore", "start"}, {"limit", 20'000'000'000}})));
  const pid_t third = pid();
  EXPECT_NE(third, second);
  live(bind_or_die("container.restart", chosen(times)));
  EXPECT_NE(pid(), third);
}

}  // namespace
}  // namespace squall::inject
