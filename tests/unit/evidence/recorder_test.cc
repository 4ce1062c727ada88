#include "evidence/recorder.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <filesystem>
#include <thread>

#include "base/files.h"

namespace squall::evidence {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class RecorderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto folder = base::make_temporary_directory("squall-recorder-");
    ASSERT_TRUE(folder.ok());
    folder_ = *folder;
    auto writer = RecordWriter::create(path(), {}, 64 * 1024);
    ASSERT_TRUE(writer.ok()) << writer.error().to_string();
    writer_ = *std::move(writer);
    auto feed = LiveFeed::create();
    ASSERT_TRUE(feed.ok());
    feed_ = *std::move(feed);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string path() const { return base::join_path(folder_, "run.squall"); }
  Record read() const {
    auto record = Record::read(path());
    EXPECT_TRUE(record.ok());
    EXPECT_TRUE(record->damage().empty());
    return *std::move(record);
  }

  std::string folder_;
  std::unique_ptr<RecordWriter> writer_;
  std::unique_ptr<LiveFeed> feed_;
};

RequestSample request(base::Instant intended, base::Duration took) {
  return {.intended = intended, .sent = intended + milliseconds(1), .done = intended + took};
}

TEST_F(RecorderTest, RequestsGoToTheBucketOfTheirIntendedTime) {
  Recorder recorder(*writer_, nullptr);
  const auto id = recorder.declare({.name = "reads", .kind = SeriesKind::kRequests});
  ASSERT_TRUE(id.ok());
  const base::Instant start(seconds(50));
  recorder.add(*id, request(start + milliseconds(99), milliseconds(5)));
  recorder.add(*id, request(start + milliseconds(100), milliseconds(5)));
  ASSERT_TRUE(recorder.flush().ok());
  // Its bucket was written before it was answered: the reader merges the pieces.
  recorder.add(*id, request(start + milliseconds(10), seconds(3)));
  recorder.add_dropped(*id, start + milliseconds(20));
  ASSERT_TRUE(recorder.flush().ok());
  const Record record = read();
  const Series* reads = record.find("reads");
  ASSERT_NE(reads, nullptr);
  ASSERT_EQ(reads->buckets.size(), 2u);
  EXPECT_EQ(reads->buckets[0].start, start);
  EXPECT_EQ(reads->buckets[0].count(), 2u);
  EXPECT_EQ(reads->buckets[0].dropped, 1u);
  EXPECT_EQ(reads->buckets[0].response_time.maximum(), seconds(3));
  EXPECT_EQ(reads->buckets[0].service_time.maximum(), seconds(3) - milliseconds(1));
  EXPECT_EQ(reads->buckets[0].lag.maximum(), milliseconds(1));
  EXPECT_EQ(reads->buckets[1].start, start + milliseconds(100));
  EXPECT_EQ(reads->buckets[1].count(), 1u);
}

TEST_F(RecorderTest, ManyThreadsLoseNothing) {
  Recorder recorder(*writer_, nullptr);
  constexpr int kThreads = 4;
  constexpr int kRequests = 5000;
  std::vector<SeriesId> ids;
  for (int i = 0; i < kThreads; ++i) {
    auto id = recorder.declare({.name = "s" + std::to_string(i), .kind = SeriesKind::kRequests});
    ASSERT_TRUE(id.ok());
    ids.push_back(*id);
  }
  const auto gauge = recorder.declare({.name = "g"});
  ASSERT_TRUE(gauge.ok());
  std::atomic<bool> stop{false};
  std::thread flusher([&] {
    while (!stop) EXPECT_TRUE(recorder.flush().ok());
  });
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kRequests; ++i) {
        const base::Instant at{milliseconds(i)};
        recorder.add(ids[static_cast<std::size_t>(t)], request(at, milliseconds(1 + i % 40)));
        recorder.add(ids[0], request(at, milliseconds(2)));
        recorder.add(*gauge, {.at = at, .value = static_cast<double>(i)});
      }
    });
  }
  for (auto& thread : threads) thread.join();
  stop = true;
  flusher.join();
  ASSERT_TRUE(recorder.flush().ok());
  const Record record = read();
  std::uint64_t total = 0;
  for (const SeriesId id : ids)
    for (const auto& bucket : record.series()[id].buckets) total += bucket.count();
  EXPECT_EQ(total, std::uint64_t{2} * kThreads * kRequests);
  EXPECT_EQ(record.find("g")->samples.size(), std::size_t{kThreads} * kRequests);
}

TEST_F(RecorderTest, TheFeedGetsWatchedSeriesOnly) {
  Recorder recorder(*writer_, feed_.get());
  const auto watched = recorder.declare({.name = "stuck.value"});
  const auto other = recorder.declare({.name = "other.value"});
  ASSERT_TRUE(watched.ok() && other.ok());
  recorder.watch(*watched);
  pollfd poll_fd{feed_->fd(), POLLIN, 0};
  EXPECT_EQ(::poll(&poll_fd, 1, 0), 0);
  recorder.add(*other, {.at = base::Instant(seconds(1)), .value = 1});
  EXPECT_EQ(::poll(&poll_fd, 1, 0), 0);
  recorder.add(*watched, {.at = base::Instant(seconds(1)), .value = 2});
  recorder.add(*watched, {.at = base::Instant(seconds(2)), .value = 3});
  EXPECT_EQ(::poll(&poll_fd, 1, 0), 1);
  std::vector<LiveSample> samples;
  feed_->drain(samples);
  ASSERT_EQ(samples.size(), 2u);
  EXPECT_EQ(samples[0].gauge.value, 2);
  EXPECT_EQ(samples[1].gauge.value, 3);
  EXPECT_EQ(::poll(&poll_fd, 1, 0), 0);
  feed_->drain(samples);
  EXPECT_TRUE(samples.empty());
}

TEST_F(RecorderTest, WritesAndReadBacksComeBack) {
  Recorder recorder(*writer_, nullptr);
  const auto id = recorder.declare({.name = "writes", .kind = SeriesKind::kRequests});
  ASSERT_TRUE(id.ok());
  recorder.add_write(*id, {7, base::Instant(seconds(3)), WriteFate::kUnknown});
  recorder.add_write(*id, {5, base::Instant(seconds(1)), WriteFate::kAcknowledged});
  recorder.add_read_back(*id, {5, true, 2});
  recorder.add_read_back(*id, {7, false, 0});
  ASSERT_TRUE(recorder.flush().ok());
  const Record record = read();
  const Series& series = record.series()[0];
  ASSERT_EQ(series.writes.size(), 2u);
  EXPECT_EQ(series.writes[0].sequence, 5u);
  EXPECT_EQ(series.writes[0].fate, WriteFate::kAcknowledged);
  EXPECT_EQ(series.writes[1].sent, base::Instant(seconds(3)));
  ASSERT_EQ(series.read_backs.size(), 2u);
  EXPECT_EQ(series.read_backs[0].found, 2u);
  EXPECT_TRUE(series.read_backs[0].known);
  EXPECT_FALSE(series.read_backs[1].known);
}

TEST_F(RecorderTest, EventsAreWrittenAtOnce) {
  Recorder recorder(*writer_, nullptr);
  recorder.add({base::Instant(seconds(9)), "note", "worker", "a sentence", R"({"a":1})"});
  const Record record = read();
  ASSERT_EQ(record.events().size(), 1u);
  EXPECT_EQ(record.events()[0].subject, "worker");
  EXPECT_EQ(record.events()[0].at, base::Instant(seconds(9)));
}

}  // namespace
}  // namespace squall::evidence
