// The load generator and the http probe against nginx and against servers that misbehave.

#include "probe_run.h"

namespace squall::observe {
namespace {

using evidence::Outcome;
using test::NginxServer;
using test::ScriptedServer;
using Connection = ScriptedServer::Connection;

// A patient probe unless the test says otherwise: the machine may be busy.
std::string http(const std::string& url, std::string rest = "rate: 200/s") {
  if (rest.find("timeout") == std::string::npos) rest += ", timeout: 30s";
  return "http: { url: \"" + url + "\", " + rest + " }";
}

std::size_t count(const ProbeRun& run, Outcome outcome) {
  std::size_t found = 0;
  for (const auto& sample : run.requests()) found += sample.outcome == outcome;
  return found;
}

TEST(HttpProbe, SendsAtTheTimesOfItsScheduleAndCountsEveryAnswer) {
  const NginxServer server;
  ProbeRun run(http(server.url()));
  ASSERT_TRUE(run.check().ok());
  run.start();
  ASSERT_TRUE(run.wait_for(100));
  run.stop();
  for (std::size_t i = 0; i < run.requests().size(); ++i) {
    const auto& sample = run.requests()[i];
    EXPECT_EQ(sample.outcome, Outcome::kOk);
    EXPECT_EQ(sample.status, 200);
    EXPECT_LE(sample.intended, sample.sent);
    EXPECT_LE(sample.sent, sample.done);
    // Request i is meant for 5 ms x i after the start, whatever happened before.
    EXPECT_EQ((sample.intended - run.started()) % std::chrono::milliseconds(5),
              base::Duration::zero());
  }
  const auto record = run.finish();
  const evidence::Series* series = record.find("probe");
  ASSERT_NE(series, nullptr);
  EXPECT_EQ(total(*series).ok(), run.requests().size());
  EXPECT_EQ(total(*series).dropped, 0u);
}

TEST(HttpProbe, ReusesConnections) {
  ScriptedServer server([](Connection& connection) {
    while (!connection.read_request().empty()) {
      connection.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    }
  });
  ProbeRun run(http(server.url()));
  run.start();
  ASSERT_TRUE(run.wait_for(100));
  run.stop();
  EXPECT_EQ(count(run, Outcome::kOk), run.requests().size());
  EXPECT_LE(server.accepted(), 5);
}

TEST(HttpProbe, ClosesWhenTheServerSaysSo) {
  ScriptedServer server([](Connection& connection) {
    connection.read_request();
    connection.send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end");
  });
  ProbeRun run(http(server.url()));
  run.start();
  ASSERT_TRUE(run.wait_for(20));
  run.stop();
  EXPECT_EQ(count(run, Outcome::kOk), run.requests().size());
  EXPECT_EQ(static_cast<std::size_t>(server.accepted()), run.requests().size());
}

TEST(HttpProbe, ReadsChunkedBodiesThatArriveInPieces) {
  ScriptedServer server([](Connection& connection) {
    while (!connection.read_request().empty()) {
      for (const char* piece :
           {"HTTP/1.1 200 OK\r\nTransfer-Enc", "oding: chunked\r\n\r\n4;x=y\r\n{\"a\"", "\r\n",
            "3\r\n:7}\r", "\n0\r\nTrailer: x\r\n", "\r\n"}) {
        connection.send(piece);
        std::this_thread::sleep_for(std::chrono::microseconds(200));
      }
    }
  });
  ProbeRun run(http(server.url(), "rate: 100/s, expect: { json: { \"$.a\": 7 } }"));
  run.start();
  ASSERT_TRUE(run.wait_for(20));
  run.stop();
  EXPECT_EQ(count(run, Outcome::kOk), run.requests().size());
}

TEST(HttpProbe, TellsApartTheWaysInWhichAnAnswerIsWrong) {
  const NginxServer server(R"(
    location /teapot { return 418 "no"; }
    location /busy { add_header Retry-After 3 always; return 503 "later"; }
    location /json { default_type application/json; return 200 '{"state":"ok","n":3}'; }
    location / { return 200 "hello"; })");
  const auto outcome_of = [&](const std::string& path, const std::string& expect) {
    ProbeRun run(http(server.url(path), "rate: 100/s, expect: " + expect));
    run.start();
    EXPECT_TRUE(run.wait_for(3));
    run.stop();
    return run.requests().front().outcome;
  };
  EXPECT_EQ(outcome_of("/teapot", "{ status: 2xx }"), Outcome::kStatus);
  EXPECT_EQ(outcome_of("/teapot", "{ status: [200, 418] }"), Outcome::kOk);
  EXPECT_EQ(outcome_of("/busy", "{ status: 503, header: { retry-after: exists } }"), Outcome::kOk);
  EXPECT_EQ(outcome_of("/busy", "{ status: 503, header: { Retry-After: \"4\" } }"),
            Outcome::kBadBody);
  EXPECT_EQ(outcome_of("/", "{ body: ell }"), Outcome::kOk);
  EXPECT_EQ(outcome_of("/", "{ body: bye }"), Outcome::kBadBody);
  EXPECT_EQ(outcome_of("/json", "{ json: { \"$.state\": ok, \"$.n\": 3 } }"), Outcome::kOk);
  EXPECT_EQ(outcome_of("/json", "{ json: { \"$.state\": bad } }"), Outcome::kBadBody);
  EXPECT_EQ(outcome_of("/", "{ json: { \"$.state\": ok } }"), Outcome::kBadBody);
  EXPECT_EQ(outcome_of("/json", "{ condition: 'json[\"$.n\"] > 2' }"), Outcome::kOk);
  EXPECT_EQ(outcome_of("/json", "{ condition: 'json[\"$.n\"] > 3' }"), Outcome::kBadBody);
}

TEST(HttpProbe, CountsThePartsThatPredictionsAskFor) {
  const NginxServer server(R"(location / { add_header X-Kind good; return 200 '{"n":3}'; })");
  ProbeRun run(http(server.url()), {"status == 200", "status >= 500", "header[\"X-Kind\"] exists",
                                    "json[\"$.n\"] == 3", "latency > 10s"});
  run.start();
  ASSERT_TRUE(run.wait_for(40));
  const auto record = run.finish();
  const auto counted = [&](const char* name) { return total(*record.find(name)).count(); };
  const std::uint64_t all = counted("probe");
  EXPECT_GT(all, 0u);
  EXPECT_EQ(counted("status == 200"), all);
  EXPECT_EQ(counted("header[\"X-Kind\"] exists"), all);
  EXPECT_EQ(counted("json[\"$.n\"] == 3"), all);
  EXPECT_EQ(counted("status >= 500"), 0u);
  EXPECT_EQ(counted("latency > 10s"), 0u);
}

TEST(HttpProbe, AStalledServerShowsItsWholeStall) {
  std::atomic<bool> stalled{true};
  ScriptedServer server([&](Connection& connection) {
    while (!connection.read_request().empty()) {
      while (stalled.load() && !connection.stopping()) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
      connection.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    }
  });
  ProbeRun run(http(server.url(), "rate: 100/s, timeout: 20s"));
  run.start();
  // So many connections as requests of half a second: the load does not wait for the server.
  ASSERT_TRUE(test::eventually([&] { return server.accepted() >= 50; }));
  stalled = false;
  ASSERT_TRUE(run.wait_for(60));
  run.stop();
  EXPECT_EQ(count(run, Outcome::kOk), run.requests().size());
  base::Duration longest{};
  for (const auto& sample : run.requests()) {
    longest = std::max(longest, sample.done - sample.intended);
  }
  EXPECT_GE(longest, std::chrono::milliseconds(490));
}

TEST(HttpProbe, RequestsBeyondTheLimitInFlightAreDroppedAndCounted) {
  ScriptedServer server([](Connection& connection) { connection.stall(); });
  ProbeRun run(http(server.url(), "rate: 200/s, timeout: 300ms, in_flight: 4"));
  run.start();
  ASSERT_TRUE(run.wait_for(12));
  run.stop();
  EXPECT_EQ(count(run, Outcome::kTimeout), run.requests().size());
  const auto health = run.probe().load_health();
  ASSERT_TRUE(health.has_value());
  EXPECT_GT(health->dropped, health->intended / 2);
  const auto record = run.finish();
  const evidence::RequestBucket sum = total(*record.find("probe"));
  EXPECT_EQ(sum.count() + sum.dropped, health->intended);
  EXPECT_EQ(sum.dropped, health->dropped);
}

TEST(HttpProbe, ALateAnswerIsNeverTakenForTheNextOne) {
  std::atomic<int> number{0};
  ScriptedServer server([&](Connection& connection) {
    while (!connection.read_request().empty()) {
      const bool late = number++ == 0;
      if (late) std::this_thread::sleep_for(std::chrono::milliseconds(150));
      connection.send(late ? "HTTP/1.1 500 Late\r\nContent-Length: 0\r\n\r\n"
                           : "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    }
  });
  ProbeRun run(http(server.url(), "rate: 50/s, timeout: 100ms, in_flight: 1"));
  run.start();
  ASSERT_TRUE(run.wait_for(20));
  run.stop();
  EXPECT_EQ(count(run, Outcome::kTimeout), 1u);
  EXPECT_EQ(count(run, Outcome::kStatus), 0u);
}

TEST(HttpProbe, NamesHowAConnectionFails) {
  const auto outcome_with = [](const std::function<void(Connection&)>& serve) {
    ScriptedServer server(serve);
    ProbeRun run(http(server.url(), "rate: 50/s, timeout: 500ms"));
    run.start();
    EXPECT_TRUE(run.wait_for(3));
    run.stop();
    return run.requests().front();
  };
  const auto reset = outcome_with([](Connection& connection) {
    connection.read_request();
    connection.reset();
  });
  EXPECT_EQ(reset.outcome, Outcome::kReset);
  const auto half = outcome_with([](Connection& connection) {
    connection.read_request();
    connection.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
  });
  EXPECT_EQ(half.outcome, Outcome::kReset);
  const auto closed = outcome_with([](Connection& connection) { connection.read_request(); });
  EXPECT_EQ(closed.outcome, Outcome::kReset);
  const auto garbage = outcome_with([](Connection& connection) {
    connection.read_request();
    connection.send("SSH-2.0-OpenSSH_9.2\r\n");
    connection.stall();
  });
  EXPECT_EQ(garbage.outcome, Outcome::kProtocol);
  const auto slow = outcome_with([](Connection& connection) {
    connection.read_request();
    connection.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
    while (!connection.stopping()) {
      connection.send("x");
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      if (::send(connection.fd(), "x", 1, MSG_NOSIGNAL) < 0) return;
    }
  });
  EXPECT_EQ(slow.outcome, Outcome::kTimeout);
}

TEST(HttpProbe, ALongAnswerIsABadBodyBeyondTheLimit) {
  ScriptedServer server([](Connection& connection) {
    connection.read_request();
    connection.send("HTTP/1.1 200 OK\r\n\r\n");
    const std::string block(64 * 1024, 'x');
    for (int i = 0; i < 64; ++i) connection.send(block);
  });
  ProbeRun run(http(server.url(), "rate: 20/s, response_limit: 1MiB"));
  run.start();
  ASSERT_TRUE(run.wait_for(3));
  run.stop();
  EXPECT_EQ(run.requests().front().outcome, Outcome::kBadBody);
}

TEST(HttpProbe, NobodyThereIsAConnectFailureAndTheCheckSaysSo) {
  const std::uint16_t port = test::free_port();
  ProbeRun run(http("http://localhost:" + std::to_string(port) + "/"));
  const base::Status checked = run.check();
  ASSERT_FALSE(checked.ok());
  EXPECT_EQ(checked.error().code, base::ErrorCode::kUnavailable);
  EXPECT_NE(checked.error().message.find(std::to_string(port)), std::string::npos);
  EXPECT_FALSE(checked.error().hint.empty());
  run.start();
  ASSERT_TRUE(run.wait_for(5));
  run.stop();
  EXPECT_EQ(count(run, Outcome::kConnect), run.requests().size());
}

TEST(HttpProbe, FindsTheServerAgainAfterARestart) {
  NginxServer server;
  ProbeRun run(http(server.url()));
  run.start();
  ASSERT_TRUE(run.wait_for(20));
  server.stop();
  ASSERT_TRUE(test::eventually([&] {
    run.wait_for(0);
    return count(run, Outcome::kConnect) > 5;
  }));
  server.start();
  const std::size_t before = count(run, Outcome::kOk);
  EXPECT_TRUE(test::eventually([&] {
    run.wait_for(0);
    return count(run, Outcome::kOk) > before + 20;
  }));
}

TEST(HttpProbe, ANameWithSeveralAddressesUsesTheOneThatAccepts) {
  const NginxServer server;  // on 127.0.0.1 only; localhost may be ::1 first
  ProbeRun run(http("http://localhost:" + std::to_string(server.port()) + "/"));
  ASSERT_TRUE(run.check().ok());
  run.start();
  ASSERT_TRUE(run.wait_for(20));
  run.stop();
  EXPECT_EQ(count(run, Outcome::kOk), run.requests().size());
}

TEST(HttpProbe, HeadAnswersHaveNoBody) {
  const NginxServer server;
  ProbeRun run(http(server.url(), "method: HEAD, rate: 200/s, timeout: 300ms"));
  run.start();
  ASSERT_TRUE(run.wait_for(30));
  run.stop();
  EXPECT_EQ(count(run, Outcome::kOk), run.requests().size());
}

TEST(HttpProbe, SecretsComeFromAFileAndAreSent) {
  std::mutex mutex;
  std::string seen;
  ScriptedServer server([&](Connection& connection) {
    while (true) {
      const std::string request = connection.read_request();
      if (request.empty()) return;
      const std::lock_guard lock(mutex);
      seen = request;
      connection.send("HTTP/1.1 204 No Content\r\n\r\n");
    }
  });
  const test::TemporaryDirectory directory;
  const std::string file = directory.file("headers", "# for tests\nAuthorization: Bearer abc\n");
  ProbeRun run(
      http(server.url("/a?b=c"), "rate: 50/s, headers: { X-One: \"1\" }, headers_file: " + file));
  run.start();
  ASSERT_TRUE(run.wait_for(3));
  run.stop();
  EXPECT_EQ(count(run, Outcome::kOk), run.requests().size());
  const std::lock_guard lock(mutex);
  EXPECT_TRUE(seen.starts_with("GET /a?b=c HTTP/1.1\r\n")) << seen;
  EXPECT_NE(seen.find("\r\nAuthorization: Bearer abc\r\n"), std::string::npos);
  EXPECT_NE(seen.find("\r\nX-One: 1\r\n"), std::string::npos);
  EXPECT_NE(seen.find("\r\nHost: 127.0.0.1:"), std::string::npos);
}

TEST(HttpProbe, TheCheckOfAWriteSendsNothing) {
  std::atomic<int> requests{0};
  ScriptedServer server([&](Connection& connection) {
    while (!connection.read_request().empty()) {
      ++requests;
      connection.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    }
  });
  ProbeRun run(http(server.url(), "method: POST, body: { a: 1 }"));
  ASSERT_TRUE(run.check().ok());
  ASSERT_TRUE(test::eventually([&] { return server.accepted() == 1; }));
  EXPECT_EQ(requests.load(), 0);
}

}  // namespace
}  // namespace squall::observe
