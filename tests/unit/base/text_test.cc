#include "base/text.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "base/clock.h"
#include "base/log.h"

namespace squall::base {
namespace {

TEST(Text, NearestFindsTypingMistakes) {
  const std::vector<std::string> kinds{"network.latency", "process.kill", "process.pause"};
  EXPECT_EQ(nearest("network.latencey", kinds), "network.latency");
  EXPECT_EQ(nearest("process.kil", kinds), "process.kill");
  EXPECT_EQ(nearest("Process.Kill", kinds), "process.kill");
  EXPECT_EQ(nearest("prcoess.pause", kinds), "process.pause");
  EXPECT_EQ(nearest("disk.full", kinds), "");
  EXPECT_EQ(nearest("", kinds), "");
  EXPECT_EQ(nearest("a", std::vector<std::string>{"b"}), "");
  EXPECT_EQ(nearest("x", std::vector<std::string>{}), "");
  EXPECT_EQ(nearest("dealy", std::vector<std::string>{"", "delay"}), "delay");
  EXPECT_EQ(did_you_mean("dealy", {"delay"}), " Did you mean `delay`?");
  EXPECT_EQ(did_you_mean("zzz", {"delay"}), "");
}

TEST(Text, Utf8IsCheckedStrictly) {
  EXPECT_TRUE(is_valid_utf8("plain, é, €, 😀"));
  EXPECT_FALSE(is_valid_utf8("\xC0\x80"));          // overlong
  EXPECT_FALSE(is_valid_utf8("\xE0\x80\x80"));      // overlong
  EXPECT_FALSE(is_valid_utf8("\xED\xA0\x80"));      // surrogate
  EXPECT_FALSE(is_valid_utf8("\xF4\x90\x80\x80"));  // above U+10FFFF
  EXPECT_FALSE(is_valid_utf8("\x80"));
  EXPECT_FALSE(is_valid_utf8("\xE2\x82"));  // cut
  EXPECT_TRUE(rc::check([](const std::string& text) {
    RC_ASSERT(is_valid_utf8(printable(text)));
    RC_ASSERT(is_valid_utf8(valid_utf8(text)));
    for (const char c : printable(text)) RC_ASSERT(static_cast<unsigned char>(c) >= 0x20);
  }));
}

TEST(Text, PrintableDisarmsTerminals) {
  EXPECT_EQ(printable("a\x1b[31mred\n\t\x7f"), "a\\x1b[31mred\\n\\t\\x7f");
  EXPECT_EQ(printable("caf\xC3\xA9 \xFF"), "café \\xff");
  EXPECT_EQ(printable("\xC2\x9B"
                      "1m"),
            "\\u009b1m");  // the C1 form of ESC [
  EXPECT_EQ(printable("a\xE2\x80\xAE"
                      "b"),
            "a\\u202eb");  // right-to-left override
}

TEST(Text, CountsInWords) {
  EXPECT_EQ(counted(0, "fault"), "0 faults");
  EXPECT_EQ(counted(1, "fault"), "1 fault");
  EXPECT_EQ(counted(1, "process", "processes"), "1 process");
  EXPECT_EQ(counted(2, "process", "processes"), "2 processes");
}

TEST(Text, SplitTrimJoin) {
  EXPECT_EQ(split("a,b,,c", ','), (std::vector<std::string>{"a", "b", "", "c"}));
  EXPECT_EQ(split("", ','), (std::vector<std::string>{""}));
  EXPECT_EQ(trim(" \t x y \n"), "x y");
  EXPECT_EQ(trim(" \t"), "");
  EXPECT_EQ(join({"a", "b"}, "/"), "a/b");
  EXPECT_EQ(enumerate({}), "");
  EXPECT_EQ(enumerate({"a"}), "a");
  EXPECT_EQ(enumerate({"a", "b"}), "a and b");
  EXPECT_EQ(enumerate({"a", "b", "c"}), "a, b and c");
}

TEST(Log, WritesOneLineAnEvent) {
  testing::internal::CaptureStderr();
  log_info("not shown at the default level");
  log_warning("holder is slow", {{"lease", "ab"}, {"why", "busy \x1b[2J host"}, {"none", ""}});
  set_log_format(LogFormat::kJson);
  log_error("line\nbreak", {{"key", "\xFF"}});
  set_log_format(LogFormat::kText);
  const auto lines = split(testing::internal::GetCapturedStderr(), '\n');
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_NE(
      lines[0].find("Z warning: holder is slow lease=ab why=\"busy \\x1b[2J host\" none=\"\""),
      std::string::npos)
      << lines[0];
  EXPECT_NE(lines[1].find(R"("level":"error","message":"line\nbreak")"), std::string::npos)
      << lines[1];
}

TEST(Log, HidesSecrets) {
  EXPECT_EQ(redacted("postgres://user:pass@host:5432/db?x=1"),
            "postgres://user:***@host:5432/db?x=1");
  EXPECT_EQ(redacted("postgres://u:p@ss@host/db and redis://:pw@h/0"),
            "postgres://u:***@host/db and redis://:***@h/0");
  EXPECT_EQ(redacted("http://host:80/a@b"), "http://host:80/a@b");
  EXPECT_EQ(redacted("host=h password=abc user=u"), "host=h password=*** user=u");
  EXPECT_EQ(redacted("host=h PASSWORD = 'a b' user=u"), "host=h PASSWORD = '***' user=u");
  EXPECT_EQ(redacted("{\"token\": \"abc\", \"n\": 1}"), "{\"token\": \"***\", \"n\": 1}");
  EXPECT_EQ(redacted("password"), "password");
  EXPECT_EQ(redacted("the token bucket is full: 3"), "the token bucket is full: 3");
  EXPECT_TRUE(rc::check([](const std::string& text) {
    static_cast<void>(redacted(text));
    static_cast<void>(redacted("://" + text + "@" + text));
    static_cast<void>(redacted("token=" + text + "pwd:'" + text));
  }));
}

TEST(Clock, FormatsWallTimeInUtc) {
  EXPECT_EQ(format_wall_time(WallTime{std::chrono::milliseconds(1795254665123)}),
            "2026-11-21T09:51:05.123Z");
  EXPECT_EQ(format_wall_time(WallTime{}), "1970-01-01T00:00:00.000Z");
}

TEST(Clock, VirtualTimeMovesOnlyWhenTold) {
  using namespace std::chrono_literals;
  VirtualClock clock;
  const Instant start = clock.now();
  const WallTime wall = clock.wall_now();
  clock.advance(5s);
  EXPECT_EQ(clock.now() - start, 5s);
  EXPECT_EQ(clock.wall_now() - wall, 5s);
  clock.set_wall(wall - 1h);  // an operator sets the clock back
  EXPECT_EQ(clock.now() - start, 5s);
  EXPECT_EQ(clock.wall_now(), wall - 1h);
}

TEST(Clock, RealClocksAdvance) {
  const Instant before = real_clock().now();
  EXPECT_LE(before, real_clock().now());
  EXPECT_GT(real_clock().wall_now(), WallTime{std::chrono::hours(24 * 365 * 55)});
  EXPECT_EQ(instant_from_nanoseconds(to_nanoseconds(before)), before);
}

}  // namespace
}  // namespace squall::base
