#include "base/json.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "base/text.h"

namespace squall::base {
namespace {

TEST(Json, ErrorsSayLineAndColumn) {
  const auto broken = parse_json("{\n  \"a\": 1,\n  \"b\": }\n");
  ASSERT_FALSE(broken.ok());
  EXPECT_EQ(broken.error().code, ErrorCode::kBadFile);
  EXPECT_NE(broken.error().message.find("line 3, column 8"), std::string::npos)
      << broken.error().message;
  EXPECT_FALSE(parse_json("").ok());
  EXPECT_FALSE(parse_json("{\"a\":1} x").ok());
  EXPECT_FALSE(parse_json("\"\xff\"").ok());
  EXPECT_FALSE(parse_json("1e999").ok());
}

TEST(Json, RefusesWhatIsTooDeepOrTooLarge) {
  const std::string deep(65, '[');
  const auto result = parse_json(deep + std::string(65, ']'));
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.error().message.find("nested more than 64 deep"), std::string::npos);
  EXPECT_TRUE(parse_json(std::string(64, '[') + std::string(64, ']')).ok());
  EXPECT_TRUE(parse_json("\"" + deep + deep + "\\\"" + deep + "\"").ok());
  EXPECT_FALSE(parse_json(std::string(1'000'000, '[')).ok());
  EXPECT_FALSE(parse_json("[1,2,3]", 3).ok());
}

TEST(Json, CanonicalTextIsTheSameForTheSameValue) {
  EXPECT_EQ(
      canonical_json(parse_json(R"( { "b" : [1, 2.0, 1e3], "a" : "x\u0007\n\"\\é" } )").value()),
      "{\"a\":\"x\\u0007\\n\\\"\\\\é\",\"b\":[1,2,1000]}");
  EXPECT_EQ(canonical_json(Json(nullptr)), "null");
  EXPECT_EQ(canonical_json(Json(true)), "true");
  EXPECT_EQ(canonical_json(Json::object()), "{}");
  EXPECT_EQ(canonical_json(Json::array()), "[]");
}

TEST(Json, CanonicalNumbersFollowRfc8785) {
  // Appendix B of the RFC.
  EXPECT_EQ(canonical_json(Json(-0.0)), "0");
  EXPECT_EQ(canonical_json(Json(5e-324)), "5e-324");
  EXPECT_EQ(canonical_json(Json(1.7976931348623157e308)), "1.7976931348623157e+308");
  EXPECT_EQ(canonical_json(Json(9007199254740992.0)), "9007199254740992");
  EXPECT_EQ(canonical_json(Json(295147905179352830000.0)), "295147905179352830000");
  EXPECT_EQ(canonical_json(Json(9.999999999999997e22)), "9.999999999999997e+22");
  EXPECT_EQ(canonical_json(Json(1e21)), "1e+21");
  EXPECT_EQ(canonical_json(Json(0.000001)), "0.000001");
  EXPECT_EQ(canonical_json(Json(1e-7)), "1e-7");
  EXPECT_EQ(canonical_json(Json(-333333.3333333333)), "-333333.3333333333");
  EXPECT_EQ(canonical_json(Json(std::numeric_limits<double>::infinity())), "null");
}

TEST(Json, CanonicalTextReadsBackToTheSameText) {
  EXPECT_TRUE(rc::check([](const std::map<std::string, double>& numbers, const std::string& text) {
    Json value = Json::object();
    for (const auto& [key, number] : numbers) value[valid_utf8(key)] = number;
    value["text"] = text;
    const std::string once = canonical_json(value);
    const auto back = parse_json(once);
    RC_ASSERT(back.ok());
    RC_ASSERT(canonical_json(*back) == once);
  }));
}

TEST(JsonPath, FindsMembersAndItems) {
  Json document = parse_json(R"({"a":{"b":[{"c d":7}]},"x-y":{"é":1}})").value();
  const auto find = [&](std::string_view path) {
    return JsonPath::parse(path).value().find(std::as_const(document));
  };
  EXPECT_EQ(*find("$.a.b[0][\"c d\"]"), 7);
  EXPECT_EQ(*find("$['a']['b'][0]['c d']"), 7);
  EXPECT_EQ(*find("$.x-y.é"), 1);
  EXPECT_EQ(find("$"), &document);
  EXPECT_EQ(find("$.a.b[1]"), nullptr);
  EXPECT_EQ(find("$.a[0]"), nullptr);
  EXPECT_EQ(find("$.a.b.c"), nullptr);
  EXPECT_EQ(find("$.nothing"), nullptr);
  *JsonPath::parse("$.a.b[0]['c d']").value().find(document) = 8;
  EXPECT_EQ(document["a"]["b"][0]["c d"], 8);
  EXPECT_EQ(JsonPath::parse("$.a").value().text(), "$.a");
}

TEST(JsonPath, RefusesTheRestWithTheColumn) {
  for (const std::string_view bad : {"", "a", "$a", "$.", "$..a", "$[", "$[x]", "$['a", "$['a'",
                                     "$[0", "$[-1]", "$[*]", "$.a[?(@.b)]", "$[99999999999]"}) {
    const auto path = JsonPath::parse(bad);
    ASSERT_FALSE(path.ok()) << bad;
    EXPECT_EQ(path.error().code, ErrorCode::kUsage);
    EXPECT_NE(path.error().message.find("column"), std::string::npos);
  }
  EXPECT_TRUE(
      rc::check([](const std::string& text) { static_cast<void>(JsonPath::parse("$" + text)); }));
}

}  // namespace
}  // namespace squall::base
