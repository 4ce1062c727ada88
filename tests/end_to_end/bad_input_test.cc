// Bad input of every sort: a clear message, the right exit status, nothing touched.

#include <gtest/gtest.h>

#include <fstream>

#include "support/servers.h"
#include "support/small_system/small_system.h"

namespace squall::end_to_end {
namespace {

constexpr const char* kHypothesis = "  no-errors: reads.success >= 95% during fault";

class BadInput : public testing::Test {
 protected:
  void expect(std::vector<std::string> arguments, int status, std::string_view words) {
    const pid_t worker = system_.worker_pid();
    const Finished finished = system_.squall(std::move(arguments));
    EXPECT_EQ(finished.exit_status, status) << finished.output << finished.error;
    EXPECT_NE((finished.output + finished.error).find(words), std::string::npos)
        << "expected `" << words << "` in:\n"
        << finished.output << finished.error;
    EXPECT_EQ(system_.worker_pid(), worker);
    EXPECT_TRUE(system_.worker_is_running());
  }
  void expect_run(int status, std::string_view words) {
    expect({"run", "experiment.yaml", "--env", "dev", "--plain"}, status, words);
  }
  // A probe `rows` of the given kind, beside `reads`.
  void add_probe(std::string_view probe) {
    system_.change_map("steady_state:",
                       "  rows: { " + std::string(probe) + ", to: worker }\nsteady_state:");
    system_.write_kill_experiment("  answered: rows.success >= 95% during fault");
  }
  SmallSystem system_;
  const std::string map_ = system_.contents("squall.yaml");
};

TEST_F(BadInput, AMisspeltKeyIsNamedWithItsPlaceAndARemedy) {
  system_.write_kill_experiment(kHypothesis, "fautls: []\n");
  expect_run(2, "faults");
  expect_run(2, "experiment.yaml:");
}

TEST_F(BadInput, AWrongUnit) {
  system_.write_kill_experiment("  slow: p99(reads.latency) < 5% during fault");
  expect_run(2, "experiment.yaml:");
}

TEST_F(BadInput, NotUtf8) {
  system_.write("experiment.yaml", "experiment: \xff\xfe\n");
  expect_run(2, "UTF-8");
}

TEST_F(BadInput, AHugeFile) {
  std::ofstream file(system_.path("experiment.yaml"));
  const std::string line(1 << 20, '#');
  for (int i = 0; i < 100; ++i) file << line << '\n';
  file.close();
  expect_run(2, "larger than");
}

TEST_F(BadInput, AYamlBomb) {
  std::string bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n";
  for (char c = 'b'; c <= 'i'; ++c) {
    const char before = static_cast<char>(c - 1);
    bomb += std::string(1, c) + ": &" + c + " [";
    for (int i = 0; i < 9; ++i) bomb += std::string(i ? "," : "") + "*" + before;
    bomb += "]\n";
  }
  system_.write("experiment.yaml", bomb);
  expect_run(2, "experiment.yaml:");
}

TEST_F(BadInput, AServiceThatMatchesNoProcess) {
  system_.change_map("exe: target_worker", "exe: no_such_program");
  system_.write_kill_experiment(kHypothesis);
  expect_run(3, "worker");
}

TEST_F(BadInput, AnUnreachableProbe) {
  system_.change_map("http: { url: \"http://127.0.0.1:" + std::to_string(system_.port()),
                     "http: { url: \"http://127.0.0.1:1");
  system_.write_kill_experiment(kHypothesis);
  expect_run(3, "reads");
}

TEST_F(BadInput, ADatabaseThatIsNotReachable) {
  add_probe(
      "postgres: { dsn: \"host=127.0.0.1 port=1 dbname=app user=probe\", query: \"select 1\" }");
  expect_run(3, "rows: ");
  expect_run(3, "onnection refused");
}

TEST_F(BadInput, ACacheThatIsNotReachable) {
  add_probe("redis: { address: \"127.0.0.1:1\", command: [GET, x] }");
  expect_run(3, "rows: ");
  expect_run(3, "onnection refused");
}

TEST_F(BadInput, AServerThatAnswersGarbage) {
  test::ScriptedServer babbler([](test::ScriptedServer::Connection& connection) {
    connection.send("\x7f\x01 what you wanted is not here \xff\xfe\r\n\r\n");
  });
  const std::string port = std::to_string(babbler.port());
  for (const std::string& probe :
       {"redis: { address: \"127.0.0.1:" + port + "\", command: [GET, x], timeout: 1s }",
        "postgres: { dsn: \"host=127.0.0.1 port=" + port +
            " dbname=app user=probe\", query: \"select 1\", timeout: 1s }",
        "http: { url: \"http://127.0.0.1:" + port + "/\", rate: 10/s, timeout: 1s }",
        "prometheus: { url: \"http://127.0.0.1:" + port + "\", query: \"up\", timeout: 1s }"}) {
    system_.write("squall.yaml", map_);
    add_probe(probe);
    expect_run(3, "rows: ");
  }
}

TEST_F(BadInput, AProgramThatPrintsNoNumber) {
  system_.change_map(
      "steady_state:",
      "  rows: { command: { argv: [/bin/echo, garbage], every: 200ms }, to: worker }\n"
      "steady_state:");
  system_.write_kill_experiment("  few: rows.value < 5 during fault");
  expect_run(3, "rows");
}

TEST_F(BadInput, AnUnknownCommandOrOption) {
  expect({"rnu"}, 2, "Did you mean `run`");
  expect({"run", "--nonsense"}, 2, "--help");
  expect({"run"}, 2, "EXPERIMENT");
  expect({"show", "ffffffff"}, 2, "squall list");
}

TEST_F(BadInput, AFileThatIsNotThere) {
  expect({"run", "nowhere.yaml", "--env", "dev"}, 2, "nowhere.yaml");
}

TEST_F(BadInput, AnUnknownEnvironment) {
  system_.write_kill_experiment(kHypothesis);
  expect({"run", "experiment.yaml", "--env", "moon"}, 2, "dev");
}

TEST_F(BadInput, ACommandFaultThatFailsIsAnErrorNotAHeldHypothesis) {
  system_.write("experiment.yaml", R"(experiment: worker-gone
scenario: A command that does not work.
hypothesis:
  no-errors: reads.success >= 95% during fault
faults:
  - command: { argv: [/bin/false], revert_argv: [/bin/true] }
    name: outage
    for: 1s
blast_radius: { services: [worker], processes: 1, duration: 5s }
abort_when: [ reads.success < 20% over 1s ]
phases: { baseline: 1500ms, recovery: 2s }
)");
  expect_run(1, "outage");
}

TEST_F(BadInput, AnOrdinaryUserIsToldWhatIsMissing) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to become somebody else";
  system_.write_kill_experiment(kHypothesis);
  base::SpawnOptions options =
      system_.squall_options({"run", "experiment.yaml", "--env", "dev", "--plain"});
  options.user = 65534;
  options.group = 65534;
  ASSERT_EQ(chown(system_.folder().c_str(), 65534, 65534), 0);
  auto output = base::run_command(options, std::chrono::seconds(30));
  ASSERT_TRUE(output.ok());
  EXPECT_EQ(output->exit_status, 3) << output->error;
  EXPECT_NE(output->error.find("no warden runs on this host"), std::string::npos) << output->error;
  EXPECT_NE(output->error.find("sudo"), std::string::npos) << output->error;
}

}  // namespace
}  // namespace squall::end_to_end
