#include <gtest/gtest.h>

#include "inject/faults/container/containers.h"
#include "inject/faults/failover/redis_exchange.h"

namespace squall::inject {
namespace {

TEST(ContainerState, IsReadAsDockerAndPodmanWriteIt) {
  const auto running = parse_container_state(
      R"({"State": {"Status": "running", "Running": true, "Paused": false, "Pid": 42,
          "StartedAt": "2026-11-21T16:53:30Z"}, "HostConfig": {"AutoRemove": true}})");
  ASSERT_TRUE(running.ok());
  EXPECT_TRUE(running->running);
  EXPECT_FALSE(running->paused);
  EXPECT_TRUE(running->removes_itself);
  EXPECT_EQ(running->pid, 42);
  // Podman: a paused container does not run; Docker: it does.
  for (const char* text : {R"({"State": {"Running": false, "Paused": true, "Pid": 42}})",
                           R"({"State": {"Running": true, "Paused": true, "Pid": 42}})"}) {
    const auto paused = parse_container_state(text);
    ASSERT_TRUE(paused.ok());
    EXPECT_TRUE(paused->running);
    EXPECT_TRUE(paused->paused);
  }
  for (const char* text : {"", "[]", "{}", R"({"State": 3})", "nonsense"})
    EXPECT_FALSE(parse_container_state(text).ok()) << text;
}

TEST(RedisReplies, AreTakenWholeHoweverTheyArrive) {
  const std::string role =
      "*3\r\n$6\r\nmaster\r\n:3129659\r\n*1\r\n*3\r\n$9\r\n127.0.0.1\r\n$4\r\n9001\r\n$1\r\n0\r\n";
  for (std::size_t cut = 0; cut < role.size(); ++cut) {
    std::string bytes = role.substr(0, cut);
    const auto part = take_redis_reply(bytes);
    ASSERT_TRUE(part.ok()) << cut;
    EXPECT_FALSE(part->has_value()) << cut;
  }
  std::string bytes = role + "+OK\r\n";
  const auto whole = take_redis_reply(bytes);
  ASSERT_TRUE(whole.ok() && whole->has_value());
  ASSERT_EQ((*whole)->items.size(), 3u);
  EXPECT_EQ((*whole)->items[0].text, "master");
  EXPECT_EQ((*whole)->items[1].integer, 3129659);
  EXPECT_EQ((*whole)->items[2].items[0].items[1].text, "9001");
  EXPECT_EQ(bytes, "+OK\r\n");
  for (const std::string wrong :
       {"HTTP/1.1 200 OK\r\n", ":x\r\n", "$-2\r\n", "$99999999999\r\n", "*99999999999999999999\r\n",
        "$1\r\nab\r\n", "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n", "\r\n"}) {
    std::string input = wrong;
    EXPECT_FALSE(take_redis_reply(input).ok()) << wrong;
  }
}

TEST(RedisReplies, ACommandSaysHowLongItsWordsAre) {
  EXPECT_EQ(redis_command({"AUTH", "a\r\nb", ""}),
            "*3\r\n$4\r\nAUTH\r\n$4\r\na\r\nb\r\n$0\r\n\r\n");
}

}  // namespace
}  // namespace squall::inject
