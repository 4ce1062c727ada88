// Real packets between loopback ports of our own, held by the packet scheduler.

#include <fstream>
#include <sstream>

#include "inject/cgroup.h"
#include "integration/inject/packet_fixture.h"

namespace squall::inject {
namespace {

TEST_F(PacketSchedulerTest, DelaysBothDirectionsAndProvesIt) {
  const Talk talk;
  add_server(talk);
  start_holder();
  const auto binding = bind_or_die("network.latency", latency(50ms));
  const auto rehearsed = client_->rehearse(binding);
  ASSERT_TRUE(rehearsed.ok()) << rehearsed.error().to_string();
  const auto lease = arm_latency(latency(50ms));
  EXPECT_GE(talk.round_trip(), 100ms);
  const auto effective = proof_of(wait_for(LeaseState::kEffective));
  EXPECT_GE(effective.value("delay_p50_ns", 0), 48'000'000);  // a bucket is 1/16 wide
  EXPECT_GE(effective.value("delayed", 0), 1);
  const Json last = revert(lease);
  EXPECT_EQ(last.value("delayed", 0), 2);
  EXPECT_EQ(last.value("received", 0), 2);
}

TEST_F(PacketSchedulerTest, DelaysOneDirectionOnly) {
  const Talk talk;
  add_server(talk);
  for (const std::string direction : {"requests", "replies"}) {
    const auto lease = arm_latency(latency(50ms, {}, direction));
    EXPECT_GE(talk.round_trip(), 50ms);
    wait_for(LeaseState::kEffective);
    EXPECT_EQ(revert(lease).value("delayed", 0), 1) << direction;
  }
}

TEST_F(PacketSchedulerTest, DelaysIPv6AndTcp) {
  const Talk talk{AF_INET6, SOCK_STREAM};
  add_server(talk, "::1");
  const auto lease = arm_latency(latency(50ms));
  const base::Instant start = base::BootClock::now();
  talk.connect();
  EXPECT_GE(base::BootClock::now() - start, 100ms);
  wait_for(LeaseState::kEffective);
  revert(lease);
}

TEST_F(PacketSchedulerTest, ALiveTcpConnectionKeepsItsBytes) {
  const Talk talk{AF_INET, SOCK_STREAM};
  add_server(talk);
  talk.connect();
  const base::UniqueFd accepted{::accept4(talk.server(), nullptr, nullptr, SOCK_CLOEXEC)};
  const auto lease = arm_latency(latency(20ms, 15ms));
  std::vector<std::uint8_t> sent(4 << 20);
  for (std::size_t i = 0; i < sent.size(); ++i) sent[i] = static_cast<std::uint8_t>(i * 31 >> 3);
  std::vector<std::uint8_t> received;
  std::size_t done = 0;
  bool reverted = false;
  while (received.size() < sent.size()) {
    std::array<pollfd, 2> requests{{{.fd = talk.client(), .events = POLLOUT, .revents = 0},
                                    {.fd = accepted.get(), .events = POLLIN, .revents = 0}}};
    if (done == sent.size()) requests[0].fd = -1;
    ASSERT_GT(::poll(requests.data(), 2, 20'000), 0);
    if (requests[0].revents != 0) {
      const ssize_t more =
          ::send(talk.client(), sent.data() + done, sent.size() - done, MSG_DONTWAIT);
      if (more > 0) done += static_cast<std::size_t>(more);
    }
    if (requests[1].revents != 0) {
      std::array<std::uint8_t, 65536> buffer;
      const ssize_t more = ::recv(accepted.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
      ASSERT_GT(more, 0);
      received.insert(received.end(), buffer.begin(), buffer.begin() + more);
    }
    // In the middle of the stream: what is held then is neither lost nor shuffled.
    if (!reverted && received.size() > sent.size() / 2) {
      revert(lease);
      reverted = true;
    }
  }
  EXPECT_TRUE(reverted);
  EXPECT_TRUE(received == sent);
}

TEST_F(PacketSchedulerTest, ARevertLetsEverythingHeldPassInOrder) {
  const Talk talk;
  add_server(talk);
  const auto lease = arm_latency(latency(30s));
  constexpr std::uint32_t kPackets = 2000;
  for (std::uint32_t i = 0; i < kPackets; ++i) talk.send(i);
  EXPECT_FALSE(talk.receive(50ms).has_value());
  EXPECT_EQ(revert(lease).value("drained", 0u), kPackets);
  for (std::uint32_t i = 0; i < kPackets; ++i) ASSERT_EQ(talk.receive(5s), i);
}

TEST_F(PacketSchedulerTest, JitterKeepsTheOrderUnlessAskedNotTo) {
  const Talk talk;
  add_server(talk);
  for (const bool keep_order : {true, false}) {
    const auto lease = arm_latency(latency(30ms, 29ms, "both", keep_order));
    constexpr std::uint32_t kPackets = 300;
    for (std::uint32_t i = 0; i < kPackets; ++i) talk.send(i);
    std::vector<std::uint32_t> order;
    while (order.size() < kPackets) {
      const auto number = talk.receive(20s);
      ASSERT_TRUE(number.has_value());
      order.push_back(*number);
    }
    EXPECT_EQ(std::is_sorted(order.begin(), order.end()), keep_order);
    wait_for(LeaseState::kEffective);
    revert(lease);
  }
}

TEST_F(PacketSchedulerTest, OthersAreNotTouched) {
  const Talk talk;
  const Talk neighbour;
  add_server(talk);
  const auto lease = arm_latency(latency(30s));
  talk.send(7);
  neighbour.round_trip();
  EXPECT_FALSE(talk.receive(1ms).has_value());
  EXPECT_EQ(revert(lease).value("received", 0), 1);
  EXPECT_EQ(talk.receive(5s), 7u);
}

TEST_F(PacketSchedulerTest, TwoFaultsAtOnceHaveQueuesOfTheirOwn) {
  const Talk talk;
  const Talk second;
  add_server(talk);
  model::Service service;
  service.name = "second";
  service.listens = model::ListenAddress{.address = "127.0.0.1", .port = second.port()};
  map_.services.push_back(service);
  arm_latency(latency(40ms));
  auto other = latency(60ms);
  other["to"] = "second";
  arm_latency(other);
  EXPECT_GE(talk.round_trip(), 80ms);
  EXPECT_GE(second.round_trip(), 120ms);
  ASSERT_TRUE(client_->revert_all("asked").ok());
  wait_for(LeaseState::kVerified);
  wait_for(LeaseState::kVerified);
}

TEST_F(PacketSchedulerTest, TheWorkerHasNoMoreThanItNeeds) {
  const Talk talk;
  add_server(talk);
  const auto lease = arm_latency(latency(10ms));
  wait_until([&] { return worker_status("Seccomp") == "2"; }, "a system call filter");
  EXPECT_EQ(worker_status("CapEff"), "0000000000001000");  // CAP_NET_ADMIN
  EXPECT_EQ(worker_status("CapPrm"), "0000000000001000");
  EXPECT_EQ(worker_status("NoNewPrivs"), "1");
  std::vector<std::string> descriptors;
  for (const auto& entry : std::filesystem::directory_iterator(fmt_path("fd"))) {
    if (std::stoi(entry.path().filename()) > 2)
      descriptors.push_back(std::filesystem::read_symlink(entry.path()));
  }
  ASSERT_EQ(descriptors.size(), 2u);  // the starter's and the queue's
  for (const std::string& each : descriptors) EXPECT_TRUE(each.starts_with("socket:")) << each;
  revert(lease);
}

TEST_F(PacketSchedulerTest, AKilledWorkerLetsPacketsPassAndEndsTheFault) {
  const Talk talk;
  add_server(talk);
  arm_latency(latency(30s));
  talk.send(1);
  ASSERT_TRUE(worker_.signal(SIGKILL).ok());
  wait_until([&] { return worker_.ended(); }, "the worker's end");
  // Nobody serves the queue: the rules, which may still be there, let it pass.
  wait_until(
      [&] {
        talk.send(2);
        return talk.receive(1ms).has_value();
      },
      "a packet to pass");
  wait_for_broken_fault();
}

TEST_F(PacketSchedulerTest, AStoppedWorkerHoldsNoMoreThanItsQueueAndEndsTheFault) {
  const Talk talk;
  add_server(talk);
  arm_latency(latency(1ms));
  ASSERT_TRUE(worker_.signal(SIGSTOP).ok());
  wait_until([&] { return process_state(worker_.identity()).value_or('X') == 'T'; }, "a stop");
  constexpr int kPackets = 3000;  // the queue takes 1024
  for (int i = 0; i < kPackets; ++i) talk.send(0);
  int passed = 0;
  while (talk.receive(20ms).has_value()) ++passed;
  EXPECT_GE(passed, kPackets - 1100);
  wait_for_broken_fault();
  EXPECT_TRUE(worker_.ended());
  talk.round_trip();
}

TEST_F(PacketSchedulerTest, AKilledHolderTakesTableAndWorkerAlong) {
  const Talk talk;
  add_server(talk);
  const auto lease = arm_latency(latency(30s));
  kill_holder();
  wait_until([&] { return worker_.ended(); }, "the worker's end");
  wait_until([&] { return !NftTable::exists("squall_" + lease.text()).value(); }, "no table");
  await_replay();
  talk.round_trip();
}

TEST_F(PacketSchedulerTest, AKilledStarterTakesTheWorkerAlong) {
  const Talk talk;
  add_server(talk);
  arm_latency(latency(30s));
  const auto processes = read_process_table().value();
  const auto parent = std::find_if(processes.begin(), processes.end(), [&](const auto& process) {
    return process.identity == worker_.identity();
  });
  ASSERT_NE(parent, processes.end());
  ASSERT_TRUE(base::PidFd::open(parent->parent)->signal(SIGKILL).ok());
  wait_until([&] { return worker_.ended(); }, "the worker's end");
  wait_for_broken_fault();
  talk.round_trip();
}

// The peer on "another host": a second namespace behind a veth pair. Only what arrives here is
// held, and it is held for both directions.
TEST_F(PacketSchedulerTest, APeerOnAnotherHostSeesTheWholeRoundTrip) {
  const base::UniqueFd here{::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC)};
  ASSERT_EQ(::unshare(CLONE_NEWNET), 0);
  const base::UniqueFd there{::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC)};
  ASSERT_EQ(::setns(here.get(), CLONE_NEWNET), 0);
  const auto run = [](const std::string& line) {
    std::vector<std::string> argv{"ip"};
    std::istringstream words{line};
    for (std::string word; words >> word;) argv.push_back(word);
    const auto done = base::run_command({.argv = argv}, 10s);
    ASSERT_TRUE(done.ok());
    ASSERT_EQ(done->exit_status, 0) << line << ": " << done->error;
  };
  const auto in_there = [&](const std::function<void()>& work) {
    ASSERT_EQ(::setns(there.get(), CLONE_NEWNET), 0);
    work();
    ASSERT_EQ(::setns(here.get(), CLONE_NEWNET), 0);
  };
  const std::string peer = "/proc/" + std::to_string(::getpid()) + "/fd/";
  run("link add near type veth peer name far netns " + peer + std::to_string(there.get()));
  run("addr add 10.77.0.1/24 dev near");
  run("link set near up");
  in_there([&] {
    run("addr add 10.77.0.2/24 dev far");
    run("link set far up");
  });
  const auto socket_at = [](const char* address) {
    base::UniqueFd socket{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
    sockaddr_in name{};
    name.sin_family = AF_INET;
    ::inet_pton(AF_INET, address, &name.sin_addr);
    EXPECT_EQ(::bind(socket.get(), reinterpret_cast<sockaddr*>(&name), sizeof name), 0);
    return socket;
  };
  const base::UniqueFd near_end = socket_at("10.77.0.1");
  base::UniqueFd far_end;
  in_there([&] { far_end = socket_at("10.77.0.2"); });
  for (const bool server_is_near : {true, false}) {
    const int server = server_is_near ? near_end.get() : far_end.get();
    const int client = server_is_near ? far_end.get() : near_end.get();
    sockaddr_in name{};
    socklen_t size = sizeof name;
    ::getsockname(server, reinterpret_cast<sockaddr*>(&name), &size);
    model::Service users;
    users.name = "users";
    users.external = true;
    model::Service service;
    service.name = "server";
    service.listens = model::ListenAddress{.address = server_is_near ? "10.77.0.1" : "10.77.0.2",
                                           .port = ntohs(name.sin_port)};
    map_.services = {users, service};
    const auto lease = arm_latency(latency(50ms));
    const std::uint32_t number = 9;
    const base::Instant start = base::BootClock::now();
    ASSERT_EQ(::sendto(client, &number, 4, 0, reinterpret_cast<sockaddr*>(&name), size), 4);
    sockaddr_in from{};
    pollfd request{.fd = server, .events = POLLIN, .revents = 0};
    ASSERT_EQ(::poll(&request, 1, 20'000), 1);
    std::uint32_t got = 0;
    ASSERT_EQ(::recvfrom(server, &got, 4, 0, reinterpret_cast<sockaddr*>(&from), &size), 4);
    ASSERT_EQ(::sendto(server, &got, 4, 0, reinterpret_cast<sockaddr*>(&from), size), 4);
    EXPECT_TRUE(Talk::receive_from(client, 20s).has_value());
    EXPECT_GE(base::BootClock::now() - start, 100ms);
    wait_for(LeaseState::kEffective);
    EXPECT_EQ(revert(lease).value("delayed", 0), 1);
  }
}

TEST_F(PacketSchedulerTest, ByGroupOnlyThatGroupIsDelayed) {
  const auto mount = v2_mount();
  if (!mount.ok()) GTEST_SKIP() << "no cgroup v2";
  const std::string before = v2_group_of(::getpid()).value_or(std::string{});  // empty: the root
  const std::string group = *mount + "/squall-test-" + std::to_string(::getpid());
  std::filesystem::create_directory(group);
  const auto move = [&](const std::string& folder, pid_t pid) {
    std::ofstream(folder + "/cgroup.procs") << pid;
  };
  const Talk stranger;
  move(group, ::getpid());  // a socket belongs to the group in which it was made
  const base::UniqueFd member{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
  move(*mount + before, ::getpid());
  add_server(stranger);
  model::Service& caller = add_service(1);
  caller.name = "caller";
  caller.depends_on = {"server"};
  const auto process = start_victim();
  move(group, process.pid);
  wait_until([&] { return find_victims().size() == 1; }, "the caller");
  auto parameters = latency(40ms);
  parameters["from"] = "caller";
  const auto lease = arm_latency(parameters);
  stranger.round_trip();  // the same port, another group
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  name.sin_port = htons(stranger.port());
  auto* address = reinterpret_cast<sockaddr*>(&name);
  socklen_t size = sizeof name;
  const base::Instant start = base::BootClock::now();
  ASSERT_EQ(::sendto(member.get(), "abcd", 4, 0, address, size), 4);
  std::uint32_t got = 0;
  ASSERT_EQ(::recvfrom(stranger.server(), &got, 4, 0, address, &size), 4);
  ASSERT_EQ(::sendto(stranger.server(), &got, 4, 0, address, size), 4);
  EXPECT_TRUE(Talk::receive_from(member.get(), 20s).has_value());
  EXPECT_GE(base::BootClock::now() - start, 80ms);
  wait_for(LeaseState::kEffective);
  EXPECT_EQ(revert(lease).value("received", 0), 2);  // one each way
  ASSERT_TRUE(base::PidFd::open(process)->signal(SIGKILL).ok());
  wait_until([&] { return find_victims().empty(); }, "the caller's end");
  std::error_code ignored;
  wait_until(
      [&] { return ::rmdir(group.c_str()) == 0 || !std::filesystem::exists(group, ignored); },
      "an empty group");
}

TEST_F(PacketSchedulerTest, ByUserOneDirectionStandsForBoth) {
  const Talk talk;
  add_server(talk);
  model::Service other;
  other.name = "other";
  other.process = {.exe = "victim_for_tests", .argv_contains = folder_, .user = "nobody"};
  other.depends_on = {"server"};
  map_.services.push_back(other);
  const auto victim = base::spawn({.argv = {program("victim_for_tests"), folder_},
                                   .user = 65534,
                                   .parent_death_signal = SIGKILL});
  if (!victim.ok()) GTEST_SKIP() << "the build folder is closed to other users";
  auto parameters = latency(40ms);
  parameters["from"] = "other";
  const auto lease = arm_latency(parameters);
  ASSERT_TRUE(victim->pidfd().signal(SIGKILL).ok());
  talk.round_trip();  // ours, of another user
  const auto asked = base::run_command(
      {.argv = {"/usr/bin/python3", "-c",
                "import socket,sys; s=socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
                "s.sendto(b'abcd', ('127.0.0.1', int(sys.argv[1])))",
                std::to_string(talk.port())},
       .user = 65534},
      20s);
  ASSERT_TRUE(asked.ok());
  EXPECT_TRUE(talk.receive(20s).has_value());
  wait_for(LeaseState::kEffective);
  const Json last = revert(lease);
  EXPECT_EQ(last.value("received", 0), 1);
  EXPECT_GE(last.value("delay_p50_ns", 0), 76'000'000);  // both directions' 40 ms
}

}  // namespace
}  // namespace squall::inject
