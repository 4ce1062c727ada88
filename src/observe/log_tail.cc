#include "observe/log_tail.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>

namespace squall::observe {

void LogTail::start() {
  open(Place::kEnd);
}

void LogTail::open(Place place) {
  partial_.clear();
  overlong_ = false;
  offset_ = 0;
  fd_.reset(::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  struct stat status {};
  if (!fd_ || fstat(fd_.get(), &status) != 0 || !S_ISREG(status.st_mode)) {
    fd_.reset();
    return;
  }
  device_ = status.st_dev;
  inode_ = status.st_ino;
  if (place == Place::kEnd) offset_ = status.st_size;
}

bool LogTail::rotated() const {
  struct stat status {};
  if (::stat(path_.c_str(), &status) != 0)
    return false;  // moved away; the new one is not there yet
  return status.st_dev != device_ || status.st_ino != inode_;
}

void LogTail::take(std::string_view bytes, const std::function<void(std::string_view)>& on_line) {
  while (!bytes.empty()) {
    const std::size_t end = bytes.find('\n');
    const std::string_view piece = bytes.substr(0, end);
    if (!overlong_)
      partial_.append(piece.substr(0, kLineMax - std::min(kLineMax, partial_.size())));
    if (partial_.size() >= kLineMax) overlong_ = true;
    if (end == std::string_view::npos) return;
    std::string_view line = partial_;
    if (line.ends_with('\r')) line.remove_suffix(1);
    on_line(line);
    partial_.clear();
    overlong_ = false;
    bytes.remove_prefix(end + 1);
  }
}

std::size_t LogTail::read(std::size_t limit, const std::function<void(std::string_view)>& on_line) {
  std::array<char, 32 * 1024> buffer;
  std::size_t total = 0;
  while (total < limit) {
    const ssize_t size = pread(fd_.get(), buffer.data(), buffer.size(), offset_);
    if (size <= 0) break;
    offset_ += size;
    total += static_cast<std::size_t>(size);
    take({buffer.data(), static_cast<std::size_t>(size)}, on_line);
  }
  return total;
}

bool LogTail::poll(std::size_t limit, const std::function<void(std::string_view)>& on_line) {
  if (!fd_) {
    open(Place::kBegin);
    if (!fd_) return false;
  }
  struct stat status {};
  if (fstat(fd_.get(), &status) == 0 && status.st_size < offset_) {  // truncated
    offset_ = 0;
    partial_.clear();
    overlong_ = false;
  }
  // Looked at before reading: what was written to the old file before it was replaced is read now.
  const bool replaced = rotated();
  if (read(limit, on_line) >= limit) return true;
  if (!replaced) return false;
  open(Place::kBegin);
  return fd_.valid() && read(limit, on_line) >= limit;
}

}  // namespace squall::observe
