#pragma once
// Follows a log file from its end, over rotation and truncation.

#include <sys/types.h>

#include <functional>
#include <string>
#include <string_view>

#include "base/fd.h"

namespace squall::observe {

// Not thread-safe. Reads regular files only: a pipe would block.
class LogTail {
 public:
  // Lines longer than this are cut; the rest of such a line is dropped.
  static constexpr std::size_t kLineMax = 16 * 1024;  // bytes

  explicit LogTail(std::string path) : path_(std::move(path)) {}

  // From now on: what is in the file already is not reported. A file that does not exist yet is
  // reported from its beginning when it appears.
  void start();
  // Gives every line that was completed since, without its line end. Reads at most `limit` bytes;
  // true when there is more.
  bool poll(std::size_t limit, const std::function<void(std::string_view)>& on_line);
  const std::string& path() const { return path_; }

 private:
  enum class Place { kBegin, kEnd };
  void open(Place place);
  std::size_t read(std::size_t limit, const std::function<void(std::string_view)>& on_line);
  void take(std::string_view bytes, const std::function<void(std::string_view)>& on_line);
  bool rotated() const;

  std::string path_;
  base::UniqueFd fd_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
  off_t offset_ = 0;
  std::string partial_;
  bool overlong_ = false;
};

}  // namespace squall::observe
