#include "observe/log_tail.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "observe/number_text.h"
#include "observe/service_watch.h"
#include "support/servers.h"

namespace squall::observe {
namespace {

class LogTailTest : public testing::Test {
 protected:
  void append(std::string_view text) { std::ofstream(path_, std::ios::app) << text; }
  std::vector<std::string> poll(std::size_t limit = 1 << 20) {
    std::vector<std::string> lines;
    more_ = tail_.poll(limit, [&](std::string_view line) { lines.emplace_back(line); });
    return lines;
  }
  using Lines = std::vector<std::string>;

  test::TemporaryDirectory directory_;
  std::string path_ = directory_.path() + "/a.log";
  LogTail tail_{path_};
  bool more_ = false;
};

TEST_F(LogTailTest, GivesWhatIsAddedAndNothingOfBefore) {
  append("old\n");
  tail_.start();
  EXPECT_EQ(poll(), Lines{});
  append("one\r\ntwo\nhal");
  EXPECT_EQ(poll(), (Lines{"one", "two"}));
  append("f\n");
  EXPECT_EQ(poll(), Lines{"half"});
}

TEST_F(LogTailTest, AFileThatAppearsLaterIsReadFromItsBeginning) {
  tail_.start();
  EXPECT_EQ(poll(), Lines{});
  append("first\n");
  EXPECT_EQ(poll(), Lines{"first"});
}

TEST_F(LogTailTest, RotationLosesNothing) {
  append("old\n");
  tail_.start();
  append("last of the old\n");
  std::filesystem::rename(path_, path_ + ".1");
  append("first of the new\n");
  EXPECT_EQ(poll(), (Lines{"last of the old", "first of the new"}));
  append("second\n");
  EXPECT_EQ(poll(), Lines{"second"});
}

TEST_F(LogTailTest, ATruncatedFileIsReadFromItsBeginning) {
  append("a long line that was there\n");
  tail_.start();
  std::ofstream(path_, std::ios::trunc) << "new\n";
  EXPECT_EQ(poll(), Lines{"new"});
}

TEST_F(LogTailTest, LongLinesAreCut) {
  tail_.start();
  append(std::string(3 * LogTail::kLineMax, 'x') + "\nnext\n");
  const Lines lines = poll();
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0].size(), LogTail::kLineMax);
  EXPECT_EQ(lines[1], "next");
}

TEST_F(LogTailTest, ReadsNoMoreThanItsLimitAtOnce) {
  tail_.start();
  std::string text;
  for (int i = 0; i < 20'000; ++i) text += "0123456789\n";
  append(text);
  std::size_t lines = poll(64 * 1024).size();
  EXPECT_TRUE(more_);
  EXPECT_LT(lines, 20'000u);
  while (more_) lines += poll(64 * 1024).size();
  EXPECT_EQ(lines, 20'000u);
}

TEST_F(LogTailTest, AFolderOrAPipeIsNotFollowed) {
  std::filesystem::create_directory(path_);
  tail_.start();
  EXPECT_EQ(poll(), Lines{});
}

TEST(LineBudget, KeepsSoManyASecondAndARun) {
  LineBudget budget;
  base::Instant now{std::chrono::seconds(10)};
  int taken = 0;
  for (int i = 0; i < 100; ++i) taken += budget.take(now);
  EXPECT_EQ(taken, kLogLinesPerSecond);
  EXPECT_EQ(budget.suppressed(), 80u);
  for (int second = 0; second < 200; ++second) {
    now += std::chrono::seconds(1);
    for (int i = 0; i < 100; ++i) taken += budget.take(now);
  }
  EXPECT_EQ(taken, kLogLinesPerRun);
}

TEST(NumberText, ReadsNumbersAndTruthValues) {
  EXPECT_EQ(value_of_text(" 42 "), 42);
  EXPECT_EQ(value_of_text("-1.5e3"), -1500);
  EXPECT_EQ(value_of_text("t"), 1);
  EXPECT_EQ(value_of_text("false"), 0);
  for (const char* text : {"", "x", "1 2", "nan", "inf", "12x", "0x10"}) {
    EXPECT_EQ(value_of_text(text), std::nullopt) << text;
  }
  EXPECT_EQ(first_number_in("load: 12.5, 3"), 12.5);
  EXPECT_EQ(first_number_in("at -3 degrees"), -3);
  EXPECT_EQ(first_number_in("none - here"), std::nullopt);
}

}  // namespace
}  // namespace squall::observe
