#include "store/store.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/files.h"

namespace squall::store {
namespace {

class StoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = base::make_temporary_directory("squall-store-").value();
    path_ = base::join_path(folder_, "index.db");
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  static RunRow row(std::string id, std::int64_t started, std::string experiment = "worker-dies") {
    RunRow row;
    row.run = std::move(id);
    row.experiment = std::move(experiment);
    row.started_ns = started;
    row.outcome = "completed";
    row.verdict = "held";
    judge::PredictionResult result;
    result.name = "reads-stay-fast";
    result.phase = "fault";
    result.verdict = model::Verdict::kHeld;
    row.predictions.push_back(result);
    return row;
  }

  std::string folder_;
  std::string path_;
};

TEST_F(StoreTest, ListsNewestFirstAndSurvivesReopening) {
  {
    Store store = Store::open(path_).value();
    ASSERT_TRUE(store.put(row("01-aaa", 10)).ok());
    ASSERT_TRUE(store.put(row("02-bbb", 20, "api-dies")).ok());
  }
  Store store = Store::open(path_).value();
  const auto all = store.list({}).value();
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].run, "02-bbb");
  RunFilter only;
  only.experiment = "worker-dies";
  EXPECT_EQ(store.list(only).value().size(), 1u);
}

TEST_F(StoreTest, FindsByUniquePartAndSaysWhenSeveralMatch) {
  Store store = Store::open(path_).value();
  ASSERT_TRUE(store.put(row("01-aaa", 10)).ok());
  ASSERT_TRUE(store.put(row("02-aab", 20)).ok());
  EXPECT_EQ(store.find("aab")->run, "02-aab");
  EXPECT_EQ(store.find("last")->run, "02-aab");
  EXPECT_EQ(store.find("aa").error().code, base::ErrorCode::kConflict);
  EXPECT_EQ(store.find("zzz").error().code, base::ErrorCode::kNotFound);
  EXPECT_EQ(store.find("").error().code, base::ErrorCode::kNotFound);
}

TEST_F(StoreTest, PuttingARunAgainReplacesIt) {
  Store store = Store::open(path_).value();
  ASSERT_TRUE(store.put(row("01-aaa", 10)).ok());
  RunRow changed = row("01-aaa", 10);
  changed.verdict = "refuted";
  ASSERT_TRUE(store.put(changed).ok());
  ASSERT_EQ(store.list({}).value().size(), 1u);
  EXPECT_EQ(store.find("01-aaa")->verdict, "refuted");
}

TEST_F(StoreTest, TwoProcessesMayHaveItOpen) {
  Store one = Store::open(path_).value();
  Store two = Store::open(path_).value();
  ASSERT_TRUE(one.put(row("01-aaa", 10)).ok());
  ASSERT_TRUE(two.put(row("02-bbb", 20)).ok());
  EXPECT_EQ(one.list({}).value().size(), 2u);
}

TEST_F(StoreTest, ADamagedIndexSaysHowToRebuildIt) {
  std::ofstream(path_) << std::string(8192, 'x');
  const auto store = Store::open(path_);
  ASSERT_FALSE(store.ok());
  EXPECT_EQ(store.error().code, base::ErrorCode::kCorrupt);
  EXPECT_NE(store.error().hint.find("squall reindex"), std::string::npos);
}

}  // namespace
}  // namespace squall::store
