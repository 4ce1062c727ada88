#include "base/ids.h"

#include <gtest/gtest.h>

#include <set>

#include "base/random.h"

namespace squall::base {
namespace {

using namespace std::chrono_literals;

TEST(RunId, IsAUuidOfVersion7) {
  // RFC 9562, appendix A.6: 2022-02-22 14:22:22 UTC-5 is 0x017F22E279B0 milliseconds.
  const RunId id = RunId::generate(WallTime{1645557742000ms});
  EXPECT_EQ(id.text().size(), 36u);
  EXPECT_EQ(id.text().substr(0, 15), "017f22e2-79b0-7");
  EXPECT_NE(std::string("89ab").find(id.text()[19]), std::string::npos);
  EXPECT_EQ(RunId::parse(id.text()).value(), id);
  EXPECT_EQ(id.short_text(), id.text().substr(28));
}

TEST(RunId, SortsByTimeEvenWithinAMillisecond) {
  const WallTime start{1'800'000'000s};
  for (int i = 0; i < 100; ++i) {
    EXPECT_LT(RunId::generate(start + i * 1us), RunId::generate(start + (i + 1) * 1us));
    EXPECT_LT(RunId::generate(start + i * 1ms), RunId::generate(start + (i + 1) * 1ms));
  }
}

TEST(RunId, IsUnique) {
  std::set<std::string> seen;
  for (int i = 0; i < 1000; ++i) seen.insert(RunId::generate(WallTime{5s}).text());
  EXPECT_EQ(seen.size(), 1000u);
}

TEST(RunId, ParseTakesEitherCaseAndRefusesTheRest) {
  const std::string good = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f";
  EXPECT_EQ(RunId::parse("017F22E2-79B0-7CC3-98C4-DC0C0C07398F").value().text(), good);
  for (const std::string bad :
       {"", "x", "017f22e2-79b0-4cc3-98c4-dc0c0c07398f", "017f22e2-79b0-7cc3-08c4-dc0c0c07398f",
        "017f22e279b0-7cc3-98c4-dc0c0c07398f--", "g17f22e2-79b0-7cc3-98c4-dc0c0c07398f"}) {
    EXPECT_EQ(RunId::parse(bad).error().code, ErrorCode::kUsage) << bad;
  }
  EXPECT_TRUE(RunId().empty());
  EXPECT_EQ(RunId().short_text(), "");
}

TEST(LeaseId, PrintsSixteenDigits) {
  EXPECT_EQ(LeaseId{0xAB}.text(), "00000000000000ab");
  EXPECT_NE(LeaseId::generate(), LeaseId::generate());
}

TEST(Random, IsTheSameEverywhere) {
  Random random(0);  // xoshiro256** from SplitMix64 of 0, as published implementations give it
  EXPECT_EQ(random.next(), 0x99EC5F36CB75F2B4u);
  EXPECT_EQ(random.next(), 0xBF6E1F784956452Au);
  EXPECT_EQ(random.next(), 0x1A5F849D4933E6E0u);
  EXPECT_EQ(random.next(), 0x6AA594F1262D2D2Cu);
  Random a(42);
  Random b(42);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(a.below(1000), b.below(1000));
  EXPECT_NE(Random(1).next(), Random(2).next());
}

TEST(Random, StaysInRangeAndReachesAll) {
  Random random(7);
  std::set<std::uint64_t> seen;
  for (int i = 0; i < 1000; ++i) {
    const auto value = random.below(6);
    ASSERT_LT(value, 6u);
    seen.insert(value);
    const double uniform = random.uniform();
    ASSERT_GE(uniform, 0);
    ASSERT_LT(uniform, 1);
    ASSERT_EQ(random.below(1), 0u);
    ASSERT_LT(random.below(UINT64_MAX), UINT64_MAX);
  }
  EXPECT_EQ(seen.size(), 6u);
}

TEST(Random, HasTheStatedMoments) {
  Random random(11);
  constexpr int kCount = 200'000;
  double exponential = 0;
  double normal = 0;
  double square = 0;
  for (int i = 0; i < kCount; ++i) {
    exponential += random.exponential(3);
    const double value = random.normal();
    normal += value;
    square += value * value;
  }
  EXPECT_NEAR(exponential / kCount, 3, 0.05);
  EXPECT_NEAR(normal / kCount, 0, 0.02);
  EXPECT_NEAR(square / kCount, 1, 0.02);
}

}  // namespace
}  // namespace squall::base
