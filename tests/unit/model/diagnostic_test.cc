#include "model/diagnostic.h"

#include <gtest/gtest.h>

namespace squall::model {
namespace {

TEST(Diagnostics, AreShownFromTopToBottomWithExcerptCaretAndHint) {
  Diagnostics diagnostics;
  diagnostics.set_source("w.yaml", "a: 1\r\n\tfautls: x\r\n");
  diagnostics.error({"w.yaml", 2, 2}, "unknown key `fautls`", "did you mean `faults`?", 6);
  diagnostics.warning({"w.yaml", 1, 4}, "odd");
  diagnostics.error({"w.yaml", 0, 0}, "there is no environment `x`");
  EXPECT_EQ(diagnostics.render(),
            "w.yaml: error: there is no environment `x`\n"
            "w.yaml:1:4: warning: odd\n"
            "  1 | a: 1\n"
            "    |    ^\n"
            "w.yaml:2:2: error: unknown key `fautls`\n"
            "  2 |  fautls: x\n"
            "    |  ^~~~~~\n"
            "  hint: did you mean `faults`?\n");
}

TEST(Diagnostics, TheCaretCountsCharacters) {
  Diagnostics diagnostics;
  diagnostics.set_source("f", "\xC3\xA4\xC3\xA4: x");
  diagnostics.error({"f", 1, 5}, "m");
  EXPECT_EQ(diagnostics.all()[0].excerpt, "\xC3\xA4\xC3\xA4: x");
  EXPECT_NE(diagnostics.render().find("    |     ^\n"), std::string::npos) << diagnostics.render();
}

TEST(Diagnostics, AnEmptyNameHasACaret) {
  Diagnostics diagnostics;
  diagnostics.set_source("f", "!\"\": x");
  diagnostics.error({"f", 1, 1}, "unknown key ``", {}, 0);
  EXPECT_EQ(diagnostics.all()[0].width, 1);
}

TEST(Diagnostics, ALongLineIsCutAroundTheMistake) {
  Diagnostics diagnostics;
  diagnostics.set_source("f", std::string(5000, 'a') + "HERE" + std::string(5000, 'b'));
  diagnostics.error({"f", 1, 5001}, "m", {}, 4);
  std::string text = diagnostics.render();
  EXPECT_LT(text.size(), 400u);
  std::size_t here = text.find("HERE");
  ASSERT_NE(here, std::string::npos);
  EXPECT_NE(text.find("^~~~"), std::string::npos);
}

TEST(Diagnostics, WarningsAreNoErrors) {
  Diagnostics diagnostics;
  diagnostics.warning({"f", 1, 1}, "m");
  EXPECT_FALSE(diagnostics.has_errors());
  diagnostics.error({"f", 1, 1}, "n");
  EXPECT_TRUE(diagnostics.has_errors());
  EXPECT_EQ(diagnostics.to_error().code, base::ErrorCode::kBadFile);
}

TEST(Diagnostics, AppendingKeepsEachOnce) {
  Diagnostics first;
  first.error({"f", 1, 1}, "m");
  Diagnostics second = first;
  second.error({"f", 2, 1}, "n");
  first.append(second);
  EXPECT_EQ(first.all().size(), 2u);
}

TEST(Diagnostics, AFloodIsCut) {
  Diagnostics diagnostics;
  for (int i = 0; i < 5000; ++i) diagnostics.error({"f", i + 1, 1}, "m");
  EXPECT_EQ(diagnostics.all().size(), 1000u);
  EXPECT_NE(diagnostics.render().find("... and 950 more\n"), std::string::npos);
}

TEST(Diagnostics, ControlCharactersDoNotReachTheTerminal) {
  Diagnostics diagnostics;
  diagnostics.set_source("f", "a\x1b[31m");
  diagnostics.error({"f", 1, 1}, "key `\x1b[31m`");
  EXPECT_EQ(diagnostics.render().find('\x1b'), std::string::npos);
}

}  // namespace
}  // namespace squall::model
