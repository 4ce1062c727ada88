// Partitions among the members of one service: four processes on loopback addresses of their own,
// which send to each other all the time and tell what they hear.

#include <algorithm>
#include <map>
#include <set>
#include <sstream>

#include "integration/inject/network_fixture.h"

namespace squall::inject {
namespace {

constexpr std::size_t kMembers = 4;
using Way = std::pair<std::size_t, std::size_t>;  // heard by the first, of the second

class NetworkShapes : public NetworkTest {
 protected:
  void SetUp() override {
    NetworkTest::SetUp();
    if (IsSkipped()) return;
    reports_.reset(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof name;
    ASSERT_EQ(::bind(reports_.get(), reinterpret_cast<sockaddr*>(&name), size), 0);
    ASSERT_EQ(::getsockname(reports_.get(), reinterpret_cast<sockaddr*>(&name), &size), 0);
    const std::uint16_t port = ntohs(name.sin_port);
    model::Service service;
    service.name = "db";
    for (std::size_t i = 0; i < kMembers; ++i) {
      const std::string words = "mesh=" + std::to_string(port) + "," + std::to_string(i) + "," +
                                std::to_string(kMembers) + "," + std::to_string(port);
      start_victim({words});
      model::MemberSelector member;
      member.name = "db" + std::to_string(i);
      member.role = i == 0 ? "primary" : member.name;
      member.listens =
          model::ListenAddress{.address = "127.77.0." + std::to_string(i + 1), .port = port};
      member.process.exe = "victim_for_tests";
      member.process.argv_contains = words;
      service.members.push_back(member);
    }
    map_.services = {service};
    std::set<Way> all;
    for (std::size_t a = 0; a < kMembers; ++a) {
      for (std::size_t b = 0; b < kMembers; ++b) {
        if (a != b) all.emplace(a, b);
      }
    }
    all_ = all;
    wait_until([&] { return heard_in_a_while() == all_; }, "everybody to hear everybody");
  }

  // Who heard of whom between two reports of each, twenty reports apart.
  std::set<Way> heard_in_a_while() {
    std::map<std::size_t, std::vector<unsigned>> first;
    std::map<std::size_t, std::vector<unsigned>> last;
    std::map<std::size_t, int> reports;
    drain();
    while (reports.size() < kMembers ||
           std::any_of(reports.begin(), reports.end(), [](auto& r) { return r.second < 20; })) {
      if (!arrives(reports_.get(), 5s)) {
        ADD_FAILURE() << "no reports";
        return {};
      }
      std::array<char, 256> buffer{};
      const ssize_t got = ::recv(reports_.get(), buffer.data(), buffer.size() - 1, 0);
      if (got <= 0) continue;
      std::istringstream text(buffer.data());
      std::size_t member = 0;
      text >> member;
      std::vector<unsigned> numbers(kMembers);
      for (unsigned& number : numbers) text >> number;
      first.emplace(member, numbers);
      last[member] = numbers;
      ++reports[member];
    }
    std::set<Way> ways;
    for (std::size_t a = 0; a < kMembers; ++a) {
      for (std::size_t b = 0; b < kMembers; ++b) {
        if (last[a][b] > first[a][b]) ways.emplace(a, b);
      }
    }
    return ways;
  }

  void drain() {
    std::array<char, 256> buffer{};
    while (::recv(reports_.get(), buffer.data(), buffer.size(), 0) > 0) {
    }
  }

  // Arms, and expects that just these pairs hear nothing of each other, until the revert.
  void run(Json parameters, const std::vector<Way>& cut) {
    parameters["service"] = "db";
    const auto binding = bind_or_die("network.partition", parameters);
    EXPECT_EQ(binding.targets.size(), cut.size());
    for (const auto& [a, b] : cut) {
      const std::string text = "db/db" + std::to_string(a) + " and db/db" + std::to_string(b);
      EXPECT_TRUE(std::any_of(binding.targets.begin(), binding.targets.end(),
                              [&](const auto& target) { return target.description == text; }))
          << text;
    }
    start_holder();
    const auto rehearsed = client_->rehearse(binding);
    ASSERT_TRUE(rehearsed.ok()) << rehearsed.error().to_string();
    const auto lease = arm(binding);
    wait_for(LeaseState::kEffective);
    std::set<Way> left = all_;
    for (const auto& [a, b] : cut) {
      left.erase({a, b});
      left.erase({b, a});
    }
    EXPECT_EQ(heard_in_a_while(), left);
    ASSERT_TRUE(client_->renew().ok());
    ASSERT_TRUE(client_->revert(lease, "asked").ok());
    wait_for(LeaseState::kVerified);
    wait_until([&] { return heard_in_a_while() == all_; }, "everybody to hear everybody again");
  }

  base::UniqueFd reports_;
  std::set<Way> all_;
};

TEST_F(NetworkShapes, IsolateCutsOneFromAllOthers) {
  run({{"shape", "isolate"}, {"member", "primary"}}, {{0, 1}, {0, 2}, {0, 3}});
}

TEST_F(NetworkShapes, HalvesCutTwoGroups) {
  run({{"shape", "halves"}, {"half", Json::array({"db1", "db2"})}},
      {{0, 1}, {0, 2}, {1, 3}, {2, 3}});
}

TEST_F(NetworkShapes, RingLeavesTheNeighbours) {
  run({{"shape", "ring"}}, {{0, 2}, {1, 3}});
}

TEST_F(NetworkShapes, ASeedAlwaysDrawsTheSameSide) {
  const Json parameters = {{"service", "db"}, {"shape", "isolate"}};
  std::set<std::string> different;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const auto once = try_bind("network.partition", parameters, seed);
    const auto again = try_bind("network.partition", parameters, seed);
    ASSERT_TRUE(once.ok() && again.ok());
    EXPECT_EQ(once->targets.size(), 3u);
    EXPECT_EQ(once->details.json(), again->details.json());
    different.insert(once->details.json().dump());
  }
  EXPECT_GT(different.size(), 1u);
}

TEST_F(NetworkShapes, WhatMakesNoShapeIsRefused) {
  const auto refused = [&](Json parameters) {
    const auto bound = try_bind("network.partition", std::move(parameters));
    EXPECT_FALSE(bound.ok());
    return bound.ok() ? std::string{} : bound.error().message + " " + bound.error().hint;
  };
  EXPECT_NE(refused({{"service", "db"}}).find("`shape`"), std::string::npos);
  EXPECT_NE(refused({{"shape", "ring"}}).find("need a `service`"), std::string::npos);
  EXPECT_NE(refused(Json::object()).find("two different services"), std::string::npos);
  EXPECT_NE(refused({{"service", "db"}, {"shape", "halves"}, {"half", Json::array({"db9"})}})
                .find("no member db9"),
            std::string::npos);
  EXPECT_NE(refused({{"service", "db"},
                     {"shape", "halves"},
                     {"half", Json::array({"db0", "db1", "db2", "db3"})}})
                .find("leave nobody"),
            std::string::npos);
  map_.services[0].members.pop_back();
  EXPECT_NE(refused({{"service", "db"}, {"shape", "ring"}}).find("nothing would be cut"),
            std::string::npos);
  map_.services[0].members[0].process.argv_contains = "nobody";
  EXPECT_NE(refused({{"service", "db"}, {"shape", "isolate"}}).find("db0 of service db is not"),
            std::string::npos);
}

}  // namespace
}  // namespace squall::inject
