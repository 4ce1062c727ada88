#include <arpa/inet.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/statvfs.h>

#include <fstream>
#include <set>

#include "integration/inject/fixture.h"
#include "support/servers.h"

namespace squall::inject {
namespace {

constexpr std::uint64_t kMiB = 1024 * 1024;

class ResourceFaults : public InjectTest {
 protected:
  base::ProcessIdentity holder() {
    const auto active = active_leases(state_);
    return active.ok() && !active->empty() ? (*active)[0].holder : base::ProcessIdentity{};
  }
  // Arms, and says what proved the effect.
  LeaseEvent put_in_force(const model::FaultBinding& binding) {
    lease_ = arm(binding);
    return wait_for(LeaseState::kEffective);
  }
  LeaseEvent take_away() {
    EXPECT_TRUE(client_->revert(lease_, "asked").ok());
    return wait_for(LeaseState::kVerified);
  }
  void expect_rehearsal(const model::FaultBinding& binding) {
    const auto rehearsed = client_->rehearse(binding);
    ASSERT_TRUE(rehearsed.ok()) << rehearsed.error().to_string();
    EXPECT_NE(rehearsed->find("reverted and verified"), std::string::npos);
  }
  void expect_refused(const std::string& kind, Json parameters, const std::string& reason) {
    const auto binding = try_bind(kind, std::move(parameters));
    ASSERT_FALSE(binding.ok()) << reason;
    EXPECT_NE(binding.error().message.find(reason), std::string::npos) << binding.error().message;
    EXPECT_FALSE(binding.error().hint.empty());
  }

  base::LeaseId lease_;
};

// ---- resource.disk_fill --------------------------------------------------------------------

class DiskFill : public ResourceFaults {
 protected:
  void SetUp() override {
    ResourceFaults::SetUp();
    if (IsSkipped()) return;
    enter_own_mounts();
    disk_ = folder_ + "/disk";
    std::filesystem::create_directory(disk_);
  }
  void TearDown() override {
    client_.reset();
    ::umount2(disk_.c_str(), MNT_DETACH);
    ResourceFaults::TearDown();
  }
  void mount_tmpfs(const std::string& size) {
    ASSERT_EQ(::mount("none", disk_.c_str(), "tmpfs", 0, ("size=" + size).c_str()), 0);
  }
  // False when this machine has no loop devices.
  bool mount_image(const std::string& type) {
    const std::string image = folder_ + "/image";
    std::ofstream(image).close();
    std::filesystem::resize_file(image, 64 * kMiB);
    const auto made = base::run_command({.argv = {"mkfs." + type, "-q", "-F", image}}, 30s);
    const auto mounted = base::run_command({.argv = {"mount", "-o", "loop", image, disk_}}, 30s);
    return made.ok() && made->exit_status == 0 && mounted.ok() && mounted->exit_status == 0;
  }
  static Json leave(const std::string& path, const std::string& amount, bool reserve = false) {
    return {{"path", path}, {"leave", amount}, {"reserve", reserve}};
  }
  struct statvfs space() const {
    struct statvfs info {};
    EXPECT_EQ(::statvfs(disk_.c_str(), &info), 0);
    return info;
  }
  // The error of writing so many bytes to a new file, 0 when they could be written.
  int write_bytes(std::uint64_t bytes) const {
    const std::string path = disk_ + "/written";
    const base::UniqueFd file{::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600)};
    int error = file ? 0 : errno;
    const std::vector<char> piece(65536, 'x');
    for (std::uint64_t done = 0; error == 0 && done < bytes; done += piece.size()) {
      if (::write(file.get(), piece.data(), piece.size()) < 0) error = errno;
    }
    if (error == 0 && ::fsync(file.get()) != 0) error = errno;
    ::unlink(path.c_str());
    return error;
  }

  std::string disk_;
};

TEST_F(DiskFill, WhoWritesMoreThanIsLeftGetsENOSPC) {
  mount_tmpfs("64m");
  const auto before = space();
  const auto binding = bind_or_die("resource.disk_fill", leave(disk_, "1MiB"));
  start_holder();
  expect_rehearsal(binding);
  EXPECT_EQ(space().f_bfree, before.f_bfree);
  const auto effective = put_in_force(binding);
  EXPECT_NE(effective.text.find("is free"), std::string::npos) << effective.text;
  EXPECT_LE(space().f_bavail * space().f_frsize, kMiB + 4096);
  EXPECT_EQ(write_bytes(kMiB / 2), 0);
  EXPECT_EQ(write_bytes(2 * kMiB), ENOSPC);
  take_away();
  EXPECT_EQ(space().f_bfree, before.f_bfree);
  EXPECT_EQ(write_bytes(2 * kMiB), 0);
}

TEST_F(DiskFill, AKilledHolderGivesTheSpaceBack) {
  mount_tmpfs("64m");
  const auto before = space();
  start_holder();
  put_in_force(bind_or_die("resource.disk_fill", leave(disk_, "0")));
  EXPECT_EQ(write_bytes(65536), ENOSPC);
  kill_holder();
  await_replay();
  EXPECT_EQ(space().f_bfree, before.f_bfree);
}

TEST_F(DiskFill, ASizeIsTakenAndAShareIsLeft) {
  mount_tmpfs("64m");
  const auto before = space();
  start_holder();
  put_in_force(bind_or_die("resource.disk_fill",
                           {{"path", disk_}, {"size", 16 * kMiB}, {"reserve", false}}));
  EXPECT_EQ((before.f_bfree - space().f_bfree) * before.f_frsize, 16 * kMiB);
  // One filesystem is filled once.
  arm(bind_or_die("resource.disk_fill", leave(disk_, "1MiB")));
  EXPECT_NE(wait_for(LeaseState::kFailed).text.find("already under the fault"), std::string::npos);
  take_away();
  put_in_force(bind_or_die("resource.disk_fill", leave(disk_, "25%")));
  EXPECT_NEAR(static_cast<double>(space().f_bavail * space().f_frsize), 16.0 * kMiB, 65536.0);
  take_away();
  EXPECT_EQ(space().f_bfree, before.f_bfree);
}

TEST_F(DiskFill, ARealDiskIsFullForRootToo) {
  if (!mount_image("ext4")) GTEST_SKIP() << "no loop device or no mkfs.ext4";
  const auto before = space();
  start_holder();
  const auto binding = bind_or_die("resource.disk_fill", leave(disk_, "0", true));
  expect_rehearsal(binding);
  put_in_force(binding);
  EXPECT_EQ(write_bytes(kMiB), ENOSPC);
  EXPECT_EQ(space().f_bavail, 0u);
  take_away();
  EXPECT_NEAR(static_cast<double>(space().f_bfree), static_cast<double>(before.f_bfree), 64);
  EXPECT_EQ(write_bytes(kMiB), 0);
}

TEST_F(DiskFill, AFilesystemThatCannotSetSpaceAsideIsRefusedWhenRehearsed) {
  if (!mount_image("ext2")) GTEST_SKIP() << "no loop device or no mkfs.ext2";
  const auto binding = bind_or_die("resource.disk_fill", leave(disk_, "1MiB"));
  start_holder();
  const auto rehearsed = client_->rehearse(binding);
  ASSERT_FALSE(rehearsed.ok());
  EXPECT_NE(rehearsed.error().message.find("fallocate"), std::string::npos);
  EXPECT_EQ(rehearsed.error().code, base::ErrorCode::kUnsupported);
}

TEST_F(DiskFill, WhatMustNotBeFilledIsRefused) {
  mount_tmpfs("64m");
  const std::string kind = "resource.disk_fill";
  expect_refused(kind, leave(folder_, "1MiB"), "lies on the same filesystem as " + state_);
  expect_refused(kind, leave(disk_ + "/missing", "1MiB"), "there is no folder");
  expect_refused(kind, leave("/proc", "1MiB"), "has no size of its own");
  expect_refused(kind, leave(disk_, "1 parsec"), "neither a size nor a share");
  expect_refused(kind, leave(disk_, "65MiB"), "not more than what is to be left");
  expect_refused(kind, {{"path", disk_}, {"reserve", false}}, "exactly one of");
  expect_refused(kind, {{"path", disk_}, {"size", 65 * kMiB}, {"reserve", false}},
                 "cannot be taken");
  ::umount2(disk_.c_str(), MNT_DETACH);
  mount_tmpfs("100%");  // of the memory
  expect_refused(kind, leave(disk_, "0"), "more than half of");
  ::umount2(disk_.c_str(), MNT_DETACH);
  ASSERT_EQ(::mount("none", disk_.c_str(), "tmpfs", MS_RDONLY, "size=1m"), 0);
  expect_refused(kind, leave(disk_, "0"), "read-only");
}

// ---- resource.descriptors ------------------------------------------------------------------

class Descriptors : public ResourceFaults {
 protected:
  static Json parameters(const std::string& what, int number) {
    Json json = pause_parameters();
    json[what] = number;
    return json;
  }
  static rlimit limit_of(pid_t pid) {
    rlimit limit{};
    EXPECT_EQ(::prlimit(pid, RLIMIT_NOFILE, nullptr, &limit), 0);
    return limit;
  }
  void expect_report(const std::string& text) {
    wait_until(
        [&] {
          const auto report = base::read_file(report_, 100);
          return report.ok() && report->find(text) != std::string::npos;
        },
        "the victim to get " + text);
  }
  base::ProcessIdentity start_opener() {
    add_service(1);
    report_ = folder_ + "/report";
    const auto victim = start_victim({"opens=" + report_});
    expect_report("16 ok");
    return victim;
  }
  std::string report_;
};

TEST_F(Descriptors, AProcessRunsOutAndGetsItsLimitBack) {
  const auto victim = start_opener();
  const rlimit before = limit_of(victim.pid);
  // The victim has up to 16 open at the moment of the look, so not as many are counted as open.
  const auto binding = bind_or_die("resource.descriptors", parameters("limit", 7));
  start_holder();
  expect_rehearsal(binding);
  put_in_force(binding);
  expect_report("3 EMFILE");  // 0, 1, 2 and the report's are open
  EXPECT_EQ(limit_of(victim.pid).rlim_cur, 7u);
  EXPECT_EQ(limit_of(victim.pid).rlim_max, before.rlim_max);
  take_away();
  EXPECT_EQ(limit_of(victim.pid).rlim_cur, before.rlim_cur);
  expect_report("16 ok");
}

TEST_F(Descriptors, ExactlyAsManyAsSaidAreLeft) {
  add_service(1);
  const auto victim = start_victim();
  wait_until([&] { return find_victims().size() == 1; }, "a victim");
  start_holder();
  put_in_force(bind_or_die("resource.descriptors", parameters("left", 2)));
  std::set<int> open;
  const std::string folder = "/proc/" + std::to_string(victim.pid) + "/fd";
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    open.insert(std::stoi(entry.path().filename().string()));
  int free = 0;
  for (int number = 0; number < static_cast<int>(limit_of(victim.pid).rlim_cur); ++number)
    free += open.contains(number) ? 0 : 1;
  EXPECT_EQ(free, 2);
  take_away();
}

TEST_F(Descriptors, ChildrenAreLimitedAndThoseBornMeanwhileAreFreed) {
  add_service(1);
  const auto victim = start_victim({"forks"});
  wait_until([&] { return tree_of(*read_process_table(), victim).size() > 1; }, "children");
  const rlimit before = limit_of(victim.pid);
  start_holder();
  put_in_force(bind_or_die("resource.descriptors", parameters("limit", 32)));
  wait_until(
      [&] {
        const auto tree = tree_of(*read_process_table(), victim);
        rlimit child{};
        return tree.size() > 1 &&
               ::prlimit(tree[1].identity.pid, RLIMIT_NOFILE, nullptr, &child) == 0 &&
               child.rlim_cur == 32;
      },
      "a child with the limit");
  take_away();
  EXPECT_EQ(limit_of(victim.pid).rlim_cur, before.rlim_cur);
}

TEST_F(Descriptors, AKilledHolderIsUndoneFromItsJournal) {
  add_service(1);
  const auto victim = start_victim({"children=2"});
  wait_until([&] { return tree_of(*read_process_table(), victim).size() == 3; }, "children");
  const rlimit before = limit_of(victim.pid);
  start_holder();
  put_in_force(bind_or_die("resource.descriptors", parameters("limit", 20)));
  for (const auto& entry : tree_of(*read_process_table(), victim))
    EXPECT_EQ(limit_of(entry.identity.pid).rlim_cur, 20u);
  kill_holder();
  await_replay();
  for (const auto& entry : tree_of(*read_process_table(), victim))
    EXPECT_EQ(limit_of(entry.identity.pid).rlim_cur, before.rlim_cur);
}

TEST_F(Descriptors, WhatSomebodyElseChangedMeanwhileStays) {
  add_service(1);
  const auto victim = start_victim();
  wait_until([&] { return find_victims().size() == 1; }, "a victim");
  rlimit theirs = limit_of(victim.pid);
  start_holder();
  put_in_force(bind_or_die("resource.descriptors", parameters("limit", 20)));
  theirs.rlim_cur = 77;
  ASSERT_EQ(::prlimit(victim.pid, RLIMIT_NOFILE, &theirs, nullptr), 0);
  EXPECT_NE(take_away().text.find("somebody else changed"), std::string::npos);
  EXPECT_EQ(limit_of(victim.pid).rlim_cur, 77u);
}

TEST_F(Descriptors, AProcessOfAnotherUserIsReached) {
  add_service(1);
  const test::ServerProcess other({program("victim_for_tests"), folder_}, folder_ + "/log",
                                  "nobody");
  wait_until([&] { return find_victims().size() == 1 && find_victims()[0].process.user != 0; },
             "a victim of nobody");
  const auto limit = [&] {
    const auto text = base::read_pseudo_file("/proc/" + std::to_string(other.pid()) + "/limits");
    const std::size_t at = text.ok() ? text->find("Max open files") : std::string::npos;
    return at == std::string::npos ? 0 : std::atoi(text->c_str() + at + 14);
  };
  const int before = limit();
  start_holder();
  put_in_force(bind_or_die("resource.descriptors", parameters("limit", 20)));
  EXPECT_EQ(limit(), 20);
  take_away();
  EXPECT_EQ(limit(), before);
}

TEST_F(Descriptors, ALimitThatIsNoneIsRefused) {
  add_service(1);
  start_victim();
  wait_until([&] { return find_victims().size() == 1; }, "a victim");
  expect_refused("resource.descriptors", pause_parameters(), "exactly one of");
  start_holder();
  arm(bind_or_die("resource.descriptors", parameters("limit", 1'000'000'000)));
  EXPECT_NE(wait_for(LeaseState::kFailed).text.find("would change nothing"), std::string::npos);
}

// ---- resource.port -------------------------------------------------------------------------

class Port : public ResourceFaults {
 protected:
  static Json parameters(std::uint16_t port, const std::string& protocol = "tcp") {
    return {{"port", port}, {"address", "127.0.0.1"}, {"protocol", protocol}};
  }
  // The error of standing there, as a server does it; 0 when one can.
  static int stand(std::uint16_t port, int type) {
    const base::UniqueFd socket{::socket(AF_INET, type | SOCK_CLOEXEC, 0)};
    const int on = 1;
    ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    if (::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
      return errno;
    return type == SOCK_STREAM && ::listen(socket.get(), 4) != 0 ? errno : 0;
  }
};

TEST_F(Port, NobodyElseCanStandThere) {
  start_holder();
  for (const int type : {SOCK_STREAM, SOCK_DGRAM}) {
    const std::uint16_t port = test::free_port();
    const auto binding =
        bind_or_die("resource.port", parameters(port, type == SOCK_STREAM ? "tcp" : "udp"));
    expect_rehearsal(binding);
    EXPECT_EQ(stand(port, type), 0);
    put_in_force(binding);
    EXPECT_EQ(stand(port, type), EADDRINUSE);
    take_away();
    EXPECT_EQ(stand(port, type), 0);
  }
}

TEST_F(Port, AKilledHolderGivesItBack) {
  const std::uint16_t port = test::free_port();
  start_holder();
  put_in_force(bind_or_die("resource.port", parameters(port)));
  EXPECT_EQ(stand(port, SOCK_STREAM), EADDRINUSE);
  kill_holder();
  await_replay();
  EXPECT_EQ(stand(port, SOCK_STREAM), 0);
}

TEST_F(Port, WhoStandsThereIsNamed) {
  test::RedisServer redis;
  const std::string who = "redis-server (pid " + std::to_string(redis.process().pid()) + ")";
  expect_refused("resource.port", parameters(redis.port()), who);
  Json everywhere = parameters(redis.port());
  everywhere["address"] = "0.0.0.0";
  expect_refused("resource.port", everywhere, who);
  // Also when it came after the binding.
  const std::uint16_t port = redis.port();
  redis.stop();
  const auto binding = bind_or_die("resource.port", parameters(port));
  redis.start();
  start_holder();
  arm(binding);
  EXPECT_NE(wait_for(LeaseState::kFailed).text.find("redis-server (pid "), std::string::npos);
  EXPECT_TRUE(test::accepts_connections(port));
}

TEST_F(Port, WhatIsNotOursToTakeIsRefused) {
  expect_refused("resource.port", parameters(22), "SSH");
  Json elsewhere = parameters(8080);
  elsewhere["address"] = "192.0.2.1";
  expect_refused("resource.port", elsewhere, "not on this host");
  elsewhere["address"] = "localhost";
  expect_refused("resource.port", elsewhere, "no IP address");
}

}  // namespace
}  // namespace squall::inject
