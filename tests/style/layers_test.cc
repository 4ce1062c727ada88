// The floors of the house: a room includes only what it may.

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "style/checker.h"

namespace squall::style {
namespace {

std::string list(const std::vector<std::string>& problems) {
  std::string text;
  for (const std::string& problem : problems) text += "\n  " + problem;
  return text;
}

TEST(Layers, RoomsIncludeOnlyWhatTheyMay) {
  const auto files = read_sources(SQUALL_SOURCE_DIR, {"src"});
  ASSERT_GT(files.size(), 20u) << "no sources found below " << SQUALL_SOURCE_DIR;
  const auto problems = check_layers(files, rooms());
  EXPECT_TRUE(problems.empty()) << list(problems);
}

TEST(Layers, TheTableItselfHasNoArrowUpwards) {
  const auto problems = check_table(rooms());
  EXPECT_TRUE(problems.empty()) << list(problems);
  EXPECT_EQ(check_table({{"a", {"b"}}, {"b", {}}}).size(), 1u);
  EXPECT_EQ(check_table({{"a", {"a"}}}).size(), 1u);
  EXPECT_EQ(check_table({{"a", {"nothing"}}}).size(), 1u);
}

TEST(Layers, TheBuildLinksTheSameRooms) {
  // squall_room(host USES model LIBRARIES ...): what a room may include is what it links.
  std::ifstream stream(std::string(SQUALL_SOURCE_DIR) + "/CMakeLists.txt");
  std::stringstream buffer;
  buffer << stream.rdbuf();
  const std::string text = buffer.str();
  for (const Room& room : rooms()) {
    const auto start = text.find("squall_room(" + room.name + " ");
    ASSERT_NE(start, std::string::npos) << "CMakeLists.txt has no squall_room for " << room.name;
    std::istringstream words(text.substr(start, text.find(')', start) - start));
    std::vector<std::string> uses;
    bool in_uses = false;
    for (std::string word; words >> word;) {
      if (word == "USES" || word == "LIBRARIES") {
        in_uses = word == "USES";
      } else if (in_uses && word != "base") {
        uses.push_back(word);
      }
    }
    std::vector<std::string> allowed = room.may_include;
    std::sort(uses.begin(), uses.end());
    std::sort(allowed.begin(), allowed.end());
    EXPECT_EQ(uses, allowed) << "USES of " << room.name
                             << " in CMakeLists.txt and the table in tests/style/checker.cc "
                                "differ; make them the same";
  }
}

// The checker on a made-up tree: it must fail when it should, and only then.
TEST(LayersChecker, FindsEveryKindOfForbiddenArrow) {
  const std::vector<Room> table{
      {"base", {}}, {"model", {}}, {"host", {"model"}}, {"judge", {"model"}}};
  const auto problems_of = [&](const std::string& path, const std::string& line) {
    return check_layers({{.path = path, .lines = {"#pragma once", line}}}, table);
  };
  EXPECT_TRUE(problems_of("src/judge/a.cc", "#include \"judge/a.h\"").empty());
  EXPECT_TRUE(problems_of("src/judge/a.cc", "#include \"base/result.h\"").empty());
  EXPECT_TRUE(problems_of("src/judge/deep/a.cc", "#include \"model/plan.h\"").empty());
  EXPECT_TRUE(problems_of("src/judge/a.cc", "#include <host/of/others.h>").empty());
  EXPECT_TRUE(problems_of("src/judge/a.cc", "// like #include \"host/host.h\"").empty());
  EXPECT_TRUE(problems_of("tests/unit/a_test.cc", "#include \"host/host.h\"").empty());

  const auto upward = problems_of("src/model/a.h", "  #  include \"judge/judge.h\"");
  ASSERT_EQ(upward.size(), 1u);
  EXPECT_NE(upward[0].find("src/model/a.h:2: "), std::string::npos);
  EXPECT_NE(upward[0].find("higher floor"), std::string::npos);
  const auto base_upward = problems_of("src/base/a.h", "#include \"model/plan.h\"");
  ASSERT_EQ(base_upward.size(), 1u);
  EXPECT_NE(base_upward[0].find("higher floor"), std::string::npos);
  const auto sideways = problems_of("src/judge/a.cc", "#include \"host/host.h\"");
  ASSERT_EQ(sideways.size(), 1u);
  EXPECT_NE(sideways[0].find("may not use `host`"), std::string::npos);
  EXPECT_EQ(problems_of("src/judge/a.cc", "#include \"a.h\"").size(), 1u);
  EXPECT_EQ(problems_of("src/judge/a.cc", "#include \"src/judge/a.h\"").size(), 1u);
  EXPECT_EQ(problems_of("src/attic/a.cc", "").size(), 1u);
  EXPECT_EQ(problems_of("src/a.cc", "").size(), 1u);
}

}  // namespace
}  // namespace squall::style
