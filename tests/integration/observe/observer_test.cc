// The observer as the engine uses it: which probes run, what is watched, and how it ends.

#include "observe/observer.h"

#include <fstream>
#include <nlohmann/json.hpp>

#include "probe_run.h"

namespace squall::observe {
namespace {

class ObserverTest : public testing::Test {
 protected:
  void make(const std::string& yaml, const std::vector<std::string>& predictions,
            const std::vector<std::string>& watched = {}) {
    map_ = std::make_unique<model::SystemMap>(parse_map(yaml, directory_.path()));
    const model::SignalTable signals = model::signal_table(*map_, {});
    for (const std::string& text : predictions) {
      const bool at_end = text.ends_with("at end");
      auto parsed = model::parse_prediction(
          "p", text, signals,
          at_end ? model::ClauseRule::kHypothesis : model::ClauseRule::kSteadyState);
      ASSERT_TRUE(parsed.prediction.has_value()) << parsed.errors.front().message;
      predictions_.push_back(std::make_unique<model::Prediction>(*parsed.prediction));
    }
    writer_ =
        evidence::RecordWriter::create(directory_.path() + "/run.squall", {}, 1 << 20).value();
    recorder_ = std::make_unique<evidence::Recorder>(*writer_, nullptr);
    std::vector<const model::Prediction*> pointers;
    for (const auto& prediction : predictions_) pointers.push_back(prediction.get());
    auto made = Observer::create({.map = *map_,
                                  .predictions = pointers,
                                  .watched_services = watched,
                                  .host = host::real_host(),
                                  .clock = base::real_clock(),
                                  .recorder = *recorder_,
                                  .seed = 3,
                                  .make = make_});
    ASSERT_TRUE(made.ok()) << made.error().to_string();
    observer_ = std::move(made).value();
  }
  // What is recorded so far.
  evidence::Record read() {
    EXPECT_TRUE(recorder_->flush().ok());
    return evidence::Record::read(writer_->path()).value();
  }
  std::size_t samples(const std::string& series) {
    const auto record = read();
    const evidence::Series* found = record.find(series);
    if (found == nullptr) return 0;
    return found->declaration.kind == evidence::SeriesKind::kRequests ? total(*found).count()
                                                                      : found->samples.size();
  }
  std::vector<evidence::Event> events(const std::string& type) {
    std::vector<evidence::Event> all;
    const auto record = read();
    for (const evidence::Event* event : record.events_of(type)) all.push_back(*event);
    return all;
  }

  test::TemporaryDirectory directory_;
  decltype(ObserverOptions::make) make_ = &make_probe;
  std::unique_ptr<model::SystemMap> map_;
  std::vector<std::unique_ptr<model::Prediction>> predictions_;
  std::unique_ptr<evidence::RecordWriter> writer_;
  std::unique_ptr<evidence::Recorder> recorder_;
  std::unique_ptr<Observer> observer_;
};

constexpr const char* kServices = "system: test\nservices:\n  app: { process: { exe: none } }\n";

TEST_F(ObserverTest, RunsWhatPredictionsReadAndWhatAlwaysRuns) {
  const test::NginxServer server;
  const std::string probe = "{ http: { url: \"" + server.url() + "\", rate: 50/s, timeout: 30s ";
  make(std::string(kServices) + "probes:\n  read: " + probe + "} }\n  unread: " + probe +
           "} }\n  pinned: " + probe + ", always: true } }\n",
       {"share(read.status == 200) >= 99%"});
  ASSERT_TRUE(observer_->check().empty());
  ASSERT_TRUE(observer_->start().ok());
  EXPECT_TRUE(test::eventually([&] { return samples("read") > 10 && samples("pinned") > 10; }));
  observer_->stop_load();
  const auto record = read();
  EXPECT_EQ(record.find("unread"), nullptr);
  const evidence::Series* part = record.find("read where read.status == 200");
  ASSERT_NE(part, nullptr);
  EXPECT_EQ(total(*part).count(), total(*record.find("read")).count());
  EXPECT_EQ(observer_->load_health().size(), 2u);
  EXPECT_GT(observer_->load_health().front().intended, 10u);
  observer_->stop();
  observer_->stop();
}

TEST_F(ObserverTest, TheCheckNamesEveryProbeThatCannotWork) {
  const std::string nowhere = "127.0.0.1:" + std::to_string(test::free_port());
  make(std::string(kServices) + "probes:\n  web: { http: { url: \"http://" + nowhere +
           "/\" } }\n  port: { tcp: { address: \"" + nowhere + "\" } }\n  cache: { redis: { " +
           "address: \"" + nowhere + "\" } }\n",
       {"web.success > 50%", "port.success > 50%", "cache.success > 50%"});
  const auto errors = observer_->check();
  ASSERT_EQ(errors.size(), 3u);
  EXPECT_NE(errors[0].to_string().find("checking probe web"), std::string::npos);
  EXPECT_NE(errors[2].to_string().find("checking probe cache"), std::string::npos);
  for (const base::Error& error : errors) EXPECT_FALSE(error.hint.empty());
}

TEST_F(ObserverTest, AProbeThatWaitsDelaysNoOtherAndTheEndDoesNotWaitForIt) {
  const test::RedisServer server;
  test::ScriptedServer silent([](auto& connection) { connection.stall(); });
  make(std::string(kServices) +
           "probes:\n  silent: { redis: { address: \"127.0.0.1:" + std::to_string(silent.port()) +
           "\", timeout: 5min, every: 50ms } }\n  lively: { redis: { address: \"" +
           server.address() + "\", command: [DBSIZE], every: 50ms } }\n",
       {"silent.success > 50%", "lively.value == 0"});
  ASSERT_TRUE(observer_->start().ok());
  EXPECT_TRUE(test::eventually([&] { return samples("lively.value") >= 20; }));
  EXPECT_EQ(silent.accepted(), 1);
  observer_->stop();  // would take five minutes if it waited for the answer
  EXPECT_EQ(samples("silent"), 0u);
}

// Hangs in something that nobody can interrupt, until the test lets it go.
class StuckProbe final : public Probe {
 public:
  base::Status check() override { return {}; }
  base::Status prepare() override { return {}; }
  void run(base::Instant first_tick, std::stop_token) override {
    since_ = base::to_nanoseconds(first_tick);
    test::eventually([] { return released.load(); }, std::chrono::minutes(2));
    ended = true;
  }
  std::optional<base::Instant> busy_since() const override {
    if (since_ == 0) return std::nullopt;
    return base::instant_from_nanoseconds(since_);
  }
  base::Duration patience() const override { return std::chrono::milliseconds(100); }
  void abandon() override { abandoned = true; }

  static inline std::atomic<bool> released{false};
  static inline std::atomic<bool> abandoned{false};
  static inline std::atomic<bool> ended{false};

 private:
  std::atomic<std::int64_t> since_{0};
};

TEST_F(ObserverTest, AStuckProbeIsNamedOnceAndLeftBehind) {
  make_ = [](const model::ProbeSpecification& specification, ProbeContext context) {
    return specification.name == "stuck"
               ? base::Result<std::unique_ptr<Probe>>(std::make_unique<StuckProbe>())
               : make_probe(specification, std::move(context));
  };
  const test::RedisServer server;
  const std::string redis = "{ redis: { address: \"" + server.address() + "\", every: 50ms } }\n";
  make(std::string(kServices) + "probes:\n  stuck: " + redis + "  lively: " + redis,
       {"stuck.success > 50%", "lively.success > 50%"});
  ASSERT_TRUE(observer_->start().ok());
  EXPECT_TRUE(test::eventually([&] { return events("probe.stuck").size() == 1; }));
  const std::size_t before = samples("lively");
  EXPECT_TRUE(test::eventually([&] { return samples("lively") > before + 10; }));
  ASSERT_EQ(events("probe.stuck").size(), 1u);
  EXPECT_EQ(events("probe.stuck").front().subject, "stuck");
  observer_->stop();
  EXPECT_TRUE(StuckProbe::abandoned);
  EXPECT_FALSE(StuckProbe::ended);
  observer_.reset();
  StuckProbe::released = true;
  EXPECT_TRUE(test::eventually([] { return StuckProbe::ended.load(); }));
}

TEST_F(ObserverTest, WatchesServicesWithoutBeingAsked) {
  std::ofstream(directory_.path() + "/app.log") << "before\n";
  auto app = test::ServerProcess({"sleep", "615.5"}, "/dev/null");
  make(
      "system: test\nservices:\n  app: { process: { exe: sleep, argv_contains: \"615.5\" }, "
      "logs: [app.log] }\n  other: { process: { exe: none } }\n",
      {}, {"app", "other"});
  ASSERT_TRUE(observer_->start().ok());
  EXPECT_TRUE(test::eventually([&] {
    const auto record = read();
    const auto* series = record.find("app.processes");
    return series != nullptr && !series->samples.empty() && series->samples.back().value == 1;
  }));
  std::ofstream(directory_.path() + "/app.log", std::ios::app) << "it \x1b[31mhurts\n";
  EXPECT_TRUE(test::eventually([&] { return events("log.line").size() == 1; }));
  EXPECT_EQ(events("log.line").front().subject, "app");
  EXPECT_EQ(events("log.line").front().text.find('\x1b'), std::string::npos);

  app.stop(SIGKILL);
  EXPECT_TRUE(test::eventually([&] { return events("member.gone").size() == 1; }));
  EXPECT_FALSE(base::Json::parse(events("member.gone").front().details)["expected"].get<bool>());
  app = test::ServerProcess({"sleep", "615.5"}, "/dev/null");
  EXPECT_TRUE(test::eventually([&] { return events("member.restarted").size() == 1; }));
  EXPECT_EQ(base::Json::parse(events("member.restarted").front().details)["pid"].get<int>(),
            app.pid());

  observer_->expect_changes("app");
  app.stop(SIGKILL);
  EXPECT_TRUE(test::eventually([&] { return events("member.gone").size() == 2; }));
  EXPECT_TRUE(base::Json::parse(events("member.gone").back().details)["expected"].get<bool>());
  EXPECT_TRUE(test::eventually([&] {
    const auto record = read();
    return record.find("app.restarts")->samples.back().value == 1 &&
           record.find("app.processes")->samples.back().value == 0;
  }));
  observer_->stop();
}

TEST_F(ObserverTest, WritesAreReadBackAndTheirFateIsTold) {
  // Every tenth write is answered but lost, every tenth is stored twice, every tenth is refused,
  // every tenth is stored but never answered.
  std::mutex mutex;
  std::map<std::string, int> stored;
  test::ScriptedServer server([&](auto& connection) {
    while (true) {
      const std::string request = connection.read_request();
      if (request.empty()) return;
      const auto reply = [&](int status, const std::string& body) {
        connection.send("HTTP/1.1 " + std::to_string(status) +
                        " X\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
      };
      std::unique_lock lock(mutex);
      if (request.starts_with("GET /items/")) {
        const std::string ref = request.substr(11, request.find(' ', 11) - 11);
        const auto found = stored.find(ref);
        if (found == stored.end()) {
          reply(404, "");
        } else {
          reply(200, R"({"copies":)" + std::to_string(found->second) + "}");
        }
        continue;
      }
      const std::size_t at = request.find("\"ref\":\"") + 7;
      const std::string ref = request.substr(at, request.find('"', at) - at);
      const char last = ref.back();
      if (last == '3') {
        reply(503, "");
        continue;
      }
      if (last != '1') stored[ref] += last == '2' ? 2 : 1;
      if (last == '4') return;  // closes without an answer
      reply(201, "{}");
    }
  });
  make(std::string(kServices) + "probes:\n  writes:\n    http:\n      method: POST\n      url: \"" +
           server.url("/items") + "\"\n      body: { a: 1 }\n      rate: 200/s\n" +
           "      timeout: 30s\n      sequence: $.ref\n      read_back: { url: \"" +
           server.url("/items/{sequence}") + "\", count: $.copies }\n",
       {"lost(writes) == 0 at end"});
  ASSERT_TRUE(observer_->start().ok());
  EXPECT_TRUE(test::eventually([&] { return samples("writes") >= 100; }));
  observer_->stop_load();
  const base::Status read_back = observer_->read_back();
  ASSERT_TRUE(read_back.ok()) << read_back.error().to_string();
  observer_->stop();
  const auto record = read();
  const evidence::Series* series = record.find("writes");
  ASSERT_NE(series, nullptr);
  std::map<std::uint64_t, evidence::WriteFate> fates;
  for (const auto& write : series->writes) fates[write.sequence] = write.fate;
  EXPECT_EQ(fates.size(), total(*series).count());
  for (const auto& [sequence, fate] : fates) {
    const auto expected = sequence % 10 == 3   ? evidence::WriteFate::kRefused
                          : sequence % 10 == 4 ? evidence::WriteFate::kUnknown
                                               : evidence::WriteFate::kAcknowledged;
    EXPECT_EQ(fate, expected) << sequence;
  }
  ASSERT_GT(series->read_backs.size(), 80u);
  for (const auto& found : series->read_backs) {
    EXPECT_TRUE(found.known);
    EXPECT_NE(found.sequence % 10, 3u);
    EXPECT_EQ(found.found, found.sequence % 10 == 1 ? 0u : found.sequence % 10 == 2 ? 2u : 1u);
  }
}

TEST_F(ObserverTest, AReadBackThatCannotBeAskedIsUnknownAndDoesNotTakeForEver) {
  auto server = std::make_unique<test::ScriptedServer>([](auto& connection) {
    while (!connection.read_request().empty()) {
      connection.send("HTTP/1.1 201 X\r\nContent-Length: 0\r\n\r\n");
    }
  });
  const std::string nowhere = "http://127.0.0.1:" + std::to_string(test::free_port());
  make(std::string(kServices) + "probes:\n  writes:\n    http:\n      method: POST\n      url: \"" +
           server->url() + "\"\n      body: { a: 1 }\n      rate: 100/s\n      sequence: $.ref\n" +
           "      read_back: { url: \"" + nowhere + "/{sequence}\" }\n",
       {"lost(writes) == 0 at end"});
  ASSERT_TRUE(observer_->start().ok());
  EXPECT_TRUE(test::eventually([&] { return samples("writes") >= 20; }));
  observer_->stop_load();
  EXPECT_TRUE(observer_->read_back().ok());
  observer_->stop();
  const auto record = read();
  ASSERT_GE(record.find("writes")->read_backs.size(), 20u);
  for (const auto& found : record.find("writes")->read_backs) EXPECT_FALSE(found.known);
}

TEST_F(ObserverTest, ChecksCertificates) {
  ASSERT_EQ(test::ServerProcess(
                {"openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
                 "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout",
                 directory_.path() + "/key.pem", "-out", directory_.path() + "/cert.pem"},
                directory_.path() + "/openssl.log")
                .wait(),
            0);
  const test::NginxServer server("ssl_certificate " + directory_.path() + "/cert.pem;\n" +
                                     "ssl_certificate_key " + directory_.path() + "/key.pem;\n" +
                                     "location / { return 200 ok; }",
                                 "ssl");
  const auto probe = [&](const std::string& host, const std::string& tls) {
    return "{ http: { url: \"https://" + host + ":" + std::to_string(server.port()) +
           "/\", rate: 50/s, timeout: 30s, expect: { body: ok }, tls: { " + tls + " } } }\n";
  };
  const std::string ca = "ca_file: " + directory_.path() + "/cert.pem";
  make(std::string(kServices) + "probes:\n  trusted: " + probe("localhost", ca) + "  by-address: " +
           probe("127.0.0.1", ca) + "  unknown: " + probe("localhost", "verify: true") +
           "  other-name: " + probe("127.0.0.1", ca + ", server_name: example.org") +
           "  unchecked: " + probe("localhost", "verify: false"),
       {"trusted.success > 1%", "by-address.success > 1%", "unknown.success > 1%",
        "other-name.success > 1%", "unchecked.success > 1%"});
  const auto errors = observer_->check();
  ASSERT_EQ(errors.size(), 2u);
  EXPECT_NE(errors[0].to_string().find("certificate"), std::string::npos) << errors[0].to_string();
  EXPECT_NE(errors[0].hint.find("ca_file"), std::string::npos);
  ASSERT_TRUE(observer_->start().ok());
  EXPECT_TRUE(test::eventually([&] {
    for (const char* name : {"trusted", "by-address", "unknown", "other-name", "unchecked"}) {
      if (samples(name) < 20) return false;
    }
    return true;
  }));
  observer_->stop();
  const auto record = read();
  const auto all = [&](const char* name, evidence::Outcome outcome) {
    const evidence::RequestBucket sum = total(*record.find(name));
    EXPECT_EQ(sum.outcomes[static_cast<std::size_t>(outcome)], sum.count())
        << name << testing::PrintToString(sum.outcomes);
  };
  all("trusted", evidence::Outcome::kOk);
  all("by-address", evidence::Outcome::kOk);
  all("unchecked", evidence::Outcome::kOk);
  all("unknown", evidence::Outcome::kTls);
  all("other-name", evidence::Outcome::kTls);
}

}  // namespace
}  // namespace squall::observe
