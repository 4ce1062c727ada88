// host.reboot and host.power_off: by programs, by a monitor made of a few lines, and by QEMU itself
// where it is installed.

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <atomic>
#include <cstring>
#include <thread>

#include "base/text.h"
#include "integration/inject/fixture.h"

namespace squall::inject {
namespace {

// Speaks as much QMP as the kinds ask for: greeting, capabilities, status, stop, cont, reset, quit.
class FakeMonitor {
 public:
  explicit FakeMonitor(const std::string& path) : path_(path) {
    listener_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::listen(listener_.get(), 4), 0);
    thread_ = std::thread([this] { serve(); });
  }
  ~FakeMonitor() {
    ends_ = true;
    ::shutdown(listener_.get(), SHUT_RDWR);
    thread_.join();
    ::unlink(path_.c_str());
  }
  std::atomic<bool> running{true};
  std::atomic<int> resets{0};
  std::atomic<bool> garbage{false};

 private:
  void serve() {
    while (!ends_) {
      const base::UniqueFd client{::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)};
      if (client) talk(client.get());
    }
  }
  static void say(int fd, const Json& json) {
    static_cast<void>(base::write_all(fd, json.dump() + "\r\n"));
  }
  void talk(int fd) {
    if (garbage) return static_cast<void>(base::write_all(fd, "SSH-2.0-OpenSSH\r\n"));
    say(fd, {{"QMP", {{"version", Json::object()}, {"capabilities", Json::array()}}}});
    std::string buffer;
    char part[512];
    for (ssize_t got = 0; (got = ::read(fd, part, sizeof part)) > 0;) {
      buffer.append(part, static_cast<std::size_t>(got));
      for (auto end = buffer.find('\n'); end != std::string::npos; end = buffer.find('\n')) {
        const auto json = base::parse_json(buffer.substr(0, end));
        buffer.erase(0, end + 1);
        const std::string command = json.ok() ? (*json)["execute"].get<std::string>() : "";
        if (command == "stop") running = false;
        if (command == "cont") running = true;
        if (command == "stop" || command == "cont")
          say(fd, {{"event", command == "stop" ? "STOP" : "RESUME"}});
        say(fd,
            {{"return", command == "query-status" ? Json{{"status", running ? "running" : "paused"}}
                                                  : Json::object()}});
        if (command == "system_reset") {
          ++resets;
          say(fd, {{"event", "RESET"}});
        }
      }
    }
  }

  std::string path_;
  base::UniqueFd listener_;
  std::thread thread_;
  std::atomic<bool> ends_{false};
};

class HostFaults : public InjectTest {
 protected:
  void SetUp() override {
    InjectTest::SetUp();
    if (IsSkipped()) return;
    model::Service service;
    service.name = "web";
    service.external = true;
    map_.services.push_back(service);
    monitor_ = folder_ + "/qmp.sock";
  }
  Json with(Json more) const {
    Json parameters = {{"service", "web"}, {"timeout", 5'000'000'000}, {"limit", 20'000'000'000}};
    parameters.update(more);
    return parameters;
  }
  void write(const std::string& name, const std::string& text, mode_t mode = 0644) const {
    const std::string path = folder_ + "/" + name;
    ASSERT_TRUE(base::write_file_atomically(path, text, mode).ok());
  }
  std::string program_that(const std::string& name, const std::string& body) const {
    write(name, "#!/bin/sh\n" + body + "\n", 0755);
    return folder_ + "/" + name;
  }
  std::string monitor_;
};

TEST_F(HostFaults, AMonitorStopsAndResumesTheInstance) {
  FakeMonitor monitor{monitor_};
  const auto binding = bind_or_die("host.power_off", with({{"qmp", monitor_}}));
  EXPECT_EQ(binding.mechanism, "QEMU monitor");
  start_holder();
  ASSERT_TRUE(client_->rehearse(binding).ok());
  const auto lease = arm(binding);
  EXPECT_EQ(proof_of(wait_for(LeaseState::kEffective))["status"], "paused");
  EXPECT_FALSE(monitor.running);
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kVerified);
  EXPECT_TRUE(monitor.running);
}

TEST_F(HostFaults, AStoppedInstanceIsResumedWhenTheHolderDies) {
  FakeMonitor monitor{monitor_};
  const auto binding = bind_or_die("host.power_off", with({{"qmp", monitor_}}));
  start_holder();
  arm(binding);
  wait_for(LeaseState::kEffective);
  kill_holder();
  wait_for(LeaseState::kVerified);
  EXPECT_TRUE(monitor.running);
}

TEST_F(HostFaults, AnInstanceThatOthersResumedOrStoppedIsLeftAlone) {
  FakeMonitor monitor{monitor_};
  const auto binding = bind_or_die("host.power_off", with({{"qmp", monitor_}}));
  start_holder();
  const auto lease = arm(binding);
  wait_for(LeaseState::kEffective);
  monitor.running = true;
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  EXPECT_NE(wait_for(LeaseState::kReverted).text.find("somebody else"), std::string::npos);
  wait_for(LeaseState::kVerified);
  monitor.running = false;
  arm(binding);
  EXPECT_NE(wait_for(LeaseState::kFailed).text.find("paused already"), std::string::npos);
  EXPECT_FALSE(monitor.running);
}

TEST_F(HostFaults, AMonitorResetsTheInstanceAndReportsIt) {
  FakeMonitor monitor{monitor_};
  const auto binding = bind_or_die("host.reboot", with({{"qmp", monitor_}}));
  start_holder();
  const auto lease = arm(binding);
  EXPECT_EQ(proof_of(wait_for(LeaseState::kEffective))["event"], "RESET");
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kVerified);
  EXPECT_EQ(monitor.resets, 1);
}

TEST_F(HostFaults, WhatIsNoMonitorIsRefused) {
  const auto binding = bind_or_die("host.reboot", with({{"qmp", monitor_}}));
  start_holder();
  EXPECT_FALSE(client_->rehearse(binding).ok());
  FakeMonitor monitor{monitor_};
  monitor.garbage = true;
  EXPECT_FALSE(client_->rehearse(binding).ok());
}

TEST_F(HostFaults, ProgramsTakeItAwayAndBringItBack) {
  write("lives", "");
  const Json parameters = with({{"off_argv", {program_that("off", "rm -f lives")}},
                                {"on_argv", {program_that("on", ": > lives")}},
                                {"alive_argv", {program_that("alive", "test -e lives")}}});
  const auto binding = bind_or_die("host.power_off", parameters);
  start_holder();
  const auto lease = arm(binding);
  wait_for(LeaseState::kEffective);
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/lives"));
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  wait_for(LeaseState::kVerified);
  EXPECT_TRUE(std::filesystem::exists(folder_ + "/lives"));
  arm(binding);
  wait_for(LeaseState::kEffective);
  kill_holder();
  wait_for(LeaseState::kVerified);
  EXPECT_TRUE(std::filesystem::exists(folder_ + "/lives"));
}

TEST_F(HostFaults, AChangedBootIdProvesTheReboot) {
  write("boot_id", "11111111-aaaa\n");
  const Json parameters = with({{"argv", {program_that("reset", "echo 22222222-bbbb > boot_id")}},
                                {"boot_id_argv", {"/bin/cat", "boot_id"}}});
  const auto binding = bind_or_die("host.reboot", parameters);
  start_holder();
  const auto lease = arm(binding);
  EXPECT_EQ(proof_of(wait_for(LeaseState::kEffective))["boot_id"], "22222222-bbbb");
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  const auto verified = wait_for(LeaseState::kVerified);
  EXPECT_NE(verified.text.find("booted anew"), std::string::npos) << verified.text;
  EXPECT_EQ(proof_of(verified)["boot_id_before"], "11111111-aaaa");
}

TEST_F(HostFaults, OneThatDoesNotComeBackIsToldLoudly) {
  write("lives", "");
  auto parameters = with({{"argv", {program_that("off", "rm -f lives")}},
                          {"alive_argv", {program_that("alive", "test -e lives")}}});
  parameters["limit"] = 300'000'000;
  start_holder();
  const auto lease = arm(bind_or_die("host.reboot", parameters));
  wait_for(LeaseState::kEffective);
  ASSERT_TRUE(client_->revert(lease, "asked").ok());
  const auto failed = wait_for(LeaseState::kFailed);
  EXPECT_TRUE(failed.still_active);
  EXPECT_NE(failed.text.find("is not back"), std::string::npos) << failed.text;
  write("lives", "");
  wait_for_event([](const auto& e) { return e.state == LeaseState::kVerified; }, false, true);
}

TEST_F(HostFaults, TheMachineThatSquallRunsOnIsNeverTheTarget) {
  for (const Json& argv : {Json::array({"reboot"}), Json::array({"/sbin/shutdown", "-r", "now"}),
                           Json::array({"systemctl", "--force", "reboot"})}) {
    const auto own = try_bind("host.reboot", with({{"argv", argv}, {"alive", "127.0.0.1:22"}}));
    ASSERT_FALSE(own.ok()) << argv;
    EXPECT_EQ(own.error().code, base::ErrorCode::kBlocked) << argv;
  }
  const auto same = try_bind(
      "host.reboot", with({{"argv", {"/bin/true"}},
                           {"boot_id_argv", {"/bin/cat", "/proc/sys/kernel/random/boot_id"}}}));
  ASSERT_FALSE(same.ok());
  EXPECT_NE(same.error().to_string().find("its boot id is ours"), std::string::npos);
  EXPECT_FALSE(try_bind("host.reboot", with({{"argv", {"/bin/true"}}})).ok());
  EXPECT_FALSE(try_bind("host.power_off", with({{"off_argv", {"/bin/true"}}})).ok());
}

TEST_F(HostFaults, QemuItselfIsStoppedResetAndStarted) {
  const char* qemu = "/usr/bin/qemu-system-x86_64";
  if (::access(qemu, X_OK) != 0) GTEST_SKIP() << "qemu-system-x86 is not installed";
  // No disk, no kernel: its firmware is all that runs.
  const std::vector<std::string> argv{qemu,
                                      "-accel",
                                      "tcg",
                                      "-m",
                                      "16",
                                      "-nodefaults",
                                      "-no-user-config",
                                      "-display",
                                      "none",
                                      "-qmp",
                                      "unix:" + monitor_ + ",server=on,wait=off"};
  auto machine = base::spawn({.argv = argv, .parent_death_signal = SIGKILL});
  ASSERT_TRUE(machine.ok());
  wait_until([&] { return ::access(monitor_.c_str(), F_OK) == 0; }, "qemu's monitor");
  start_holder();
  const auto stop = arm(bind_or_die("host.power_off", with({{"qmp", monitor_}})));
  wait_for(LeaseState::kEffective);
  ASSERT_TRUE(client_->revert(stop, "asked").ok());
  EXPECT_NE(wait_for(LeaseState::kVerified).text.find("runs"), std::string::npos);
  const auto reset = arm(bind_or_die("host.reboot", with({{"qmp", monitor_}})));
  EXPECT_EQ(proof_of(wait_for(LeaseState::kEffective))["event"], "RESET");
  ASSERT_TRUE(client_->revert(reset, "asked").ok());
  wait_for(LeaseState::kVerified);
  const std::string start = program_that(
      "start", "exec " + base::join(argv, " ") + " -daemonize -pidfile " + folder_ + "/qemu.pid");
  const auto quit =
      arm(bind_or_die("host.power_off", with({{"qmp", monitor_}, {"on_argv", {start}}})));
  wait_for(LeaseState::kEffective);
  ASSERT_TRUE(machine->wait(10s).ok());
  ASSERT_TRUE(client_->revert(quit, "asked").ok());
  wait_for(LeaseState::kVerified);
  const auto pid = base::read_file(folder_ + "/qemu.pid", 100);
  ASSERT_TRUE(pid.ok());
  const pid_t second = std::atoi(pid->c_str());
  ASSERT_GT(second, 1);
  ::kill(second, SIGKILL);
}

}  // namespace
}  // namespace squall::inject
