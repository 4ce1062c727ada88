// What only a machine of our own can show: the warden as a service of systemd, a power cut, a
// reboot, Debian's kernel with netem, and the controllers of cgroup v2.

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/text.h"
#include "base/units.h"
#include "virtual_machine/machine.h"

namespace squall::virtual_machine {
namespace {

using base::Json;
using namespace std::chrono_literals;

std::unique_ptr<Machine> machine;  // one for all tests: booting takes the longest

std::string trimmed(const std::string& text) {
  return std::string(base::trim(text));
}

// A figure that the test shows, in the log and in the XML output.
void show(const std::string& name, const std::string& value) {
  std::printf("figure: %s %s\n", name.c_str(), value.c_str());
  std::fflush(stdout);
  ::testing::Test::RecordProperty(name, value);
}

class VirtualMachine : public ::testing::Test {
 protected:
  void TearDown() override {
    if (!HasFailure()) return;
    const auto journal = machine->run({"journalctl", "-b", "-u", "squall-warden", "--no-pager"});
    std::printf("journal: %s\nconsole: %s\n", journal.output.c_str(), machine->console().c_str());
  }

  static std::string output_of(const std::vector<std::string>& argv, base::Duration limit = 60s) {
    const auto outcome = machine->run(argv, limit);
    EXPECT_EQ(outcome.status, 0) << base::join(argv, " ") << ": " << outcome.output
                                 << outcome.error;
    return trimmed(outcome.output);
  }
  static bool succeeds(const std::vector<std::string>& argv) {
    return machine->run(argv).status == 0;
  }
  static std::string property(const std::string& name) {
    return output_of({"systemctl", "show", "-P", name, "squall-warden"});
  }
  static base::Instant guest_now() { return machine->run({"true"}).at; }
  // `limit` in the guest's time.
  template <typename Condition>
  static bool eventually(const Condition& condition, base::Duration limit = 60s) {
    const base::Instant deadline = guest_now() + limit;
    while (!condition()) {
      if (guest_now() > deadline) return false;
      ::usleep(50'000);
    }
    return true;
  }
  // Until its engine is killed or the machine stops.
  static void hold(const std::string& kind, const Json& parameters) {
    machine->start_in_background(
        {"/usr/local/bin/virtual_machine_trials", "hold", kind, parameters.dump()}, "/run/held");
    ASSERT_TRUE(eventually([] {
      return machine->run({"cat", "/run/held"}).output == "effective\n";
    })) << machine->run({"cat", "/run/held"}).output;
  }
  // Some of the integration tests, inside. Their output is shown when one fails; none may skip.
  static void run_inside(const std::string& filter, base::Duration limit) {
    const auto outcome =
        machine->run({std::string(SQUALL_BINARY_DIR) + "/tests/inject_integration_tests",
                      "--gtest_filter=" + filter},
                     limit);
    EXPECT_EQ(outcome.status, 0) << outcome.output << outcome.error;
    EXPECT_EQ(outcome.output.find("[  SKIPPED ]"), std::string::npos) << outcome.output;
    EXPECT_EQ(outcome.output.find("Running 0 tests"), std::string::npos) << outcome.output;
    for (const std::string& line : base::split(outcome.output, '\n')) {
      if (line.starts_with("figure: ") || line.starts_with("[       OK ]"))
        std::printf("  inside: %s\n", line.c_str());
    }
  }
};

TEST_F(VirtualMachine, SystemdStartsTheWardenAndKnowsThatItIsReady) {
  show("boot, by our clock", base::humanize(machine->boot_took()));
  show("boot, by its clock", base::humanize(guest_now().time_since_epoch()));
  EXPECT_TRUE(eventually([] { return property("ActiveState") == "active"; }));
  EXPECT_EQ(property("Type"), "notify");
  EXPECT_EQ(property("SubState"), "running");
  EXPECT_NE(property("StatusText"), "");
  show("kernel", output_of({"uname", "-r"}));
}

TEST_F(VirtualMachine, AHungWardenIsKilledAndStartedAgain) {
  const std::string before = property("MainPID");
  ASSERT_TRUE(succeeds({"kill", "-STOP", before}));
  const base::Instant stopped = guest_now();
  EXPECT_TRUE(eventually(
      [&] {
        const std::string now = property("MainPID");
        return now != "0" && now != before && property("ActiveState") == "active";
      },
      40s));
  const base::Duration took = guest_now() - stopped;
  show("hung warden back after", base::humanize(took));
  EXPECT_LT(took, 15s);
}

TEST_F(VirtualMachine, AFaultThatSurvivesAPowerCutIsUndoneAtBoot) {
  const std::string file = "/var/tmp/broken";
  hold("command", {{"argv", {"touch", file}},
                   {"revert_argv", {"rm", "-f", file}},
                   {"proof_argv", {"test", "-e", file}},
                   {"timeout", 30'000'000'000}});
  // What the fault made is on the disk before the light goes out; what undoes it is there by
  // itself.
  ASSERT_TRUE(succeeds({"sync", "-f", file}));
  const std::string before = machine->boot_id();
  ASSERT_TRUE(machine->cut_power().ok());
  const auto started = machine->start();
  ASSERT_TRUE(started.ok()) << started.error().to_string() << started.error().hint;
  EXPECT_NE(machine->boot_id(), before);
  EXPECT_TRUE(eventually([&] { return !succeeds({"test", "-e", file}); }));
  EXPECT_TRUE(eventually([] { return property("ActiveState") == "active"; }));
  EXPECT_EQ(output_of({"ls", "/var/lib/squall/leases"}), "");
  EXPECT_NE(output_of({"journalctl", "-u", "squall-warden", "-b", "-o", "cat"}).find("outage"),
            std::string::npos);
}

TEST_F(VirtualMachine, AUnitIsStoppedAndStartedAgainWhenItsEngineDies) {
  // A test's shell, inside the machine.
  ASSERT_TRUE(succeeds({"sh", "-c",
                        "printf '[Service]\\nExecStart=/bin/sleep 1000\\nRestart=always\\n' "
                        ">/run/systemd/system/trial.service"}));
  ASSERT_TRUE(succeeds({"systemctl", "daemon-reload"}));
  ASSERT_TRUE(succeeds({"systemctl", "start", "trial"}));
  const std::string before = output_of({"systemctl", "show", "-P", "MainPID", "trial"});
  hold("process.unit_stop", {{"unit", "trial"}, {"timeout", 60'000'000'000}});
  EXPECT_EQ(output_of({"systemctl", "show", "-P", "ActiveState", "trial"}), "inactive");
  ASSERT_TRUE(succeeds({"pkill", "-KILL", "-f", "virtual_machine_trials hold"}));
  EXPECT_TRUE(eventually([] {
    return machine->run({"systemctl", "show", "-P", "ActiveState", "trial"}).output == "active\n";
  }));
  EXPECT_NE(output_of({"systemctl", "show", "-P", "MainPID", "trial"}), before);
  EXPECT_TRUE(eventually([] { return output_of({"ls", "/var/lib/squall/leases"}).empty(); }));
  EXPECT_TRUE(succeeds({"systemctl", "stop", "trial"}));
}

TEST_F(VirtualMachine, AResetMachineComesBackAsAnotherBoot) {
  const std::string before = machine->boot_id();
  ASSERT_EQ(output_of({"cat", "/proc/sys/kernel/random/boot_id"}), before);
  const auto reset = machine->reset();
  ASSERT_TRUE(reset.ok()) << reset.error().to_string() << reset.error().hint;
  show("reset to agent", base::humanize(guest_now().time_since_epoch()));
  EXPECT_NE(machine->boot_id(), before);
  EXPECT_TRUE(eventually([] { return property("ActiveState") == "active"; }));
}

TEST_F(VirtualMachine, NetemDelaysAndIsTakenAway) {
  run_inside("Netem.*:LatencyMechanism.AutoTakes*", 180s);
}

TEST_F(VirtualMachine, ThePacketSchedulerFindsItsQueueOnThisKernelToo) {
  run_inside("PacketSchedulerTest.ByGroupOnlyThatGroupIsDelayed", 120s);
}

TEST_F(VirtualMachine, AFrozenGroupPausesAndThaws) {
  run_inside("ProcessFaults.PauseFreezes*", 120s);
}

TEST_F(VirtualMachine, LimitsOfCgroupsHaveTheirEffectWithVersionTwo) {
  run_inside("ResourceGroups.*", 180s);
}

TEST_F(VirtualMachine, DoctorTellsWhatThisKernelCanDo) {
  const auto report = base::parse_json(output_of({"squall", "doctor", "--json"}, 120s));
  ASSERT_TRUE(report.ok());
  EXPECT_TRUE(report->value("warden", false));
  for (const Json& mechanism : (*report)["mechanisms"]) {
    std::printf("  inside: %s\n", mechanism.dump().c_str());
    // Not installed there.
    const std::string name = mechanism.value("mechanism", "");
    if (name == "libfaketime" || name == "container engine") continue;
    EXPECT_TRUE(mechanism.value("works", false)) << mechanism.dump();
  }
}

TEST_F(VirtualMachine, EverythingOfOursKilledAtOnceIsUndoneBySystemdsRestart) {
  const std::string victim =
      std::string(SQUALL_BINARY_DIR) + "/tests/inject_programs/victim_for_tests";
  const auto outcome =
      machine->run({"/usr/local/bin/virtual_machine_trials", "kill_all", "50", victim}, 300s);
  ASSERT_EQ(outcome.status, 0) << outcome.output << outcome.error;
  const auto figures = base::parse_json(outcome.output);
  ASSERT_TRUE(figures.ok()) << outcome.output;
  show("killed with its warden to reverted", figures->dump());
  EXPECT_EQ(figures->value("trials", 0), 50);
  EXPECT_LT(figures->value("max_ms", 1e9), 2000);
}

}  // namespace
}  // namespace squall::virtual_machine

int main(int argc, char** argv) {
  using namespace squall;  // NOLINT: a test program
  ::testing::InitGoogleTest(&argc, argv);
  if (GTEST_FLAG_GET(list_tests)) return RUN_ALL_TESTS();
  auto made = virtual_machine::Machine::create();
  if (!made.ok() && made.error().code == base::ErrorCode::kUnsupported) {
    std::printf("%s\n", made.error().message.c_str());
    return 77;
  }
  if (!made.ok()) {
    std::printf("%s\n", made.error().to_string().c_str());
    return 1;
  }
  virtual_machine::machine = std::move(*made);
  if (auto started = virtual_machine::machine->start(); !started.ok()) {
    std::printf("%s\n%s\n", started.error().to_string().c_str(), started.error().hint.c_str());
    return 1;
  }
  const int status = RUN_ALL_TESTS();
  virtual_machine::machine.reset();
  return status;
}
