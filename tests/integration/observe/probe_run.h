#pragma once
// Runs probes of a system map against real servers and reads what they recorded.

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "evidence/record.h"
#include "evidence/recorder.h"
#include "host/host.h"
#include "model/diagnostic.h"
#include "model/experiment.h"
#include "observe/observer.h"
#include "observe/probe.h"
#include "support/servers.h"

namespace squall::observe {

inline model::SystemMap parse_map(const std::string& yaml, const std::string& directory) {
  const model::Vocabulary vocabulary{.faults = {}, .probes = probe_kinds()};
  model::Diagnostics diagnostics;
  model::SystemMap map =
      model::parse_system_map(yaml, directory + "/squall.yaml", "", vocabulary, diagnostics);
  EXPECT_FALSE(diagnostics.has_errors()) << diagnostics.render();
  return map;
}

// One probe named "probe", given as YAML of its kind: "http: { url: ... }".
class ProbeRun {
 public:
  explicit ProbeRun(const std::string& kind_yaml, const std::vector<std::string>& parts = {},
                    const std::string& services = "  app: { process: { exe: no-such-program } }\n")
      : map_(parse_map(
            "system: test\nservices:\n" + services + "probes:\n  probe:\n    " + kind_yaml + "\n",
            directory_.path())) {
    auto writer = evidence::RecordWriter::create(directory_.path() + "/run.squall",
                                                 {.experiment_name = "test"}, 1 << 20);
    EXPECT_TRUE(writer.ok()) << (writer.ok() ? "" : writer.error().to_string());
    writer_ = std::move(writer).value();
    feed_ = evidence::LiveFeed::create().value();
    recorder_ = std::make_unique<evidence::Recorder>(*writer_, feed_.get());
    std::vector<model::Slice> slices = {{.id = "probe", .probe = "probe", .where = nullptr}};
    for (const std::string& part : parts) {
      const model::ParsedCondition parsed = model::parse_condition(part);
      EXPECT_NE(parsed.condition, nullptr) << part;
      slices.push_back({.id = part, .probe = "probe", .where = parsed.condition});
    }
    EXPECT_EQ(map_.probes.size(), 1u);
    auto made = make_probe(map_.probes.front(), ProbeContext{.clock = base::real_clock(),
                                                             .recorder = *recorder_,
                                                             .host = host::real_host(),
                                                             .map = map_,
                                                             .slices = slices,
                                                             .seed = 7,
                                                             .run = "run1"});
    if (made.ok()) {
      probe_ = std::move(made).value();
    } else {
      failure_ = made.error();
    }
  }
  ~ProbeRun() { stop(); }

  // Set when the probe could not be made.
  const std::optional<base::Error>& failure() const { return failure_; }
  base::Status check() { return probe_->check(); }
  Probe& probe() { return *probe_; }

  // Declares, watches every series, and runs on a thread.
  void start() {
    const base::Status prepared = probe_->prepare();
    ASSERT_TRUE(prepared.ok()) << prepared.error().to_string();
    for (evidence::SeriesId id = 0; id < 16; ++id) {
      if (id < series_count()) recorder_->watch(id);
    }
    started_ = base::BootClock::now();
    thread_ = std::jthread([this](std::stop_token stop) { probe_->run(started_, stop); });
  }
  base::Instant started() const { return started_; }

  // Waits until so many requests and gauge samples have come in all.
  bool wait_for(std::size_t requests, std::size_t gauges = 0) {
    return test::eventually([&] {
      drain();
      return requests_.size() >= requests && gauges_.size() >= gauges;
    });
  }
  void stop() {
    if (!thread_.joinable()) return;
    thread_.request_stop();
    thread_.join();
    drain();
  }
  // Requests of the whole probe and gauge samples of any series, as they came.
  const std::vector<evidence::RequestSample>& requests() const { return requests_; }
  const std::vector<evidence::LiveSample>& gauges() const { return gauges_; }

  // Ends everything and reads the record.
  evidence::Record finish() {
    stop();
    EXPECT_TRUE(recorder_->flush().ok());
    EXPECT_TRUE(writer_->finish().ok());
    auto record = evidence::Record::read(writer_->path());
    EXPECT_TRUE(record.ok());
    return std::move(record).value();
  }
  const std::string& directory() const { return directory_.path(); }

 private:
  evidence::SeriesId series_count() {
    // Ids are given in order: the next one tells how many there are.
    const auto probe = recorder_->declare({.name = "count", .unit = "", .source = ""});
    return probe.value();
  }
  void drain() {
    feed_->drain(fed_);
    for (const evidence::LiveSample& sample : fed_) {
      if (sample.kind != evidence::SeriesKind::kRequests) {
        gauges_.push_back(sample);
      } else {
        requests_.push_back(sample.request);
      }
    }
  }

  test::TemporaryDirectory directory_;
  model::SystemMap map_;
  std::unique_ptr<evidence::RecordWriter> writer_;
  std::unique_ptr<evidence::LiveFeed> feed_;
  std::unique_ptr<evidence::Recorder> recorder_;
  std::unique_ptr<Probe> probe_;
  std::optional<base::Error> failure_;
  std::jthread thread_;
  base::Instant started_;
  std::vector<evidence::LiveSample> fed_;
  std::vector<evidence::RequestSample> requests_;
  std::vector<evidence::LiveSample> gauges_;
};

// Over all buckets.
inline evidence::RequestBucket total(const evidence::Series& series) {
  evidence::RequestBucket sum;
  for (const evidence::RequestBucket& bucket : series.buckets) sum.merge(bucket);
  return sum;
}

}  // namespace squall::observe
