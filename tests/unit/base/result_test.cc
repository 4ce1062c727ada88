#include "base/result.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>

#include "base/exit_status.h"

namespace squall::base {
namespace {

Result<int> halve(int value) {
  if (value % 2 != 0) return Error{.code = ErrorCode::kUsage, .message = "odd"};
  return value / 2;
}

Status check_halves(int value) {
  SQUALL_TRY(halve(value));
  SQUALL_ASSIGN(const int half, halve(value));
  SQUALL_TRY(halve(half));
  return {};
}

TEST(Result, PassesErrorsUp) {
  EXPECT_TRUE(check_halves(8).ok());
  EXPECT_EQ(check_halves(7).error().message, "odd");
  EXPECT_EQ(check_halves(6).error().code, ErrorCode::kUsage);
}

TEST(Result, MovesValuesThatCannotBeCopied) {
  Result<std::unique_ptr<int>> result = std::make_unique<int>(4);
  std::unique_ptr<int> taken = std::move(result).value();
  EXPECT_EQ(*taken, 4);
  EXPECT_EQ(halve(3).value_or(-1), -1);
  EXPECT_EQ(halve(4).value_or(-1), 2);
}

TEST(Result, ContextIsInnermostFirst) {
  const Error error =
      Error{.message = "no answer"}.within("asking db").within("arming worker-outage");
  EXPECT_EQ(error.to_string(), "no answer (while asking db, while arming worker-outage)");
  EXPECT_EQ(Error{.message = "no answer"}.to_string(), "no answer");
}

TEST(Result, SystemErrorsChooseACode) {
  EXPECT_EQ(system_error("open /x", EACCES).to_string(), "open /x: Permission denied");
  EXPECT_EQ(system_error("open", EACCES).code, ErrorCode::kPermission);
  EXPECT_EQ(system_error("open", ENOENT).code, ErrorCode::kNotFound);
  EXPECT_EQ(system_error("connect", ECONNREFUSED).code, ErrorCode::kUnavailable);
  EXPECT_EQ(system_error("write", ENOSPC).code, ErrorCode::kExhausted);
  EXPECT_FALSE(system_error("write", ENOSPC).hint.empty());
  EXPECT_EQ(system_error("odd", 98765).message, "odd: error number 98765");
}

TEST(ResultDeathTest, ValueOfAnErrorEndsTheProcess) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto wrong = halve(3);
  EXPECT_DEATH(static_cast<void>(wrong.value()), "internal error: ok\\(\\) is false");
}

TEST(ExitStatus, FollowsTheDocumentedTable) {
  EXPECT_EQ(exit_status_of(ErrorCode::kInternal), ExitStatus::kToolError);
  EXPECT_EQ(exit_status_of(ErrorCode::kUsage), ExitStatus::kUsage);
  EXPECT_EQ(exit_status_of(ErrorCode::kBadFile), ExitStatus::kUsage);
  EXPECT_EQ(exit_status_of(ErrorCode::kBlocked), ExitStatus::kBlocked);
  EXPECT_EQ(exit_status_of(ErrorCode::kAborted), ExitStatus::kAborted);
  EXPECT_EQ(exit_status_of(ErrorCode::kStopped), ExitStatus::kStopped);
  EXPECT_EQ(exit_status_of(ErrorCode::kRevertNotVerified), ExitStatus::kRevertNotVerified);
}

TEST(ExitStatus, TheWorstNewsWins) {
  using enum ExitStatus;
  EXPECT_EQ(most_important({kHeld}), kHeld);
  EXPECT_EQ(most_important({kHeld, kInconclusive}), kInconclusive);
  EXPECT_EQ(most_important({kInconclusive, kViolated, kHeld}), kViolated);
  EXPECT_EQ(most_important({kViolated, kBlocked}), kBlocked);
  EXPECT_EQ(most_important({kBlocked, kAborted}), kAborted);
  EXPECT_EQ(most_important({kAborted, kStopped}), kStopped);
  EXPECT_EQ(most_important({kStopped, kToolError}), kToolError);
  EXPECT_EQ(most_important({kToolError, kHeld, kRevertNotVerified}), kRevertNotVerified);
}

}  // namespace
}  // namespace squall::base
