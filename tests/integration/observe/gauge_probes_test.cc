// The probes that ask one question at a time, against the real servers.

#include <signal.h>
#include <sys/stat.h>

#include <sstream>

#include "base/process.h"
#include "probe_run.h"

namespace squall::observe {
namespace {

using evidence::Outcome;

// Gauge values of one series of the record.
std::vector<double> values(const evidence::Record& record, const std::string& name) {
  std::vector<double> all;
  const evidence::Series* series = record.find(name);
  EXPECT_NE(series, nullptr) << name;
  if (series == nullptr) return all;
  for (const auto& sample : series->samples) all.push_back(sample.value);
  return all;
}

TEST(PostgresProbe, KeepsTheAnswerOfAQuery) {
  test::PostgresServer server;
  test::TemporaryDirectory directory;
  const std::string file = directory.file("db.dsn", server.dsn() + "\n");
  ProbeRun run("postgres: { dsn_file: " + file + ", query: \"select 42 -- note\", every: 50ms }");
  ASSERT_TRUE(run.check().ok()) << run.check().error().to_string();
  run.start();
  ASSERT_TRUE(run.wait_for(5, 5));
  const auto record = run.finish();
  for (const double value : values(record, "probe.value")) EXPECT_EQ(value, 42);
  EXPECT_EQ(total(*record.find("probe")).ok(), run.requests().size());
}

TEST(PostgresProbe, AStoppedServerGivesNoValueAndAFailureThatSaysWhy) {
  test::PostgresServer server;
  ProbeRun run("postgres: { dsn: \"" + server.dsn() +
               "\", query: \"select 1\", every: 50ms, timeout: 200ms }");
  run.start();
  ASSERT_TRUE(run.wait_for(2, 2));
  // Stopped, not dead: the connection stands but nobody answers.
  const std::string path = "/proc/" + std::to_string(server.process().pid()) + "/task/" +
                           std::to_string(server.process().pid()) + "/children";
  std::vector<pid_t> children;
  std::istringstream list(test::read_text(path));
  for (pid_t child = 0; list >> child;) children.push_back(child);
  for (const pid_t child : children) kill(child, SIGSTOP);
  EXPECT_TRUE(test::eventually([&] {
    run.wait_for(0);
    return run.requests().back().outcome == Outcome::kTimeout;
  }));
  const std::size_t before = run.gauges().size();
  for (const pid_t child : children) kill(child, SIGCONT);
  EXPECT_TRUE(run.wait_for(0, before + 3));  // and it comes back
  server.stop();
  EXPECT_TRUE(test::eventually([&] {
    run.wait_for(0);
    return run.requests().back().outcome == Outcome::kConnect;
  }));
  server.start();
  EXPECT_TRUE(test::eventually([&] {
    run.wait_for(0);
    return run.requests().back().outcome == Outcome::kOk;
  }));
}

TEST(PostgresProbe, TheCheckExplainsWhatIsWrong) {
  test::PostgresServer server;
  const auto message = [](const std::string& dsn, const std::string& query) {
    ProbeRun run("postgres: { dsn: \"" + dsn + "\", query: \"" + query + "\" }");
    const base::Status checked = run.check();
    EXPECT_FALSE(checked.ok());
    return checked.ok() ? "" : checked.error().to_string();
  };
  EXPECT_NE(message(server.dsn(), "select no_such_column").find("no_such_column"),
            std::string::npos);
  EXPECT_NE(message(server.dsn(), "create table t()").find("read-only"), std::string::npos);
  EXPECT_NE(message(server.dsn(), "select 'abc'").find("not a number"), std::string::npos);
  const std::string unreachable =
      "host=127.0.0.1 password=hunter2 port=" + std::to_string(test::free_port());
  const std::string refused = message(unreachable, "select 1");
  EXPECT_NE(refused.find("refused"), std::string::npos) << refused;
  EXPECT_EQ(refused.find("hunter2"), std::string::npos);
  ProbeRun nonsense("postgres: { dsn: \"password=hunter2 nonsense\", query: \"select 1\" }");
  ASSERT_TRUE(nonsense.failure().has_value());
  EXPECT_EQ(nonsense.failure()->to_string().find("hunter2"), std::string::npos);
}

TEST(PostgresProbe, NothingStaysBehindInTheSession) {
  test::PostgresServer server;
  ProbeRun run("postgres: { dsn: \"" + server.dsn() +
               "\", query: \"select count(*) from pg_stat_activity where application_name = "
               "'squall' and state like 'idle in transaction%'\", every: 50ms }");
  run.start();
  ASSERT_TRUE(run.wait_for(4, 4));
  const auto record = run.finish();
  for (const double value : values(record, "probe.value")) EXPECT_EQ(value, 0);
}

TEST(RedisProbe, ReadsIntegersListsAndTexts) {
  test::RedisServer server;
  const auto tell = [&](const std::vector<std::string>& command) {
    base::SpawnOptions options;
    options.argv = {"redis-cli", "-p", std::to_string(server.port())};
    options.argv.insert(options.argv.end(), command.begin(), command.end());
    EXPECT_TRUE(base::run_command(options, std::chrono::seconds(10)).ok());
  };
  tell({"RPUSH", "jobs", "a", "b", "c"});
  tell({"SET", "level", "2.5"});
  const auto ask = [&](const std::string& command) {
    ProbeRun run("redis: { address: \"" + server.address() + "\", command: " + command +
                 ", every: 50ms }");
    EXPECT_TRUE(run.check().ok());
    run.start();
    EXPECT_TRUE(run.wait_for(2));
    const auto record = run.finish();
    EXPECT_EQ(total(*record.find("probe")).ok(), run.requests().size()) << command;
    const auto all = values(record, "probe.value");
    return all.empty() ? -1 : all.front();
  };
  EXPECT_EQ(ask("[LLEN, jobs]"), 3);
  EXPECT_EQ(ask("[LRANGE, jobs, \"0\", \"-1\"]"), 3);
  EXPECT_EQ(ask("[GET, level]"), 2.5);
  EXPECT_EQ(ask("[GET, missing]"), -1);  // no value, and no failure
  EXPECT_EQ(ask("[PING]"), -1);
}

TEST(RedisProbe, SurvivesTheServer) {
  test::RedisServer server;
  ProbeRun run("redis: { address: \"" + server.address() + "\", every: 50ms, timeout: 200ms }");
  run.start();
  ASSERT_TRUE(run.wait_for(3));
  const auto last_becomes = [&](Outcome outcome) {
    return test::eventually([&] {
      run.wait_for(0);
      return run.requests().back().outcome == outcome;
    });
  };
  server.process().signal(SIGSTOP);
  EXPECT_TRUE(last_becomes(Outcome::kTimeout));
  server.process().signal(SIGCONT);
  EXPECT_TRUE(last_becomes(Outcome::kOk));
  server.stop();
  EXPECT_TRUE(last_becomes(Outcome::kConnect));
  server.start();
  EXPECT_TRUE(last_becomes(Outcome::kOk));
}

TEST(RedisProbe, PasswordsComeFromAFile) {
  test::RedisServer server("s3cret");
  ProbeRun without("redis: { address: \"" + server.address() + "\" }");
  const base::Status refused = without.check();
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().hint.find("password_file"), std::string::npos);
  test::TemporaryDirectory directory;
  ProbeRun with("redis: { address: \"" + server.address() + "\", password_file: " +
                directory.file("password", "s3cret\n") + ", command: [DBSIZE], every: 50ms }");
  EXPECT_TRUE(with.check().ok());
  with.start();
  EXPECT_TRUE(with.wait_for(2, 2));
  ProbeRun wrong("redis: { address: \"" + server.address() +
                 "\", password_file: " + directory.file("wrong", "guess-1234\n") + " }");
  const base::Status denied = wrong.check();
  ASSERT_FALSE(denied.ok());
  EXPECT_EQ(denied.error().to_string().find("guess-1234"), std::string::npos);
}

TEST(RedisProbe, GarbageIsAProtocolFailure) {
  test::ScriptedServer server([](test::ScriptedServer::Connection& connection) {
    connection.send("HTTP/1.1 400 Bad Request\r\n\r\n");
    connection.stall();
  });
  ProbeRun run("redis: { address: \"127.0.0.1:" + std::to_string(server.port()) +
               "\", every: 50ms, timeout: 500ms }");
  run.start();
  ASSERT_TRUE(run.wait_for(2));
  EXPECT_EQ(run.requests().front().outcome, Outcome::kProtocol);
}

TEST(TcpProbe, TellsOpenFromClosed) {
  test::RedisServer server;
  ProbeRun run("tcp: { address: \"" + server.address() + "\", every: 50ms }");
  ASSERT_TRUE(run.check().ok());
  run.start();
  ASSERT_TRUE(run.wait_for(3));
  EXPECT_EQ(run.requests().back().outcome, Outcome::kOk);
  server.stop();
  EXPECT_TRUE(test::eventually([&] {
    run.wait_for(0);
    return run.requests().back().outcome == Outcome::kConnect;
  }));
}

TEST(CommandProbe, KeepsStatusAndFirstNumber) {
  ProbeRun run("command: { argv: [sh, -c, \"echo depth 17 of 20; exit 3\"], every: 50ms }");
  ASSERT_TRUE(run.check().ok());
  run.start();
  ASSERT_TRUE(run.wait_for(3, 6));
  const auto record = run.finish();
  for (const double value : values(record, "probe.value")) EXPECT_EQ(value, 17);
  for (const double value : values(record, "probe.exit_status")) EXPECT_EQ(value, 3);
  EXPECT_EQ(total(*record.find("probe")).ok(), 0u);
}

TEST(CommandProbe, AHangingProgramIsEndedAndGivesNoValue) {
  ProbeRun run("command: { argv: [sleep, \"60\"], every: 50ms, timeout: 100ms }");
  run.start();
  ASSERT_TRUE(run.wait_for(3));
  run.stop();
  for (const auto& sample : run.requests()) EXPECT_EQ(sample.outcome, Outcome::kTimeout);
  EXPECT_TRUE(run.gauges().empty());
}

TEST(CommandProbe, TheCheckFindsTheProgramWithoutRunningIt) {
  test::TemporaryDirectory directory;
  ProbeRun missing("command: { argv: [./not-there] }");
  EXPECT_FALSE(missing.check().ok());
  const std::string script =
      directory.file("probe", "#!/bin/sh\ntouch " + directory.path() + "/ran\n");
  chmod(script.c_str(), 0755);
  ProbeRun there("command: { argv: [" + script + "] }");
  EXPECT_TRUE(there.check().ok());
  EXPECT_FALSE(std::filesystem::exists(directory.path() + "/ran"));
}

TEST(ProcessProbe, MeasuresAService) {
  test::TemporaryDirectory directory;
  test::ServerProcess first({"sleep", "614.25"}, directory.path() + "/log");
  test::ServerProcess second({"sleep", "614.25"}, directory.path() + "/log");
  ProbeRun run("process: { service: app, every: 50ms }", {},
               "  app: { process: { exe: sleep, argv_contains: \"614.25\" } }\n");
  ASSERT_TRUE(test::eventually([&] { return run.check().ok(); }));
  run.start();
  ASSERT_TRUE(run.wait_for(0, 21));
  const auto record = run.finish();
  EXPECT_EQ(values(record, "probe.processes").back(), 2);
  EXPECT_EQ(values(record, "probe.threads").back(), 2);
  EXPECT_GT(values(record, "probe.memory").back(), 100'000);
}

TEST(LogProbe, CountsLinesThatSaySomething) {
  test::TemporaryDirectory directory;
  const std::string file = directory.file("app.log", "error: before the run\n");
  ProbeRun run("log: { file: " + file +
               ", matches: \"^(error|fatal): .*time ?out\", every: 50ms }");
  ASSERT_TRUE(run.check().ok());
  run.start();
  ASSERT_TRUE(run.wait_for(0, 1));
  std::ofstream(file, std::ios::app)
      << "error: a timeout\ninfo: fatal: time out\nfatal: time out\n";
  ASSERT_TRUE(test::eventually([&] {
    run.wait_for(0);
    double sum = 0;
    for (const auto& sample : run.gauges()) sum += sample.gauge.value;
    return sum == 2;
  }));
  const auto record = run.finish();
  EXPECT_EQ(record.find("probe.matches")->declaration.kind, evidence::SeriesKind::kCounter);
}

TEST(LogProbe, RefusesPatternsThatAreNotOrThatExplode) {
  for (const char* pattern : {"a(b", "(a)\\\\1"}) {
    ProbeRun run(std::string("log: { file: x.log, matches: \"") + pattern + "\" }");
    EXPECT_TRUE(run.failure().has_value()) << pattern;
  }
  ProbeRun none("log: { file: x.log }");
  EXPECT_TRUE(none.failure().has_value());
}

TEST(PrometheusProbe, AsksARealServer) {
  if (!test::PrometheusServer::installed()) GTEST_SKIP() << "prometheus is not installed";
  test::PrometheusServer server;
  ProbeRun run("prometheus: { url: \"http://127.0.0.1:" + std::to_string(server.port()) +
               "\", query: \"vector(1) + 41\", every: 100ms }");
  ASSERT_TRUE(test::eventually([&] { return run.check().ok(); }));
  run.start();
  ASSERT_TRUE(run.wait_for(2, 2));
  const auto record = run.finish();
  EXPECT_EQ(values(record, "probe.value").front(), 42);
  ProbeRun wrong("prometheus: { url: \"http://127.0.0.1:" + std::to_string(server.port()) +
                 "\", query: \"sum(\" }");
  const base::Status checked = wrong.check();
  ASSERT_FALSE(checked.ok());
  EXPECT_NE(checked.error().message.find("parse error"), std::string::npos);
}

TEST(PrometheusProbe, UnderstandsAnswersAndRefusesGarbage) {
  const auto ask = [](const std::string& body) {
    test::ScriptedServer server([&](test::ScriptedServer::Connection& connection) {
      while (!connection.read_request().empty()) {
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) +
                        "\r\n\r\n" + body);
      }
    });
    ProbeRun run("prometheus: { url: \"" + server.url("/prefix/") + "\", query: up, every: 50ms }");
    run.start();
    EXPECT_TRUE(run.wait_for(1));
    run.stop();
    return std::pair(run.requests().front().outcome,
                     run.gauges().empty() ? -1 : run.gauges().front().gauge.value);
  };
  const auto vector = [](const std::string& result) {
    return R"({"status":"success","data":{"resultType":"vector","result":)" + result + "}}";
  };
  EXPECT_EQ(ask(vector(R"([{"metric":{},"value":[1,"7.5"]}])")), std::pair(Outcome::kOk, 7.5));
  EXPECT_EQ(ask(vector("[]")), std::pair(Outcome::kOk, -1.0));
  EXPECT_EQ(ask(vector(R"([{"metric":{},"value":[1,"NaN"]}])")), std::pair(Outcome::kOk, -1.0));
  EXPECT_EQ(ask(vector(R"([{"value":[1,"1"]},{"value":[1,"2"]}])")).first, Outcome::kBadBody);
  EXPECT_EQ(ask(vector("7")).first, Outcome::kBadBody);
  EXPECT_EQ(ask(R"({"status":"success","data":[]})").first, Outcome::kBadBody);
  EXPECT_EQ(ask(R"({"status":"error","error":"no"})").first, Outcome::kStatus);
  EXPECT_EQ(ask("<html>").first, Outcome::kBadBody);
  EXPECT_EQ(ask("[1,2]").first, Outcome::kBadBody);
}

}  // namespace
}  // namespace squall::observe
