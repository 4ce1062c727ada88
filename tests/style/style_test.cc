// Rules of the house that a program can check.

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/files.h"
#include "style/checker.h"

namespace squall::style {
namespace {

const std::vector<std::string> kAllFolders{"src", "tests", "fuzz", "bench", "examples"};

std::string list(const std::vector<std::string>& problems) {
  std::string text;
  for (const std::string& problem : problems) text += "\n  " + problem;
  return text;
}

TEST(Style, NoShellInTheProduct) {
  const auto problems = check_no_shell(read_sources(SQUALL_SOURCE_DIR, {"src"}));
  EXPECT_TRUE(problems.empty()) << list(problems);
}

TEST(Style, NothingIsPutOff) {
  const auto problems = check_no_leftovers(read_sources(SQUALL_SOURCE_DIR, kAllFolders));
  EXPECT_TRUE(problems.empty()) << list(problems);
}

TEST(Style, FilesAndLinesHaveBounds) {
  const auto problems = check_sizes(read_sources(SQUALL_SOURCE_DIR, kAllFolders));
  EXPECT_TRUE(problems.empty()) << list(problems);
}

std::vector<SourceFile> one(const std::string& line, const std::string& path = "src/a/b.cc") {
  return {{.path = path, .lines = {line}}};
}

TEST(StyleChecker, KnowsAShellWhenItSeesOne) {
  for (const char* line :
       {"  system(\"ls\");", "if (std::system(text)) {", "FILE* f = ::popen(c, \"r\");",
        "argv = {\"/bin/sh\", \"-"
        "c\", text};",
        "run(\"sh -"
        "c 'ls'\");",
        "{\"bash\", \"-"
        "c\"}"})
    EXPECT_EQ(check_no_shell(one(line)).size(), 1u) << line;
  for (const char* line :
       {"return system_error(\"open\", errno);", "map.system();", "plan->system()",
        "// the system (all of it)?", "ecosystem(x)", "{\"ssh\", \"-C\"}", "publish -cold"}) {
    EXPECT_TRUE(check_no_shell(one(line)).empty()) << line;
  }
  EXPECT_TRUE(check_no_shell(one("system(\"ls\")", "tests/a_test.cc")).empty());
}

TEST(StyleChecker, KnowsWhatIsPutOff) {
  EXPECT_EQ(check_no_leftovers(one("// TO"
                                   "DO: later"))
                .size(),
            1u);
  EXPECT_EQ(check_no_leftovers(one("// FIX"
                                   "ME"))
                .size(),
            1u);
  EXPECT_EQ(check_no_leftovers(one("path = \"/wo"
                                   "rk/main/x\""))
                .size(),
            1u);
  EXPECT_TRUE(check_no_leftovers(one("int todos = 0; // mkstemp(XXXXXX)")).empty());
}

TEST(StyleChecker, MeasuresFilesAndLines) {
  EXPECT_TRUE(check_sizes(one(std::string(100, 'x'))).empty());
  EXPECT_EQ(check_sizes(one(std::string(101, 'x'))).size(), 1u);
  std::string accents;
  for (int i = 0; i < 100; ++i) accents += "é";
  EXPECT_TRUE(check_sizes(one(accents)).empty()) << "columns are not bytes";
  SourceFile file{.path = "src/a/b.cc", .lines = std::vector<std::string>(700)};
  EXPECT_TRUE(check_sizes({file}).empty());
  file.lines.emplace_back();
  EXPECT_EQ(check_sizes({file}).size(), 1u);
}

TEST(StyleChecker, ReadsATree) {
  const std::string root = base::make_temporary_directory("squall-style-").value();
  ASSERT_TRUE(base::make_directories(root + "/src/model/deep").ok());
  ASSERT_TRUE(base::make_directories(root + "/docs").ok());
  std::ofstream(root + "/src/model/deep/a.h") << "#include \"cli/x.h\"\nsecond";
  std::ofstream(root + "/src/model/notes.txt") << "#include \"cli/x.h\"\n";
  std::ofstream(root + "/docs/b.h") << "not asked for";
  const auto files = read_sources(root, {"src", "none"});
  std::filesystem::remove_all(root);
  ASSERT_EQ(files.size(), 1u);
  EXPECT_EQ(files[0].path, "src/model/deep/a.h");
  EXPECT_EQ(files[0].lines.size(), 2u);
  EXPECT_EQ(check_layers(files, rooms()).size(), 1u);
}

}  // namespace
}  // namespace squall::style
