// Every example of docs/files.md is read, so that the page cannot promise what the parser refuses.
#include <gtest/gtest.h>

#include "base/files.h"
#include "model/yaml_document.h"
#include "unit/model/vocabulary_for_test.h"

namespace squall::model {
namespace {

std::vector<std::string> yaml_examples(const std::string& page) {
  constexpr std::string_view kBegin = "```yaml\n";
  std::vector<std::string> result;
  std::size_t at = 0;
  while ((at = page.find(kBegin, at)) != std::string::npos) {
    std::size_t begin = at + kBegin.size();
    std::size_t end = page.find("```", begin);
    result.push_back(page.substr(begin, end - begin));
    at = end + 3;
  }
  return result;
}

TEST(FilesPage, EveryExampleIsRight) {
  const std::string page =
      base::read_file(std::string(SQUALL_SOURCE_DIR) + "/docs/files.md", kFileSizeLimit).value();
  int maps = 0;
  int experiments = 0;
  for (const std::string& example : yaml_examples(page)) {
    if (example.starts_with("# squall.yaml\n")) {
      ++maps;
      for (const char* environment : {"", "production"}) {
        EXPECT_EQ(testing::map_mistakes(example, environment), "") << example;
      }
    } else if (example.starts_with("# experiment\n")) {
      ++experiments;
      EXPECT_EQ(testing::experiment_mistakes(example), "") << example;
    } else if (!example.starts_with("# /etc/squall/policy.yaml\n")) {  // Policy.* reads that one
      ADD_FAILURE() << "an example that says not what it is: " << example;
    }
  }
  EXPECT_GE(maps, 2);
  EXPECT_GE(experiments, 1);
}

}  // namespace
}  // namespace squall::model
