#include "base/units.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <limits>

namespace squall::base {
namespace {

using namespace std::chrono_literals;

TEST(Units, ParsesEachDimension) {
  EXPECT_EQ(parse_duration("1.5s").value(), 1500ms);
  EXPECT_EQ(parse_duration("250ms").value(), 250ms);
  EXPECT_EQ(parse_duration("2 min").value(), 2min);
  EXPECT_EQ(parse_duration(" 1h ").value(), 1h);
  EXPECT_EQ(parse_duration("1d").value(), 24h);
  EXPECT_EQ(parse_duration("7us").value(), 7us);
  EXPECT_EQ(parse_duration("1e3ns").value(), 1us);
  EXPECT_EQ(parse_duration("-5min").value(), -5min);
  EXPECT_EQ(parse_duration(".5s").value(), 500ms);
  EXPECT_EQ(parse_duration("0").value(), 0ns);
  EXPECT_EQ(parse_size("64KiB").value(), 65536u);
  EXPECT_EQ(parse_size("1.5MB").value(), 1'500'000u);
  EXPECT_EQ(parse_size("1TiB").value(), std::uint64_t{1} << 40);
  EXPECT_EQ(parse_rate("200/s").value(), 200);
  EXPECT_EQ(parse_rate("10/min").value(), 10.0 / 60);
  EXPECT_EQ(parse_share("99.95%").value(), 0.9995);
  EXPECT_EQ(parse_share("0.995").value(), 0.995);
  EXPECT_EQ(parse_quantity("3").value().dimension, Dimension::kNumber);
  EXPECT_EQ(parse_quantity("99.5%").value().value, 0.995);
  EXPECT_EQ(parse_quantity("250ms").value().value, 0.25);
  EXPECT_EQ(parse_quantity("250ms").value().dimension, Dimension::kDuration);
}

TEST(Units, RefusesWithTheRemedy) {
  EXPECT_EQ(parse_duration("5").error().message, "`5` has no unit");
  EXPECT_EQ(parse_duration("5").error().hint, "write a duration such as 250ms, 1.5s or 2min");
  EXPECT_EQ(parse_duration("5m").error().hint, "write `min` for minutes or `ms` for milliseconds");
  EXPECT_EQ(parse_duration("5sec").error().hint, "write `s` for seconds");
  EXPECT_EQ(parse_size("64kib").error().hint, "did you mean `KiB`?");
  EXPECT_EQ(parse_duration("64KiB").error().message, "`64KiB` is not a duration");
  EXPECT_EQ(parse_share("150%").error().message, "`150%` is not between 0% and 100%");
  EXPECT_EQ(parse_share("99.5").error().hint, "did you mean `99.5%`?");
  EXPECT_FALSE(parse_size("-1B").ok());
  EXPECT_FALSE(parse_rate("-1/s").ok());
  EXPECT_FALSE(parse_quantity("").ok());
  EXPECT_FALSE(parse_quantity("abc").ok());
  EXPECT_FALSE(parse_quantity("1.s").ok());
  EXPECT_FALSE(parse_quantity("1..5s").ok());
  EXPECT_FALSE(parse_quantity("0x10").ok());
  EXPECT_FALSE(parse_quantity("inf").ok());
  EXPECT_FALSE(parse_quantity("1e999").ok());
  EXPECT_FALSE(parse_duration("9999999999999s").ok());
  EXPECT_FALSE(parse_duration("1e300d").ok());
  EXPECT_EQ(parse_quantity("1\x1bs").error().message.find('\x1b'), std::string::npos);
}

TEST(Units, PrintsTheShortestText) {
  EXPECT_EQ(format_duration(1500ms), "1.5s");
  EXPECT_EQ(format_duration(250ms), "250ms");
  EXPECT_EQ(format_duration(2min), "2min");
  EXPECT_EQ(format_duration(90s), "90s");
  EXPECT_EQ(format_duration(10min), "10min");
  EXPECT_EQ(format_duration(36h), "36h");
  EXPECT_EQ(format_duration(48h), "2d");
  EXPECT_EQ(format_duration(0ns), "0s");
  EXPECT_EQ(format_duration(-5min), "-5min");
  EXPECT_EQ(format_duration(1ns), "1ns");
  EXPECT_EQ(format_size(65536), "64KiB");
  EXPECT_EQ(format_size(1'000'000), "1MB");
  EXPECT_EQ(format_size(1500), "1500B");
  EXPECT_EQ(format_size(0), "0B");
  EXPECT_EQ(format_rate(200), "200/s");
  EXPECT_EQ(format_rate(10.0 / 60), "10/min");
  EXPECT_EQ(format_rate(0.5), "0.5/s");
  EXPECT_EQ(format_share(0.995), "99.5%");
  EXPECT_EQ(format_share(0.9995), "99.95%");
  EXPECT_EQ(format_share(1), "100%");
  EXPECT_EQ(format_quantity({0.25, Dimension::kDuration}), "250ms");
  EXPECT_EQ(format_quantity({120, Dimension::kDuration}), "2min");
  EXPECT_EQ(format_quantity({65536, Dimension::kSize}), "64KiB");
  EXPECT_EQ(format_quantity({-3.5, Dimension::kNumber}), "-3.5");
}

TEST(Units, EveryDurationAndSizeRoundTrips) {
  EXPECT_TRUE(rc::check("durations", [](std::int64_t nanoseconds) {
    const Duration duration{nanoseconds};
    RC_ASSERT(parse_duration(format_duration(duration)).value() == duration);
  }));
  EXPECT_TRUE(rc::check("whole seconds", [] {
    const Duration duration = std::chrono::seconds(*rc::gen::inRange(0, 10'000'000));
    RC_ASSERT(parse_duration(format_duration(duration)).value() == duration);
  }));
  EXPECT_TRUE(rc::check("sizes", [](std::uint64_t bytes) {
    bytes >>= 1;
    RC_ASSERT(parse_size(format_size(bytes)).value() == bytes);
  }));
  const Duration longest{std::numeric_limits<std::int64_t>::max()};
  EXPECT_EQ(parse_duration(format_duration(longest)).value(), longest);
}

TEST(Units, EveryQuantityRoundTrips) {
  const auto round_trips = [](double value, Dimension dimension) {
    const std::string text = format_quantity({value, dimension});
    const auto back = parse_quantity(text);
    RC_ASSERT(back.ok());
    RC_ASSERT(back->value == value);
    RC_ASSERT(back->dimension == dimension);
  };
  for (const Dimension dimension : {Dimension::kNumber, Dimension::kShare, Dimension::kDuration,
                                    Dimension::kRate, Dimension::kSize}) {
    EXPECT_TRUE(rc::check("any number", [&](double value) {
      RC_PRE(std::isfinite(value));
      round_trips(value, dimension);
    }));
    EXPECT_TRUE(rc::check("what people write", [&] {
      const auto thousandths = *rc::gen::inRange(0, 100'000'000);
      round_trips(thousandths / 1000.0, dimension);
    }));
  }
}

TEST(Units, NoTextCrashesTheParser) {
  EXPECT_TRUE(rc::check("any text", [](const std::string& text) {
    static_cast<void>(parse_quantity(text));
    static_cast<void>(parse_duration(text));
    static_cast<void>(parse_size(text));
  }));
  EXPECT_TRUE(rc::check("nearly right text", [] {
    const auto text = *rc::gen::container<std::string>(
        rc::gen::elementOf(std::string("0123456789.e-+ smhdunBKMGTi%/")));
    static_cast<void>(parse_quantity(text));
    static_cast<void>(parse_duration(text));
    static_cast<void>(parse_size(text));
    static_cast<void>(parse_share(text));
  }));
}

TEST(Units, HumanizesToThreeDigits) {
  EXPECT_EQ(humanize(Duration(1234567890)), "1.23s");
  EXPECT_EQ(humanize(Duration(999'999)), "1ms");
  EXPECT_EQ(humanize(Duration(90s)), "90s");
  EXPECT_EQ(humanize(Duration(150s)), "2.5min");
  EXPECT_EQ(humanize(Duration(0)), "0s");
  EXPECT_EQ(humanize(Duration(42)), "42ns");
  EXPECT_EQ(humanize(Quantity{0.9995, Dimension::kShare}), "99.95%");
  EXPECT_EQ(humanize(Quantity{0.99999, Dimension::kShare}), "99.999%");
  EXPECT_EQ(humanize(Quantity{0.12345, Dimension::kShare}), "12.3%");
  EXPECT_EQ(humanize(Quantity{1, Dimension::kShare}), "100%");
  EXPECT_EQ(humanize(Quantity{0, Dimension::kShare}), "0%");
  EXPECT_EQ(humanize(Quantity{4000, Dimension::kNumber}), "4,000");
  EXPECT_EQ(humanize(Quantity{-1234567.8, Dimension::kNumber}), "-1,234,568");
  EXPECT_EQ(humanize(Quantity{0.012345, Dimension::kNumber}), "0.0123");
  EXPECT_EQ(humanize(Quantity{199.96, Dimension::kRate}), "200/s");
  EXPECT_EQ(humanize(Quantity{1536, Dimension::kSize}), "1.5KiB");
  EXPECT_EQ(humanize(Quantity{std::numeric_limits<double>::quiet_NaN()}), "no value");
  EXPECT_EQ(humanize_count(1234567), "1,234,567");
  EXPECT_EQ(humanize_count(12), "12");
}

}  // namespace
}  // namespace squall::base
