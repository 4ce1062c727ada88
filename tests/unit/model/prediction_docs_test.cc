// Every example of docs/predictions.md is what the language really does.

#include <gtest/gtest.h>

#include <fstream>
#include <map>

#include "unit/model/prediction_support.h"

namespace squall::model {
namespace {

using testing::messages;
using testing::parse;

// The lines of the fenced blocks of the page, by the word behind the fence.
std::map<std::string, std::vector<std::string>> examples() {
  std::map<std::string, std::vector<std::string>> blocks;
  std::ifstream page(std::string(SQUALL_SOURCE_DIR) + "/docs/predictions.md");
  std::string kind;
  bool inside = false;
  for (std::string line; std::getline(page, line);) {
    if (line.starts_with("```")) {
      inside = !inside;
      kind = line.substr(3);
      EXPECT_FALSE(inside && kind.empty()) << "a fenced block without a kind is not tested";
    } else if (inside && !line.empty()) {
      blocks[kind].push_back(line);
    }
  }
  return blocks;
}

void expect_all_accepted(const std::vector<std::string>& lines, ClauseRule rule) {
  EXPECT_FALSE(lines.empty());
  for (const std::string& line : lines) {
    const auto parsed = parse(line, rule);
    EXPECT_TRUE(parsed.prediction) << line << "\n" << messages(parsed.errors);
  }
}

TEST(PredictionDocs, EveryExampleParses) {
  auto blocks = examples();
  expect_all_accepted(blocks["prediction"], ClauseRule::kHypothesis);
  expect_all_accepted(blocks["steady-state"], ClauseRule::kSteadyState);
  expect_all_accepted(blocks["abort"], ClauseRule::kAbortRule);
  EXPECT_FALSE(blocks["expect"].empty());
  for (const std::string& line : blocks["expect"]) {
    const auto parsed = parse_condition(line);
    EXPECT_TRUE(parsed.condition) << line << "\n" << messages(parsed.errors);
  }
}

TEST(PredictionDocs, NoExampleIsOfAnUnknownKind) {
  for (const auto& [kind, lines] : examples()) {
    EXPECT_TRUE(kind == "prediction" || kind == "steady-state" || kind == "abort" ||
                kind == "expect" || kind == "mistakes" || kind == "ebnf")
        << kind;
  }
}

TEST(PredictionDocs, EveryMistakeIsAnsweredAsWritten) {
  const auto lines = examples()["mistakes"];
  ASSERT_FALSE(lines.empty());
  ASSERT_EQ(lines.size() % 2, 0u);
  for (std::size_t i = 0; i < lines.size(); i += 2) {
    const auto parsed = parse(lines[i]);
    EXPECT_FALSE(parsed.prediction) << lines[i];
    ASSERT_FALSE(parsed.errors.empty()) << lines[i];
    const LanguageError& error = parsed.errors.front();
    EXPECT_EQ("  " + error.message + ": " + error.hint, lines[i + 1]) << lines[i];
  }
}

}  // namespace
}  // namespace squall::model
