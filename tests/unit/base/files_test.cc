#include "base/files.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <thread>

namespace squall::base {
namespace {

class Files : public testing::Test {
 protected:
  Files() : folder_(make_temporary_directory("squall-files-").value()) {}
  ~Files() override { std::filesystem::remove_all(folder_); }
  std::string folder_;
};

TEST_F(Files, ReadsBackWhatItWrote) {
  const std::string path = join_path(folder_, "a");
  const std::string content(100'000, 'x');
  ASSERT_TRUE(write_file_atomically(path, content, 0640).ok());
  EXPECT_EQ(read_file(path, content.size()).value(), content);
  struct stat status {};
  ASSERT_EQ(::stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0640u);
  ASSERT_TRUE(write_file_atomically(path, "new").ok());
  EXPECT_EQ(read_file(path, 3).value(), "new");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1);
}

TEST_F(Files, RefusesWhatIsTooLarge) {
  const std::string path = join_path(folder_, "a");
  ASSERT_TRUE(write_file_atomically(path, "four").ok());
  EXPECT_EQ(read_file(path, 3).error().code, ErrorCode::kExhausted);
  EXPECT_EQ(read_file("/dev/zero", 1000).error().code, ErrorCode::kExhausted);
  EXPECT_EQ(read_file(join_path(folder_, "none"), 9).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(read_file(folder_, 9).error().code, ErrorCode::kBadFile);
}

TEST_F(Files, AFailedWriteLeavesNothing) {
  const std::string folder = join_path(folder_, "taken");
  ASSERT_TRUE(make_directories(folder).ok());
  EXPECT_FALSE(write_file_atomically(folder, "x").ok());
  EXPECT_FALSE(write_file_atomically(join_path(folder_, "no/such/file"), "x").ok());
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1);
}

TEST_F(Files, MakesFolders) {
  const std::string path = join_path(folder_, "a/b/c");
  EXPECT_TRUE(make_directories(path).ok());
  EXPECT_TRUE(make_directories(path).ok());
  EXPECT_TRUE(std::filesystem::is_directory(path));
  ASSERT_TRUE(write_file_atomically(join_path(path, "file"), "").ok());
  EXPECT_EQ(make_directories(join_path(path, "file")).error().code, ErrorCode::kConflict);
  EXPECT_FALSE(make_directories(join_path(path, "file/below")).ok());
}

TEST_F(Files, PseudoFilesAreReadWhole) {
  EXPECT_FALSE(read_pseudo_file("/proc/self/maps").value().empty());
  EXPECT_EQ(read_pseudo_file("/proc/self/nothing").error().code, ErrorCode::kNotFound);
}

TEST_F(Files, WriteAllSurvivesShortWritesAndSaysWhatFails) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  UniqueFd read_end{ends[0]};
  UniqueFd write_end{ends[1]};
  const std::string sent(1'000'000, 'y');
  std::string got;
  std::thread reader([&] {
    char buffer[1000];
    ssize_t count = 0;
    while ((count = ::read(read_end.get(), buffer, sizeof buffer)) > 0)
      got.append(buffer, static_cast<std::size_t>(count));
  });
  EXPECT_TRUE(write_all(write_end.get(), sent).ok());
  write_end.reset();
  reader.join();
  EXPECT_EQ(got, sent);
  const UniqueFd full{::open("/dev/full", O_WRONLY | O_CLOEXEC)};
  EXPECT_EQ(write_all(full.get(), "x").error().code, ErrorCode::kExhausted);
}

TEST_F(Files, JoinsPaths) {
  EXPECT_EQ(join_path("/a", "b"), "/a/b");
  EXPECT_EQ(join_path("/a/", "b"), "/a/b");
  EXPECT_EQ(join_path("", "b"), "b");
  EXPECT_EQ(join_path("/a", "/b"), "/b");
}

TEST_F(Files, KnowsTheFreeSpace) {
  EXPECT_GT(free_space(folder_).value(), 0u);
  EXPECT_FALSE(free_space(join_path(folder_, "none")).ok());
}

}  // namespace
}  // namespace squall::base
