// The host's policy: every key, every mistake at its place, and which kinds it can open at all.

#include "inject/policy.h"
#include "base/files.h"

#include <gtest/gtest.h>

#include "inject/faults/kinds.h"
#include "inject/journal.h"
#include "inject/json_fields.h"

namespace squall::inject {
namespace {

using namespace std::chrono_literals;

std::string mistake_in(const std::string& text) {
  const auto policy = parse_policy(text, "policy.yaml");
  return policy.ok() ? "none" : policy.error().message;
}

TEST(Policy, EveryKeyIsRead) {
  const auto policy = parse_policy(
      "longest_fault: 5min\n"
      "allow:\n"
      "  - users: [root, 61234]\n"
      "    groups: [61299]\n"
      "    kinds: [process, resource.port]\n"
      "    targets: [61235]\n"
      "    paths: [/srv/scratch]\n"
      "    ports: [8080, 5432]\n"
      "    units: [redis-server.service]\n"
      "    memory: 1GiB\n"
      "    start: true\n"
      "    longest_fault: 30s\n"
      "  - groups: [61300]\n"
      "    kinds: [network]\n",
      "policy.yaml");
  ASSERT_TRUE(policy.ok()) << policy.error().message;
  EXPECT_EQ(policy->longest_fault, 5min);
  ASSERT_EQ(policy->rules.size(), 2u);
  const PolicyRule& rule = policy->rules[0];
  EXPECT_EQ(rule.line, 3);
  EXPECT_EQ(rule.users, (std::vector<uid_t>{0, 61234}));
  EXPECT_EQ(rule.groups, (std::vector<gid_t>{61299}));
  EXPECT_EQ(rule.targets, (std::vector<uid_t>{61235}));
  EXPECT_EQ(rule.paths, (std::vector<std::string>{"/srv/scratch"}));
  EXPECT_EQ(rule.ports, (std::vector<std::uint16_t>{8080, 5432}));
  EXPECT_EQ(rule.units, (std::vector<std::string>{"redis-server.service"}));
  EXPECT_EQ(rule.memory, 1024u * 1024 * 1024);
  EXPECT_TRUE(rule.start);
  EXPECT_EQ(rule.longest_fault, 30s);
  EXPECT_EQ(policy->rules[1].longest_fault, 5min);
  EXPECT_FALSE(policy->rules[1].start);
}

TEST(Policy, ARuleIsForItsUsersAndGroupsAndNamesKindsAndFamilies) {
  const auto policy =
      parse_policy("allow: [{ users: [61234], groups: [61299], kinds: [process, resource.port] }]",
                   "policy.yaml");
  ASSERT_TRUE(policy.ok());
  const PolicyRule& rule = policy->rules[0];
  EXPECT_TRUE(rule.is_for({.user = 61234, .group = 1}));
  EXPECT_TRUE(rule.is_for({.user = 5, .group = 61299}));
  EXPECT_TRUE(rule.is_for({.user = 5, .group = 1, .groups = {61299}}));
  EXPECT_FALSE(rule.is_for({.user = 61299, .group = 61234}));
  EXPECT_TRUE(rule.names("process.kill"));
  EXPECT_TRUE(rule.names("resource.port"));
  EXPECT_FALSE(rule.names("resource.ports"));
  EXPECT_FALSE(rule.names("processes.kill"));
  EXPECT_FALSE(rule.names("network.loss"));
}

TEST(Policy, AllMistakesAreToldAtOnceWithTheirPlaces) {
  const std::string told = mistake_in(
      "alow: []\n"
      "allow:\n"
      "  - user: [61234]\n"
      "    kinds: [proces, network.los]\n"
      "    paths: [scratch]\n"
      "    ports: [0, http]\n"
      "    targets: [nobody-by-this-name]\n"
      "    units: [redis]\n"
      "    start: yes\n"
      "    longest_fault: 0s\n");
  for (const char* part :
       {"policy.yaml:1:1", "did you mean `allow`?", "policy.yaml:3:5", "did you mean `users`?",
        "policy.yaml:4:13", "did you mean `process`?", "did you mean `network.loss`?",
        "policy.yaml:5:13", "begin it with a slash", "policy.yaml:6:13", "policy.yaml:6:16",
        "policy.yaml:7:15", "no user `nobody-by-this-name`", "policy.yaml:8:13",
        "no whole name of a unit", "policy.yaml:9:12", "policy.yaml:10:20", "for nobody"})
    EXPECT_NE(told.find(part), std::string::npos) << part << " in\n" << told;
}

TEST(Policy, WhatIsNoPolicyIsRefused) {
  for (const char* text :
       {"[]", "allow: {}", "allow: [1]", "allow: [{ users: [] , kinds: [process] }]",
        "allow: [{ users: [0] }]", "allow: [{ kinds: [process] }]", "allow:", "a: &a [*a]",
        "longest_fault: 25h", "allow: [{ users: 5, kinds: [process] }]"})
    EXPECT_NE(mistake_in(text), "none") << text;
  EXPECT_EQ(mistake_in("# nothing yet\n"), "none");
  EXPECT_EQ(mistake_in("allow: []\n"), "none");
}

TEST(Policy, TheExampleOfTheManualIsRight) {
  const std::string page =
      base::read_file(std::string(SQUALL_SOURCE_DIR) + "/docs/files.md", 1u << 20).value();
  const std::size_t begin = page.find("# /etc/squall/policy.yaml\n");
  ASSERT_NE(begin, page.npos);
  std::string example = page.substr(begin, page.find("```", begin) - begin);
  // Its users and groups are not those of every host.
  for (const std::string name : {"[sre]", "[squall]", "[alice]", "[app]", "[www-data, postgres]"}) {
    for (auto at = example.find(name); at != example.npos; at = example.find(name))
      example.replace(at, name.size(), "[61234]");
  }
  const auto policy = parse_policy(example, "policy.yaml");
  ASSERT_TRUE(policy.ok()) << policy.error().to_string();
  EXPECT_EQ(policy->rules.size(), 4u);
}

TEST(Policy, NoFileIsNoRule) {
  const auto policy = read_policy("/nonexistent-folder/policy.yaml");
  ASSERT_TRUE(policy.ok()) << policy.error().message;
  EXPECT_TRUE(policy->rules.empty());
}

// A kind whose reach nobody has described is for root only, and says why. Close one on purpose, not
// by accident; what an open one takes from a binding must be checked by the gate.
TEST(Policy, TheKindsThatNoRuleCanOpenSayWhy) {
  const std::vector<std::string> closed{"container.kill", "container.pause", "container.stop",
                                        "container.restart"};
  for (const FaultKind* kind : all_kinds()) {
    const bool listed =
        std::find(closed.begin(), closed.end(), kind->descriptor->name) != closed.end();
    EXPECT_EQ(kind->reach == nullptr, listed) << kind->descriptor->name;
    EXPECT_EQ(kind->descriptor->root_only.empty(), !listed) << kind->descriptor->name;
  }
}

TEST(Grants, SurviveTheJournalAndAreNeverRootsByMistake) {
  const Grant grant{.caller = {.user = 61234, .group = 61234, .groups = {61234, 61299}},
                    .targets = {61235},
                    .start_as = Account{.user = 61235, .group = 61235, .groups = {}},
                    .trace_as = Account{.user = 61236, .group = 61236, .groups = {}}};
  const Grant again = grant_from_json(to_json(grant));
  EXPECT_EQ(again.caller, grant.caller);
  EXPECT_EQ(again.targets, grant.targets);
  EXPECT_EQ(again.trace_as, grant.trace_as);
  EXPECT_EQ(again.start_as, grant.start_as);
  EXPECT_TRUE(grant_from_json(base::Json{}).caller.is_root());  // a journal of before
  EXPECT_FALSE(grant_from_json(base::Json{{"caller", "root"}}).caller.is_root());
  EXPECT_FALSE(grant_from_json(base::Json{{"caller", {{"user", "0"}}}}).caller.is_root());
}

}  // namespace
}  // namespace squall::inject
