#include <gtest/gtest.h>

#include <set>

#include "cli/command.h"

namespace squall::cli {
namespace {

TEST(Commands, AreNamedOnceAndDescribed) {
  std::set<std::string_view> names;
  for (const Command* command : commands()) {
    EXPECT_TRUE(names.insert(command->name).second) << command->name;
    EXPECT_FALSE(command->summary.empty()) << command->name;
    EXPECT_NE(command->run, nullptr) << command->name;
    for (const Option& option : command->options) {
      EXPECT_EQ(option.name.substr(0, 2), "--") << command->name;
      EXPECT_FALSE(option.summary.empty()) << command->name << " " << option.name;
    }
  }
}

int run(std::vector<std::string> words) {
  words.insert(words.begin(), "squall");
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  return run_command_line(static_cast<int>(argv.size()), argv.data());
}

TEST(CommandLine, EveryCommandHasHelp) {
  for (const Command* command : commands()) {
    testing::internal::CaptureStdout();
    EXPECT_EQ(run({std::string(command->name), "--help"}), 0) << command->name;
    const std::string help = testing::internal::GetCapturedStdout();
    for (const Option& option : command->options) {
      EXPECT_NE(help.find(option.name), std::string::npos) << command->name << " " << option.name;
    }
    for (const std::string_view example : command->examples) {
      EXPECT_NE(help.find(example), std::string::npos) << command->name;
    }
  }
}

TEST(CommandLine, WrongUseIsExitStatusTwo) {
  EXPECT_EQ(run({"rnu"}), 2);
  EXPECT_EQ(run({"run"}), 2);
  EXPECT_EQ(run({"version", "--nonsense"}), 2);
  EXPECT_EQ(run({"version"}), 0);
}

}  // namespace
}  // namespace squall::cli
