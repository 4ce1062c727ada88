// network.dns, with real resolvers, in network namespaces of the tests' own in which 127.0.0.1:53
// and
// [::1]:53 are name servers of the test.

#include <sys/fsuid.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <atomic>
#include <fstream>
#include <thread>

#include "inject/cgroup.h"
#include "inject/workers/dns_answers/dns_message.h"
#include "integration/inject/packet_fixture.h"

namespace squall::inject {
namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr uid_t kUser = 47'053;  // nobody else's on any host
constexpr const char* kTrue = "192.0.2.1";
constexpr const char* kTrueSix = "2001:db8::1";

// Answers every question with the same addresses, on both loopback addresses.
class NameServer {
 public:
  NameServer() {
    for (const int family : {AF_INET, AF_INET6}) {
      base::UniqueFd socket{::socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
      sockaddr_in6 six{};
      six.sin6_family = AF_INET6;
      six.sin6_addr = in6addr_loopback;
      six.sin6_port = htons(53);
      sockaddr_in four{};
      four.sin_family = AF_INET;
      four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      four.sin_port = htons(53);
      const bool bound =
          family == AF_INET
              ? ::bind(socket.get(), reinterpret_cast<sockaddr*>(&four), sizeof four) == 0
              : ::bind(socket.get(), reinterpret_cast<sockaddr*>(&six), sizeof six) == 0;
      EXPECT_TRUE(bound);
      sockets_.push_back(std::move(socket));
    }
    thread_ = std::thread([this] { serve(); });
  }
  NameServer(const NameServer&) = delete;
  NameServer& operator=(const NameServer&) = delete;
  ~NameServer() {
    over_ = true;
    thread_.join();
  }
  int asked() const { return asked_; }

 private:
  void serve() {
    const std::vector<Bytes> addresses{PacketEndpoint::parse(kTrue, 0)->address,
                                       PacketEndpoint::parse(kTrueSix, 0)->address};
    while (!over_) {
      std::array<pollfd, 2> requests{
          {{sockets_[0].get(), POLLIN, 0}, {sockets_[1].get(), POLLIN, 0}}};
      ::poll(requests.data(), requests.size(), 20);
      for (const pollfd& request : requests) {
        if ((request.revents & POLLIN) == 0) continue;
        Bytes message(512);
        sockaddr_storage from{};
        socklen_t size = sizeof from;
        auto* name = reinterpret_cast<sockaddr*>(&from);
        const ssize_t got = ::recvfrom(request.fd, message.data(), message.size(), 0, name, &size);
        if (got <= 0) continue;
        message.resize(static_cast<std::size_t>(got));
        const auto question = read_dns_question(message);
        if (!question) continue;
        ++asked_;
        const Bytes answer = make_dns_answer(message, *question, DnsCode::kFine, addresses);
        ::sendto(request.fd, answer.data(), answer.size(), 0, name, size);
      }
    }
  }
  std::vector<base::UniqueFd> sockets_;
  std::thread thread_;
  std::atomic<bool> over_ = false;
  std::atomic<int> asked_ = 0;
};

class NetworkDns : public PacketSchedulerTest {
 protected:
  void SetUp() override {
    PacketSchedulerTest::SetUp();
    if (IsSkipped()) return;
    enter_own_mounts();
    // The answers of programs that ask for everybody are not those of the service.
    resolver_ = folder_ + "/resolv.conf";
    std::ofstream(resolver_) << "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n";
    ::chmod(resolver_.c_str(), 0644);
    ::chmod(folder_.c_str(), 0755);
    ASSERT_EQ(::mount(resolver_.c_str(), "/etc/resolv.conf", nullptr, MS_BIND, nullptr), 0);
    // The C library asks only for the families of which the host has an address of its own.
    for (const std::string address : {"10.231.53.1/32", "fd00:53::1/128"}) {
      const auto added =
          base::run_command({.argv = {"ip", "address", "add", address, "dev", "lo"}}, 10s);
      ASSERT_TRUE(added.ok() && added->exit_status == 0);
    }
    server_ = std::make_unique<NameServer>();
    add_service(1);
    start_member(kUser);
  }
  void TearDown() override {
    client_.reset();
    server_.reset();
    ::umount2("/etc/resolv.conf", MNT_DETACH);
    PacketSchedulerTest::TearDown();
  }

  void start_member(std::optional<uid_t> user) {
    auto child = base::spawn({.argv = {program("victim_for_tests"), folder_},
                              .user = user,
                              .parent_death_signal = SIGKILL});
    ASSERT_TRUE(child.ok()) << child.error().to_string();
    victims_.push_back(std::move(*child));
    wait_until([&] { return find_victims().size() == victims_.size(); }, "the member");
  }

  static Json about(const std::string& name, const std::string& answer) {
    return {{"service", "victim"}, {"name", name}, {"answer", answer}};
  }
  static Json spoof(const std::string& name, std::vector<std::string> addresses) {
    Json json = about(name, "spoof");
    json["addresses"] = std::move(addresses);
    return json;
  }

  // A socket as the user would make it, to the name server.
  static base::UniqueFd socket_of(uid_t user, int family = AF_INET) {
    const auto former = static_cast<uid_t>(::setfsuid(user));
    base::UniqueFd socket{::socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
    ::setfsuid(former);
    sockaddr_in6 six{};
    six.sin6_family = AF_INET6;
    six.sin6_addr = in6addr_loopback;
    six.sin6_port = htons(53);
    sockaddr_in four{};
    four.sin_family = AF_INET;
    four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    four.sin_port = htons(53);
    EXPECT_EQ(family == AF_INET
                  ? ::connect(socket.get(), reinterpret_cast<sockaddr*>(&four), sizeof four)
                  : ::connect(socket.get(), reinterpret_cast<sockaddr*>(&six), sizeof six),
              0);
    return socket;
  }
  // The answer to a question about the name; empty when none came.
  static Bytes ask(const base::UniqueFd& socket, const std::string& name,
                   std::uint16_t type = kDnsTypeA, base::Duration limit = 20s) {
    Bytes message{7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0};
    std::string rest = name + ".";
    for (std::size_t at = rest.find('.'); at != std::string::npos; at = rest.find('.')) {
      message.push_back(static_cast<std::uint8_t>(at));
      message.insert(message.end(), rest.begin(), rest.begin() + static_cast<std::ptrdiff_t>(at));
      rest.erase(0, at + 1);
    }
    for (const unsigned byte : {0u, 0u, unsigned{type}, 0u, 1u})
      message.push_back(static_cast<std::uint8_t>(byte));
    EXPECT_EQ(::send(socket.get(), message.data(), message.size(), 0),
              static_cast<ssize_t>(message.size()));
    if (!arrives(socket.get(), limit)) return {};
    Bytes answer(512);
    const ssize_t got = ::recv(socket.get(), answer.data(), answer.size(), 0);
    answer.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return answer;
  }
  static bool arrives(int fd, base::Duration limit) {
    pollfd request{.fd = fd, .events = POLLIN, .revents = 0};
    return ::poll(&request, 1, static_cast<int>(limit / 1ms)) > 0;
  }
  static Bytes tail(const Bytes& answer, std::size_t size) {
    if (answer.size() < size) return {};
    return {answer.end() - static_cast<std::ptrdiff_t>(size), answer.end()};
  }
  static int code(const Bytes& answer) { return answer.size() < 12 ? -1 : answer[3] & 0x0f; }

  // What the C library makes of it, as that user: the addresses, or "status N".
  static std::string look_up(uid_t user, const std::string& name,
                             const std::string& database = "ahostsv4") {
    const auto found = base::run_command({.argv = {"getent", database, name}, .user = user}, 20s);
    if (!found.ok()) return found.error().to_string();
    if (found->exit_status != 0) return "status " + std::to_string(found->exit_status);
    return found->output.substr(0, found->output.find(' '));
  }

  std::string resolver_;
  std::unique_ptr<NameServer> server_;
};

TEST_F(NetworkDns, SpoofedAddressesReachTheServiceAloneAndOnlyForThatName) {
  ASSERT_EQ(look_up(kUser, "db.internal"), kTrue);
  start_holder();
  const auto binding =
      bind_or_die("network.dns", spoof("db.internal", {"198.51.100.7", "2001:db8::bad"}));
  const auto rehearsed = client_->rehearse(binding);
  ASSERT_TRUE(rehearsed.ok()) << rehearsed.error().to_string();
  const auto lease =
      arm_kind("network.dns", spoof("db.internal", {"198.51.100.7", "2001:db8::bad"}));
  EXPECT_EQ(look_up(kUser, "db.internal"), "198.51.100.7");
  wait_for(LeaseState::kEffective);
  EXPECT_EQ(look_up(kUser, "DB.Internal", "ahostsv6"), "2001:db8::bad");
  EXPECT_EQ(look_up(kUser, "other.internal"), kTrue);
  EXPECT_EQ(look_up(0, "db.internal"), kTrue);
  EXPECT_EQ(worker_status("CapEff"), "0000000000001000");
  EXPECT_EQ(worker_status("Seccomp"), "2");
  const Json proof = revert(lease);
  EXPECT_GE(proof.value("answered", 0), 2);
  EXPECT_GE(proof.value("passed", 0), 1);
  EXPECT_EQ(look_up(kUser, "db.internal"), kTrue);
}

TEST_F(NetworkDns, NoSuchNameAndAFailedServer) {
  auto lease = arm_kind("network.dns", about("*.internal", "nxdomain"));
  EXPECT_EQ(look_up(kUser, "db.internal"), "status 2");
  const auto socket = socket_of(kUser);
  EXPECT_EQ(code(ask(socket, "db.internal")), 3);
  EXPECT_EQ(code(ask(socket, "a.db.internal")), 3);
  EXPECT_EQ(code(ask(socket, "internal")), 0);
  wait_for(LeaseState::kEffective);
  revert(lease);
  // The same socket, which was open all along.
  EXPECT_EQ(code(ask(socket, "db.internal")), 0);
  lease = arm_kind("network.dns", about("db.internal", "servfail"));
  const int before = server_->asked();
  EXPECT_EQ(code(ask(socket, "db.internal")), 2);
  EXPECT_EQ(server_->asked(), before);
  revert(lease);
}

TEST_F(NetworkDns, OverIPv6) {
  const auto socket = socket_of(kUser, AF_INET6);
  const auto others = socket_of(0, AF_INET6);
  const Bytes truth = PacketEndpoint::parse(kTrueSix, 0)->address;
  EXPECT_EQ(tail(ask(socket, "db.internal", kDnsTypeAaaa), 16), truth);
  const auto lease = arm_kind("network.dns", spoof("*", {"2001:db8::bad"}));
  EXPECT_EQ(tail(ask(socket, "db.internal", kDnsTypeAaaa), 16),
            PacketEndpoint::parse("2001:db8::bad", 0)->address);
  const Bytes none = ask(socket, "db.internal");
  EXPECT_EQ(code(none), 0);
  EXPECT_EQ(none.at(7), 0);                                     // no IPv4 address is told
  EXPECT_EQ(tail(ask(socket, "db.internal", 16), 0), Bytes{});  // other questions pass
  EXPECT_EQ(tail(ask(others, "db.internal", kDnsTypeAaaa), 16), truth);
  revert(lease);
  EXPECT_EQ(tail(ask(socket, "db.internal", kDnsTypeAaaa), 16), truth);
}

TEST_F(NetworkDns, NoAnswerAndALateOne) {
  const auto socket = socket_of(kUser);
  auto lease = arm_kind("network.dns", about("db.internal", "timeout"));
  EXPECT_TRUE(ask(socket, "db.internal", kDnsTypeA, 200ms).empty());
  EXPECT_EQ(code(ask(socket, "other.internal")), 0);
  wait_for(LeaseState::kEffective);
  revert(lease);
  Json late = about("db.internal", "delay");
  late["delay"] = 300'000'000;
  lease = arm_kind("network.dns", late);
  const base::Instant start = base::BootClock::now();
  EXPECT_EQ(tail(ask(socket, "db.internal"), 4), PacketEndpoint::parse(kTrue, 0)->address);
  EXPECT_GE(base::BootClock::now() - start, 290ms);
  revert(lease);
}

TEST_F(NetworkDns, WhatIsHeldPassesWhenTheFaultEnds) {
  const auto socket = socket_of(kUser);
  Json late = about("*", "delay");
  late["delay"] = 60'000'000'000;
  const auto lease = arm_kind("network.dns", late);
  EXPECT_TRUE(ask(socket, "db.internal", kDnsTypeA, 100ms).empty());
  wait_for(LeaseState::kEffective);
  revert(lease);
  EXPECT_TRUE(arrives(socket.get(), 5s));
}

TEST_F(NetworkDns, AKilledWorkerOrHolderLetsQuestionsPass) {
  const auto socket = socket_of(kUser);
  arm_kind("network.dns", about("*", "servfail"));
  EXPECT_EQ(code(ask(socket, "db.internal")), 2);
  ASSERT_TRUE(worker_.signal(SIGKILL).ok());
  wait_for_broken_fault();
  EXPECT_EQ(code(ask(socket, "db.internal")), 0);
  arm_kind("network.dns", about("*", "servfail"));
  EXPECT_EQ(code(ask(socket, "db.internal")), 2);
  kill_holder();
  await_replay();
  EXPECT_EQ(code(ask(socket, "db.internal")), 0);
  EXPECT_TRUE(worker_.ended());
}

TEST_F(NetworkDns, AServiceWithoutAUserOfItsOwnIsToldByItsCgroup) {
  const auto mount = v2_mount();
  if (!mount.ok()) GTEST_SKIP() << "no cgroup v2";
  const std::string group = *mount + "/squall-dns-" + std::to_string(::getpid());
  ASSERT_EQ(::mkdir(group.c_str(), 0755), 0);
  ASSERT_TRUE(victims_.back().pidfd().signal(SIGKILL).ok());
  wait_until([&] { return find_victims().empty(); }, "the first member's end");
  start_victim({"group=" + group});
  wait_until(
      [&] {
        const auto members = find_victims();
        return members.size() == 1 && members[0].process.cgroup == group.substr(mount->size());
      },
      "a member in the group");
  const auto in_group = [&](const std::string& name) {
    const auto found = base::run_command(
        {.argv = {"/bin/sh", "-c",
                  "echo $$ > " + group + "/cgroup.procs; exec getent ahostsv4 " + name}},
        20s);
    return found.ok() ? found->output.substr(0, found->output.find(' ')) : std::string();
  };
  const auto lease = arm_kind("network.dns", spoof("db.internal", {"198.51.100.7"}));
  EXPECT_EQ(in_group("db.internal"), "198.51.100.7");
  EXPECT_EQ(in_group("other.internal"), kTrue);
  EXPECT_EQ(look_up(0, "db.internal"), kTrue);
  revert(lease);
  EXPECT_EQ(in_group("db.internal"), kTrue);
  ASSERT_TRUE(victims_.back().pidfd().signal(SIGKILL).ok());
  wait_until([&] { return ::rmdir(group.c_str()) == 0; }, "an empty group");
}

TEST_F(NetworkDns, WhatCannotBeToldApartOrMakesNoSenseIsRefused) {
  const auto refusal = [&](Json parameters) {
    const auto binding = try_bind("network.dns", std::move(parameters));
    EXPECT_FALSE(binding.ok());
    if (binding.ok()) return std::string();
    EXPECT_FALSE(binding.error().hint.empty());
    return binding.error().message;
  };
  EXPECT_NE(refusal(about("a b", "timeout")).find("no name of a host"), std::string::npos);
  EXPECT_NE(refusal(about("db", "delay")).find("`delay` belongs"), std::string::npos);
  EXPECT_NE(refusal(about("db", "spoof")).find("`addresses` belongs"), std::string::npos);
  EXPECT_NE(refusal(spoof("db", {"nowhere"})).find("not an IP address"), std::string::npos);
  EXPECT_NE(refusal(spoof("db", {"::"})).find("not an IP address"), std::string::npos);
  Json odd = about("db", "timeout");
  odd["delay"] = 1'000'000;
  EXPECT_NE(refusal(odd).find("`delay` belongs"), std::string::npos);
  map_.services.front().expected_members = 2;
  start_member(std::nullopt);
  EXPECT_NE(refusal(about("db", "timeout")).find("cannot be told apart"), std::string::npos);
}

}  // namespace
}  // namespace squall::inject
