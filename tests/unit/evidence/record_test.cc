#include "evidence/record.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/files.h"

namespace squall::evidence {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

RecordHeader small_header() {
  RecordHeader header;
  header.run = base::RunId::generate(base::real_clock().wall_now());
  header.squall_version = "0.1.0";
  header.wall_start = base::WallTime(seconds(1'795'000'000));
  header.boot_start = base::Instant(seconds(100));
  header.experiment_name = "worker-dies";
  header.experiment_text = "experiment: worker-dies\n";
  header.environment = "dev";
  header.plan = "{}";
  return header;
}

class RecordTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto folder = base::make_temporary_directory("squall-record-");
    ASSERT_TRUE(folder.ok());
    folder_ = *folder;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string path(const std::string& name = "run.squall") const {
    return base::join_path(folder_, name);
  }
  std::unique_ptr<RecordWriter> create() {
    auto writer = RecordWriter::create(path(), small_header(), 16 * 1024);
    EXPECT_TRUE(writer.ok());
    return *std::move(writer);
  }
  std::string bytes() const { return *base::read_file(path(), 1u << 24); }

  // One of everything.
  void write_small_record(bool finish = true) {
    auto writer = create();
    const auto reads = writer->declare({"reads", SeriesKind::kRequests, "", "reads"});
    const auto stuck = writer->declare({"stuck.value", SeriesKind::kGauge, "", "stuck"});
    ASSERT_TRUE(reads.ok() && stuck.ok());
    RequestBucket bucket;
    bucket.start = base::Instant(seconds(101));
    bucket.outcomes[0] = 2;
    bucket.outcomes[3] = 1;
    bucket.response_time.add(milliseconds(3), 3);
    ASSERT_TRUE(writer->append(*reads, bucket).ok());
    const std::vector<std::pair<SeriesId, GaugeSample>> samples = {
        {*stuck, {base::Instant(seconds(101)), 1.5}}, {*stuck, {base::Instant(seconds(102)), 0}}};
    ASSERT_TRUE(writer->append(samples).ok());
    ASSERT_TRUE(writer->append({base::Instant(seconds(101)), "note", "x", "y", ""}).ok());
    const WriteRecord write{1, base::Instant(seconds(101)), WriteFate::kAcknowledged};
    ASSERT_TRUE(writer->append_writes(*reads, std::span(&write, 1)).ok());
    const ReadBack read_back{1, true, 1};
    ASSERT_TRUE(writer->append_read_backs(*reads, std::span(&read_back, 1)).ok());
    ASSERT_TRUE(writer->append_document("proofs", {{"effect", "proven"}}).ok());
    if (finish) {
      ASSERT_TRUE(writer->finish().ok());
    }
  }

  std::string folder_;
};

std::span<const std::byte> as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

// What a record holds, as one number that only grows with more frames read.
std::size_t contents(const Record& record) {
  std::size_t total = record.events().size() + record.series().size() + record.finished();
  for (const Series& series : record.series())
    total += series.buckets.size() + series.samples.size() + series.writes.size() +
             series.read_backs.size();
  return total + (record.document("proofs") != nullptr);
}

TEST_F(RecordTest, ReadsBackWhatWasWritten) {
  write_small_record();
  const auto record = Record::read(path());
  ASSERT_TRUE(record.ok()) << record.error().to_string();
  EXPECT_TRUE(record->finished());
  EXPECT_TRUE(record->damage().empty());
  EXPECT_EQ(record->header().experiment_name, "worker-dies");
  EXPECT_EQ(record->header().boot_start, base::Instant(seconds(100)));
  EXPECT_EQ(record->header().run.text().size(), 36u);
  const Series* reads = record->find("reads");
  ASSERT_NE(reads, nullptr);
  ASSERT_EQ(reads->buckets.size(), 1u);
  EXPECT_EQ(reads->buckets[0].outcomes[3], 1u);
  EXPECT_EQ(reads->buckets[0].response_time.count(), 3u);
  ASSERT_EQ(record->find("stuck.value")->samples.size(), 2u);
  EXPECT_EQ(record->find("stuck.value")->samples[0].value, 1.5);
  EXPECT_EQ(record->find("stuck.value")->samples[1].at, base::Instant(seconds(102)));
  ASSERT_NE(record->document("proofs"), nullptr);
  EXPECT_EQ(*record->document("proofs"), R"({"effect":"proven"})");
  EXPECT_EQ(record->find("nothing"), nullptr);
  EXPECT_EQ(record->wall_time(base::Instant(seconds(101))), base::WallTime(seconds(1'795'000'001)));
}

TEST_F(RecordTest, SeriesThatAreNotWantedStayEmpty) {
  write_small_record();
  ReadOptions options;
  options.wanted = [](const SeriesDeclaration& series) { return series.name == "reads"; };
  const auto record = Record::read(path(), options);
  ASSERT_TRUE(record.ok());
  EXPECT_TRUE(record->damage().empty());
  ASSERT_NE(record->find("stuck.value"), nullptr);
  EXPECT_TRUE(record->find("stuck.value")->samples.empty());
  EXPECT_EQ(record->find("reads")->buckets.size(), 1u);
}

TEST_F(RecordTest, FinishingGivesBackUnusedSpace) {
  write_small_record();
  struct stat status {};
  ASSERT_EQ(::stat(path().c_str(), &status), 0);
  EXPECT_LE(status.st_blocks * 512, 8192);
}

TEST_F(RecordTest, AFinishedRecordTakesNoMore) {
  auto writer = create();
  ASSERT_TRUE(writer->finish().ok());
  EXPECT_FALSE(writer->append(Event{}).ok());
  EXPECT_FALSE(writer->finish().ok());
}

TEST_F(RecordTest, CreatingNeverFollowsOrReplaces) {
  ASSERT_TRUE(base::write_file_atomically(path("victim"), "precious").ok());
  ASSERT_EQ(::symlink(path("victim").c_str(), path().c_str()), 0);
  EXPECT_FALSE(RecordWriter::create(path(), small_header(), 0).ok());
  EXPECT_EQ(*base::read_file(path("victim"), 100), "precious");
  const auto existing = RecordWriter::create(path("victim"), small_header(), 0);
  ASSERT_FALSE(existing.ok());
  EXPECT_EQ(existing.error().code, base::ErrorCode::kConflict);
}

TEST_F(RecordTest, TruncatedAnywhereItYieldsAPrefix) {
  write_small_record();
  const std::string whole = bytes();
  const std::size_t header_size = Record::parse(as_bytes(whole)).ok() ? whole.find("SQL1", 1) : 0;
  std::size_t before = 0;
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const auto record = Record::parse(as_bytes(std::string_view(whole).substr(0, size)));
    ASSERT_EQ(record.ok(), size >= header_size) << size;
    if (!record.ok()) continue;
    ASSERT_FALSE(record->finished()) << size;
    ASSERT_GE(contents(*record), before) << size;
    before = contents(*record);
    // Cut between two frames there is nothing to tell; else the torn tail is told.
    const auto check = record->damage();
    if (!check.empty()) {
      ASSERT_NE(check[0].find("never completed"), std::string::npos) << check[0];
    }
  }
}

TEST_F(RecordTest, EveryFlippedBitIsDetected) {
  write_small_record();
  const std::string whole = bytes();
  for (std::size_t bit = 0; bit < whole.size() * 8; ++bit) {
    std::string damaged = whole;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << bit % 8));
    const auto record = Record::parse(as_bytes(damaged));
    ASSERT_TRUE(!record.ok() || !record->damage().empty()) << "bit " << bit;
  }
}

TEST_F(RecordTest, DamageInTheMiddleCostsOneFrame) {
  write_small_record();
  std::string damaged = bytes();
  const std::size_t event = damaged.find("note");
  ASSERT_NE(event, std::string::npos);
  damaged[event] = 'X';
  const auto record = Record::parse(as_bytes(damaged));
  ASSERT_TRUE(record.ok());
  EXPECT_TRUE(record->events().empty());
  EXPECT_TRUE(record->finished());
  EXPECT_EQ(record->find("reads")->writes.size(), 1u);
  ASSERT_EQ(record->damage().size(), 2u);
  EXPECT_NE(record->damage()[0].find("damaged and were skipped"), std::string::npos);
}

TEST_F(RecordTest, ZerosAtTheEndAreToldAndHarmless) {
  write_small_record(/*finish=*/false);
  const std::string padded = bytes() + std::string(100'000, '\0');
  const auto record = Record::parse(as_bytes(padded));
  ASSERT_TRUE(record.ok());
  EXPECT_EQ(record->events().size(), 1u);
  ASSERT_EQ(record->damage().size(), 1u);
}

TEST_F(RecordTest, SamplesOfAnUndeclaredSeriesAreTold) {
  auto writer = create();
  const std::vector<std::pair<SeriesId, GaugeSample>> samples = {
      {9, {base::Instant(seconds(101)), 1}}};
  ASSERT_TRUE(writer->append(samples).ok());
  const auto record = Record::read(path());
  ASSERT_TRUE(record.ok());
  ASSERT_EQ(record->damage().size(), 1u);
  EXPECT_NE(record->damage()[0].find("declaration is missing"), std::string::npos);
}

TEST_F(RecordTest, ForeignFilesAreRefusedWithAHint) {
  ASSERT_TRUE(base::write_file_atomically(path("x"), "not a record at all").ok());
  const auto record = Record::read(path("x"));
  ASSERT_FALSE(record.ok());
  EXPECT_EQ(record.error().code, base::ErrorCode::kCorrupt);
  EXPECT_FALSE(record.error().hint.empty());
  EXPECT_EQ(Record::read(path("absent")).error().code, base::ErrorCode::kNotFound);
  EXPECT_FALSE(Record::read(folder_).ok());
  ASSERT_EQ(::mkfifo(path("fifo").c_str(), 0600), 0);
  EXPECT_FALSE(Record::read(path("fifo")).ok());
}

TEST_F(RecordTest, TooLargeADocumentIsRefusedAndTheRecordGoesOn) {
  auto writer = create();
  const auto refused = writer->append_document("big", std::string(17u << 20, 'x'));
  ASSERT_FALSE(refused.ok());
  ASSERT_TRUE(writer->append_document("small", "fits").ok());
  ASSERT_TRUE(writer->finish().ok());
  const auto record = Record::read(path());
  ASSERT_TRUE(record.ok());
  EXPECT_TRUE(record->damage().empty());
  EXPECT_EQ(*record->document("small"), "\"fits\"");
}

TEST_F(RecordTest, CopyHoldsTheSameAndNeverReplaces) {
  write_small_record();
  const auto copied = copy_record(path(), path("copy.squall"));
  ASSERT_TRUE(copied.ok()) << copied.error().to_string();
  EXPECT_TRUE(copied->finished);
  EXPECT_EQ(*base::read_file(path("copy.squall"), 1u << 20), bytes());
  const auto again = copy_record(path(), path("copy.squall"));
  ASSERT_FALSE(again.ok());
  EXPECT_EQ(again.error().code, base::ErrorCode::kConflict);
  std::size_t files = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder_)) ++files;
  EXPECT_EQ(files, 2u);
}

TEST_F(RecordTest, CopyOfATornRecordHoldsItsWholeFrames) {
  write_small_record(/*finish=*/false);
  const std::string whole = bytes();
  ASSERT_EQ(::truncate(path().c_str(), static_cast<off_t>(whole.size() - 3)), 0);
  const auto copied = copy_record(path(), path("copy.squall"));
  ASSERT_TRUE(copied.ok());
  EXPECT_FALSE(copied->finished);
  EXPECT_TRUE(verify_record(path("copy.squall"))->damage.empty());
}

TEST_F(RecordTest, CopyOfADamagedRecordIsRefused) {
  write_small_record();
  std::string damaged = bytes();
  damaged[damaged.find("note")] = 'X';
  ASSERT_TRUE(base::write_file_atomically(path("bad.squall"), damaged).ok());
  EXPECT_FALSE(verify_record(path("bad.squall"))->damage.empty());
  EXPECT_EQ(copy_record(path("bad.squall"), path("copy.squall")).error().code,
            base::ErrorCode::kCorrupt);
  EXPECT_FALSE(std::filesystem::exists(path("copy.squall")));
}

TEST_F(RecordTest, GaugesOfAnySpreadComeBackExactly) {
  auto writer = create();
  std::vector<std::pair<SeriesId, GaugeSample>> samples;
  for (int i = 0; i < 300; ++i) ASSERT_TRUE(writer->declare({.name = std::to_string(i)}).ok());
  const double values[] = {0, -1, 0.1, 1e300, 16777217, std::numeric_limits<double>::infinity()};
  for (int i = 0; i < 2000; ++i) {
    samples.push_back(
        {static_cast<SeriesId>(i * 7 % 300), {base::Instant(milliseconds(i * 17)), values[i % 6]}});
  }
  ASSERT_TRUE(writer->append(samples).ok());
  const auto record = Record::read(path());
  ASSERT_TRUE(record.ok());
  ASSERT_TRUE(record->damage().empty());
  std::size_t seen = 0;
  for (const auto& written : samples) {
    const auto& kept = record->series()[written.first].samples;
    const auto found = std::find_if(kept.begin(), kept.end(), [&](const GaugeSample& candidate) {
      return candidate.at == written.second.at && candidate.value == written.second.value;
    });
    ASSERT_NE(found, kept.end());
  }
  for (const Series& series : record->series()) seen += series.samples.size();
  EXPECT_EQ(seen, samples.size());
}

TEST_F(RecordTest, NotANumberSurvives) {
  auto writer = create();
  ASSERT_TRUE(writer->declare({.name = "g"}).ok());
  const std::vector<std::pair<SeriesId, GaugeSample>> samples = {
      {0, {base::Instant(seconds(1)), std::numeric_limits<double>::quiet_NaN()}}};
  ASSERT_TRUE(writer->append(samples).ok());
  EXPECT_TRUE(std::isnan(Record::read(path())->series()[0].samples[0].value));
}

RC_GTEST_PROP(Record, GarbageAfterAGoodHeaderNeverCrashes, ()) {
  static const std::string header = [] {
    auto folder = base::make_temporary_directory("squall-record-");
    const std::string path = base::join_path(*folder, "r");
    { auto writer = RecordWriter::create(path, small_header(), 0); }
    std::string bytes = *base::read_file(path, 1u << 20);
    std::filesystem::remove_all(*folder);
    return bytes;
  }();
  std::vector<std::byte> bytes(as_bytes(header).begin(), as_bytes(header).end());
  const auto frames = *rc::gen::container<std::vector<std::pair<std::uint8_t, std::string>>>(
      rc::gen::pair(rc::gen::inRange<std::uint8_t>(1, 12), rc::gen::arbitrary<std::string>()));
  for (const auto& [type, payload] : frames)
    base::append_frame(bytes, type, base::Instant(seconds(1)), payload);
  const auto record = Record::parse(bytes);
  RC_ASSERT(record.ok());
}

}  // namespace
}  // namespace squall::evidence
