#include "host/proc_files.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "host/containers.h"

namespace squall::host {
namespace {

const std::string kId = std::string(32, 'a') + std::string(32, '7');

TEST(ProcFiles, StatWithAnyName) {
  const std::string rest =
      " S 1 4 4 0 -1 4194560 100 200 0 0 12 34 0 0 20 0 5 0 6789 1000000 250 18446744073709551615";
  const std::string plain = "42 (redis-server)" + rest;
  const auto stat = parse_stat(plain);
  ASSERT_TRUE(stat.has_value());
  EXPECT_EQ(stat->name, "redis-server");
  EXPECT_EQ(stat->state, 'S');
  EXPECT_EQ(stat->parent, 1);
  EXPECT_EQ(stat->user_ticks, 12u);
  EXPECT_EQ(stat->system_ticks, 34u);
  EXPECT_EQ(stat->threads, 5u);
  EXPECT_EQ(stat->start_time, 6789u);
  EXPECT_EQ(stat->resident_pages, 250u);
  EXPECT_FALSE(stat->kernel_thread);
  const std::string hostile = "42 (a) R 7 (b)" + rest;
  EXPECT_EQ(parse_stat(hostile).value().name, "a) R 7 (b");
  EXPECT_EQ(parse_stat(hostile).value().parent, 1);
  EXPECT_TRUE(parse_stat("2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 1 0 0 0")
                  .value()
                  .kernel_thread);
}

TEST(ProcFiles, NothingMakesTheParsersFall) {
  for (const char* bad : {"", "1", "1 (", "1 (x", "1 (x)", "1 (x) ", "1 )x( S 1", "1 (x) S 1 2 3"})
    EXPECT_FALSE(parse_stat(bad).has_value()) << bad;
  EXPECT_TRUE(rc::check([](const std::string& text) {
    static_cast<void>(parse_stat(text));
    static_cast<void>(parse_stat("1 (" + text + ") " + text));
    static_cast<void>(parse_status_user(text));
    static_cast<void>(parse_cmdline(text));
    static_cast<void>(parse_cgroup_path(text));
    static_cast<void>(parse_container_id(text));
    static_cast<void>(parse_link_inode(text, "net"));
    static_cast<void>(parse_containers(text));
  }));
}

TEST(ProcFiles, StatusUserCannotBeForgedByTheName) {
  EXPECT_EQ(parse_status_user("Name:\tUid:\t0\nState:\tS\nUid:\t0\t105\t105\t105\n"), 105u);
  EXPECT_EQ(parse_status_user("Name:\tx\n"), std::nullopt);
}

TEST(ProcFiles, Cmdline) {
  using Arguments = std::vector<std::string>;
  EXPECT_EQ(parse_cmdline(std::string_view("a\0b c\0\0d\0", 9)), (Arguments{"a", "b c", "", "d"}));
  EXPECT_EQ(parse_cmdline(std::string_view("title: x\0\0\0", 11)), (Arguments{"title: x"}));
  EXPECT_EQ(parse_cmdline(""), Arguments{});
}

TEST(ProcFiles, CgroupPathIsThatOfTheSecondVersion) {
  EXPECT_EQ(parse_cgroup_path("0::/system.slice/redis.service\n"), "/system.slice/redis.service");
  EXPECT_EQ(parse_cgroup_path("4:memory:/a\n1:cpu:/b\n0::/c\n"), "/c");
  EXPECT_EQ(parse_cgroup_path("4:memory:/a\n"), "");
}

TEST(ProcFiles, ContainerIdsOfTheUsualEngines) {
  for (const std::string& path :
       {"0::/system.slice/docker-" + kId + ".scope\n", "4:memory:/docker/" + kId + "\n0::/\n",
        "0::/machine.slice/libpod-" + kId + ".scope/container\n",
        "0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-" + kId + ".scope\n",
        "0::/kubepods/besteffort/pod1/" + kId + "\n",
        "0::/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:" + kId + "\n"})
    EXPECT_EQ(parse_container_id(path), kId) << path;
  EXPECT_EQ(parse_container_id("0::/machine.slice/libpod-conmon-" + kId + ".scope\n"), "");
  EXPECT_EQ(parse_container_id("0::/user.slice/session-3.scope\n"), "");
  EXPECT_EQ(parse_container_id("4:memory:/jobs/" + kId.substr(0, 32) + "\n"), "");
}

TEST(ProcFiles, LinkInodes) {
  EXPECT_EQ(parse_link_inode("net:[4026531840]", "net"), 4026531840u);
  EXPECT_EQ(parse_link_inode("socket:[77]", "socket"), 77u);
  EXPECT_EQ(parse_link_inode("pipe:[77]", "socket"), 0u);
  EXPECT_EQ(parse_link_inode("/tmp/socket:[77]", "socket"), 0u);
  EXPECT_EQ(parse_link_inode("", "socket"), 0u);
}

TEST(Containers, AreReadFromTheEnginesAnswer) {
  const auto containers = parse_containers(R"([
    {"Id": "abc", "Names": ["/queue"], "Image": "redis:7", "Labels": {"app": "queue", "n": 1}},
    {"Id": "", "Names": []}, 7, {"Id": "def", "Names": null, "Labels": null}])");
  ASSERT_TRUE(containers.ok());
  ASSERT_EQ(containers->size(), 2u);
  EXPECT_EQ((*containers)[0].id, "abc");
  EXPECT_EQ((*containers)[0].name, "queue");
  EXPECT_EQ((*containers)[0].image, "redis:7");
  EXPECT_EQ((*containers)[0].labels.at("app"), "queue");
  EXPECT_EQ((*containers)[1].name, "");
  EXPECT_FALSE(parse_containers("{}").ok());
  EXPECT_FALSE(parse_containers("nonsense").ok());
}

}  // namespace
}  // namespace squall::host
