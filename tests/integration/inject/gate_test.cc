// The gate alone: what it makes of forged bindings of each kind that nothing of this host is needed
// for.

#include "inject/gate.h"

#include <fmt/format.h>

#include "integration/inject/caller_fixture.h"

namespace squall::inject {
namespace {

class GateTest : public InjectTest {
 protected:
  // How the gate answers Alice under this rule: "allowed", or why not.
  std::string answer(const std::string& kind, const Json& details, const std::string& rule = {},
                     std::vector<base::ProcessIdentity> processes = {}) {
    const std::string policy = folder_ + "/policy.yaml";
    const std::string text =
        rule.empty() ? "" : fmt::format("allow: [{{ users: [61234], {} }}]", rule);
    EXPECT_TRUE(base::write_file_atomically(policy, text).ok());
    auto gate = Gate::open(kAlice, policy);
    if (!gate.ok()) return gate.error().to_string();
    model::FaultBinding binding;
    binding.kind = kind;
    binding.details = model::Parameters{details};
    for (const auto& process : processes)
      binding.targets.push_back(
          {.service = "s", .member = "m", .process = process, .description = "d"});
    const auto grant =
        gate->check(*find_kind(kind), binding, 1s, StateDirectory{state_}, host::real_host());
    return grant.ok() ? "allowed" : grant.error().message + " " + grant.error().hint;
  }
  void expect_answer(const std::string& answer, const std::string& wanted) {
    EXPECT_NE(answer.find(wanted), std::string::npos) << answer;
  }
  static Json question(const Json& more = Json::object()) {
    Json rule = {{"chain", 2},
                 {"action", 3},
                 {"protocol", 17},
                 {"user", kAlice.user},
                 {"destination", {{"address", Json::array()}, {"port", 53}}}};
    rule.update(more);
    return {{"rules", Json::array({rule})}, {"answer", "servfail"}, {"name", "*"}};
  }
};

TEST_F(GateTest, KindsThatNoRuleOpensSayWhy) {
  for (const char* kind :
       {"container.kill", "container.pause", "container.stop", "container.restart"}) {
    const std::string said = answer(kind, Json::object(), "kinds: [container], targets: [root]");
    expect_answer(said, "is for root only: a container engine does for whoever speaks");
    expect_answer(said, "sudo");
  }
}

TEST_F(GateTest, AUnitIsStoppedByItsWholeNameInARule) {
  const Json redis = {{"unit", "redis.service"}, {"resources", {"unit/redis.service"}}};
  expect_answer(answer("process.unit_stop", redis), "none of its `units`");
  expect_answer(answer("process.unit_stop", redis, "kinds: [process]"), "none of its `units`");
  expect_answer(answer("process.unit_stop", redis, "kinds: [process], units: [redis.socket]"),
                "none of its `units`");
  EXPECT_EQ(answer("process.unit_stop", redis, "kinds: [process], units: [redis.service]"),
            "allowed");
  // A binding that leaves its lock out could stop what another run has stopped.
  expect_answer(answer("process.unit_stop", {{"unit", "redis.service"}},
                       "kinds: [process], units: [redis.service]"),
                "does not lock unit/redis.service");
  const std::string ssh = "kinds: [process], units: [ssh.service, redis.service]";
  expect_answer(answer("process.unit_stop", {{"unit", "ssh.service"}}, ssh), "never a target");
  expect_answer(answer("process.unit_stop", {{"unit", "redis"}}, ssh), "in full");
  expect_answer(answer("process.unit_stop", {{"unit", "--now"}}, ssh), "no unit");
}

TEST_F(GateTest, QuestionsAboutNamesAreToldByTheirUser) {
  const std::string rule = "kinds: [network]";
  expect_answer(answer("network.dns", question()), "no rule for network.dns");
  EXPECT_EQ(answer("network.dns", question(), rule), "allowed");
  expect_answer(answer("network.dns", question(), rule + ", ports: [8080]"), "port 53");
  expect_answer(answer("network.dns", question({{"user", 61235}}), rule), "none of its `targets`");
  expect_answer(answer("network.dns", question({{"user", 0}}), rule), "none of its `targets`");
  EXPECT_EQ(answer("network.dns", question({{"user", 61235}}), rule + ", targets: [61235]"),
            "allowed");
  Json grouped = question({{"group", {{"id", 1}, {"level", 1}}}});
  EXPECT_EQ(answer("network.dns", grouped, rule), "allowed");
  grouped["rules"][0].erase("user");
  expect_answer(answer("network.dns", grouped, rule), "a user of its own");
  // Other packets than questions.
  for (const Json& forged : {Json{{"chain", 1}}, Json{{"action", 0}}, Json{{"protocol", 6}},
                             Json{{"destination", {{"address", Json::array()}, {"port", 22}}}}})
    expect_answer(answer("network.dns", question(forged), rule), "more than questions");
}

TEST_F(GateTest, ANetworkOfAnotherUsersProcessIsNotEntered) {
  const Json rules = Json::array({{{"chain", 1},
                                   {"action", 0},
                                   {"protocol", 6},
                                   {"destination", {{"address", {127, 0, 0, 1}}, {"port", 80}}}}});
  EXPECT_EQ(answer("network.refuse", {{"rules", rules}}, "kinds: [network]"), "allowed");
  const auto self = base::identify_process(::getpid()).value();
  const Json inside = {
      {"rules", rules},
      {"network_namespace",
       {{"pid", self.pid}, {"start_time", self.start_time}, {"inode", 1}, {"text", "x"}}}};
  expect_answer(answer("network.refuse", inside, "kinds: [network]"), "belongs to root");
}

TEST_F(GateTest, AFailoverReadsNoFileForTheCallerAndAsksNoPortThatHeMayNot) {
  const Json servers = Json::array({{{"member", "a"}, {"address", "127.0.0.1"}, {"port", 6379}}});
  Json details = {{"servers", servers},
                  {"sentinel", {{"address", "127.0.0.1"}, {"port", 26379}}},
                  {"password_file", "/etc/shadow"}};
  const std::string rule = "kinds: [redis.failover]";
  expect_answer(answer("redis.failover", details, rule), "read with root's rights");
  details["password_file"] = "";
  EXPECT_EQ(answer("redis.failover", details, rule), "allowed");
  expect_answer(answer("redis.failover", details, rule + ", ports: [6379]"), "port 26379");
  details["servers"][0]["port"] = 22;
  expect_answer(answer("redis.failover", details, rule), "SSH");
  const auto self = base::identify_process(::getpid()).value();
  details = {{"servers", servers}, {"outage", "process.kill"}, {"restore", "await"}};
  expect_answer(answer("redis.failover", details, rule, {self}), "belongs to root");
  details["outage"] = "process.unit_stop";
  expect_answer(answer("redis.failover", details, rule, {self}), "names no process kind");
  const Json heir = {{"outage", "process.kill"},
                     {"restore", "await"},
                     {"heir", {{"pid", self.pid}, {"start_time", self.start_time}}}};
  expect_answer(answer("postgres.failover", heir, "kinds: [postgres.failover]", {self}),
                "belongs to root");
}

TEST_F(GateTest, AnInstanceIsReachedByProgramsOfTheCallerOnly) {
  Json plan = {{"name", "db"}, {"down", {"true"}}, {"timeout_ns", 1}, {"limit_ns", 1}};
  expect_answer(answer("host.reboot", {{"instance", plan}}), "no rule for host.reboot");
  EXPECT_EQ(answer("host.reboot", {{"instance", plan}}, "kinds: [host]"), "allowed");
  plan["monitor"] = "/run/vm.sock";
  expect_answer(answer("host.reboot", {{"instance", plan}}, "kinds: [host]"), "monitor");
}

}  // namespace
}  // namespace squall::inject
