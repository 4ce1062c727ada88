#include "model/yaml_document.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "model/yaml_scalar.h"

namespace squall::model {
namespace {

// The mistakes of a text as a user sees them; empty when there are none.
std::string mistakes(std::string_view text) {
  Diagnostics diagnostics;
  YamlDocument document = YamlDocument::parse(text, "f.yaml", diagnostics);
  EXPECT_EQ(document.root() == nullptr || !diagnostics.all().empty(), diagnostics.has_errors());
  return diagnostics.render();
}

YamlDocument parse(std::string_view text) {
  Diagnostics diagnostics;
  YamlDocument document = YamlDocument::parse(text, "f.yaml", diagnostics);
  EXPECT_FALSE(diagnostics.has_errors()) << diagnostics.render();
  return document;
}

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}
#define EXPECT_CONTAINS(text, part) EXPECT_TRUE(contains(text, part)) << (text)

TEST(YamlDocument, KnowsWhereEverythingStands) {
  YamlDocument document = parse("a: 1\n\xC3\xA4: { b: 'x' }\nlist:\n  - y\n  -\n");
  const YamlNode& root = *document.root();
  ASSERT_EQ(root.entries.size(), 3u);
  EXPECT_EQ(root.find("a")->value->column, 4);
  const YamlNode& map = *root.find("\xC3\xA4")->value;
  EXPECT_TRUE(map.flow);
  EXPECT_EQ(map.line, 2);
  EXPECT_EQ(map.column, 4);  // in characters: the umlaut is one
  EXPECT_EQ(map.find("b")->column, 6);
  EXPECT_TRUE(map.find("b")->value->quoted);
  EXPECT_EQ(root.find("list")->value->items[0]->line, 4);
}

TEST(YamlDocument, AnEmptyValueStandsWhereItsKeyStands) {
  YamlDocument document = parse("a:\n\n\nb: ~\n");
  EXPECT_TRUE(document.root()->find("a")->value->is_null());
  EXPECT_EQ(document.root()->find("a")->value->line, 1);
  EXPECT_EQ(document.root()->find("b")->value->line, 4);
  EXPECT_EQ(document.root()->find("b")->value->column, 4);
}

TEST(YamlDocument, PointsIntoScalars) {
  auto place = [](std::string_view text, std::size_t offset) {
    YamlDocument document = parse(text);
    Location location = document.location_in(*document.root()->entries[0].value, offset);
    return std::pair(location.line, location.column);
  };
  EXPECT_EQ(place("a: hello", 3), std::pair(1, 7));
  EXPECT_EQ(place("a: 'hello'", 3), std::pair(1, 8));
  EXPECT_EQ(place("a: 'it''s x'", 5), std::pair(1, 11));
  EXPECT_EQ(place(R"(a: "b\"c d")", 3), std::pair(1, 9));
  EXPECT_EQ(place("a: one\n   two", 5), std::pair(2, 5));
  EXPECT_EQ(place("a: \xC3\xA4 x", 3), std::pair(1, 6));
  // Where the walk loses the way (an escape, a block), the value as a whole is meant.
  EXPECT_EQ(place("a: \"\\x41b\"", 1), std::pair(1, 4));
}

TEST(YamlDocument, AKeyTwiceNamesBothLines) {
  EXPECT_EQ(mistakes("a: 1\nb: 2\na: 3\n"),
            "f.yaml:3:1: error: `a` is here twice; it first stands in line 1\n"
            "  3 | a: 3\n"
            "    | ^\n"
            "  hint: keep one of the two\n");
}

TEST(YamlDocument, RefusesWhatIsTooLargeOrNotText) {
  EXPECT_CONTAINS(mistakes(std::string(kFileSizeLimit + 1, 'x')), "at most 1048576 are read");
  EXPECT_CONTAINS(mistakes("a: b\nc: \xff\n"), "f.yaml:2:1: error: this line is not UTF-8 text");
  EXPECT_CONTAINS(mistakes(std::string_view("a: \0b", 5)), "not UTF-8");
  EXPECT_CONTAINS(mistakes(""), "the file is empty");
  EXPECT_CONTAINS(mistakes("# only a comment\n"), "the file is empty");
  EXPECT_CONTAINS(mistakes("a: " + std::string(kYamlLineLimit, 'x')), "longer than 10000 bytes");
  std::string keys;
  for (std::size_t i = 0; i <= kYamlKeysLimit; ++i) keys += "k" + std::to_string(i) + ": 1\n";
  EXPECT_CONTAINS(mistakes(keys), "more than 1000 keys in one map");
  EXPECT_CONTAINS(mistakes("a: 1\n---\nb: 2\n"), "more than one YAML document");
  EXPECT_EQ(mistakes("\xEF\xBB\xBF"
                     "a: 1\n"),
            "");
  EXPECT_EQ(mistakes("a: 1\r\nb: 2\r\n"), "");
}

TEST(YamlDocument, RefusesBombs) {
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 12; ++i) {
    std::string below = "*a" + std::to_string(i - 1);
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + below;
    for (int j = 0; j < 9; ++j) bomb += ", " + below;
    bomb += "]\n";
  }
  EXPECT_CONTAINS(mistakes(bomb), "the file grows to more than 100000 values");
  EXPECT_CONTAINS(mistakes("a: " + std::string(100, '[') + std::string(100, ']')),
                  "nested deeper than 64 levels");
  EXPECT_NE(mistakes("a: " + std::string(kYamlLineLimit - 3, '[')), "");
  // Depth by aliases, each of which is shallow.
  std::string chain = "a0: &a0 [x]\n";
  for (int i = 1; i < 100; ++i) {
    chain += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [*a" + std::to_string(i - 1) +
             "]\n";
  }
  EXPECT_CONTAINS(mistakes(chain), "nested deeper than 64 levels");
  EXPECT_CONTAINS(mistakes("a: &a [*a]\n"), "stands inside the value that it names");
}

TEST(YamlDocument, AliasesWithinTheLimitsAreFine) {
  YamlDocument document = parse("a: &x { b: 1 }\nc: *x\n");
  EXPECT_EQ(to_json(*document.root()), base::Json::parse(R"({"a": {"b": 1}, "c": {"b": 1}})"));
}

TEST(YamlDocument, RefusesWhatWouldSurprise) {
  EXPECT_CONTAINS(mistakes("a: !!binary abc\n"), "YAML tags");
  EXPECT_CONTAINS(mistakes("a: !thing { b: 1 }\n"), "YAML tags");
  EXPECT_CONTAINS(mistakes("a: &b { c: 1 }\nd: { <<: *b }\n"), "merge keys");
  EXPECT_CONTAINS(mistakes("? [a]\n: b\n"), "cannot be a key");
  EXPECT_CONTAINS(mistakes("~: b\n"), "a key is missing");
  EXPECT_CONTAINS(mistakes("a: *b\n"), "names no anchor");
}

TEST(YamlDocument, SyntaxMistakesComeWithTheRemedy) {
  EXPECT_CONTAINS(mistakes("a:\n\tb: 1\n"), "replace the tab");
  EXPECT_CONTAINS(mistakes("a: b: c\n"), "f.yaml:1:5: error: a colon cannot stand here");
  EXPECT_CONTAINS(mistakes("a: { b: 1\n"), "the `}` of this map is missing");
  EXPECT_CONTAINS(mistakes("a: @x\n"), "put the text in quotes");
  EXPECT_CONTAINS(mistakes("a: 'x\nb: 1\n"), "f.yaml:1:4: error: the quote that opens here");
  EXPECT_CONTAINS(mistakes("a: &q \"x\\\"\n"), "the quote that opens here is never closed");
  EXPECT_EQ(mistakes("a: 'it''s'\nb: \"x\\\"\n  y\"\n"), "");
  EXPECT_CONTAINS(mistakes("r: [ share(reads.header[\"X\"] exists) < 1% ]\n"),
                  "quoted whole, with single quotes outside");
}

TEST(YamlDocument, JsonFollowsYaml12) {
  YamlDocument document = parse(
      "a: yes\nb: true\nc: 010\nd: 10\ne: 1.5\nf: 1e3\ng: '10'\nh: 1:30\ni: null\nj: [on, -3]\nk: "
      "0x1F\n");
  EXPECT_EQ(to_json(*document.root()),
            base::Json::parse(R"({"a": "yes", "b": true, "c": "010", "d": 10, "e": 1.5, "f": 1000.0,
                                  "g": "10", "h": "1:30", "i": null, "j": ["on", -3],
                                  "k": "0x1F"})"));
}

TEST(YamlDocument, MergingReplacesAndRemoves) {
  YamlDocument document = parse(
      "base: { a: { x: 1, y: 2 }, b: [1], c: 3 }\n"
      "over: { a: { y: null, z: { p: null, q: 5 } }, b: [2, 3], c: null, d: null }\n");
  YamlNodePtr result =
      merged(document.root()->find("base")->value, document.root()->find("over")->value);
  EXPECT_EQ(to_json(*result), base::Json::parse(R"({"a": {"x": 1, "z": {"q": 5}}, "b": [2, 3]})"));
}

TEST(YamlScalar, TrapsHaveRemedies) {
  EXPECT_EQ(boolean_trap("Yes"), "write true");
  EXPECT_EQ(boolean_trap("off"), "write false");
  EXPECT_EQ(boolean_trap("maybe"), "");
  EXPECT_EQ(number_trap("010"), "write 10 or 8: with the leading 0 some readers take it as octal");
  EXPECT_EQ(number_trap("09"), "write 9");
  EXPECT_EQ(number_trap("0o10"), "write 8");
  EXPECT_EQ(number_trap("0x1F"), "write 31");
  EXPECT_EQ(number_trap("1_000"), "write 1000");
  EXPECT_EQ(number_trap("1:30"),
            "write one number with a unit: 90s, or 90min if you meant hours and minutes");
  EXPECT_EQ(number_trap("10"), "");
  EXPECT_EQ(number_trap("1.5"), "");
  EXPECT_EQ(number_trap("30s"), "");
}

TEST(YamlScalar, NumbersAreDecimal) {
  EXPECT_EQ(core_integer("-3"), -3);
  EXPECT_EQ(core_integer("+3"), 3);
  EXPECT_EQ(core_integer("0"), 0);
  for (const char* text : {"", "-", "010", "1.0", "0x1", "1_0", "99999999999999999999", " 1"}) {
    EXPECT_FALSE(core_integer(text).has_value()) << text;
  }
  EXPECT_EQ(core_number("1e3"), 1000.0);
  EXPECT_EQ(core_number(".5"), 0.5);
  EXPECT_EQ(core_number("-1.5E-1"), -0.15);
  for (const char* text : {"", ".", "e3", "1e", "inf", ".inf", "nan", "1e999", "01.5", "1.5.2"}) {
    EXPECT_FALSE(core_number(text).has_value()) << text;
  }
}

}  // namespace
}  // namespace squall::model
