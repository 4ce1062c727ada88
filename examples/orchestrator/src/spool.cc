#include "spool.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <filesystem>

#include "log.h"

namespace orchestrator {
namespace {

constexpr std::size_t kOutputBytes = 4096;
constexpr std::size_t kKept = 1000;
// What is running may still want to write.
constexpr unsigned long long kReserve = 1024 * 1024;

bool write_file(const std::string& path, const std::string& content) {
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (file < 0) return false;
  const auto written = ::write(file, content.data(), content.size());
  // Some filesystems say only here that there was no room.
  const bool closed = ::close(file) == 0;
  return closed && written == static_cast<ssize_t>(content.size());
}

}  // namespace

Spool::Spool(const std::string& folder, const std::string& member)
    : folder_(folder + '/' + member) {
  std::error_code error;
  std::filesystem::remove_all(folder_, error);
  std::filesystem::create_directories(folder_, error);
  if (error) log_warning(fmt::format("{}: {}", folder_, error.message()));
}

bool Spool::keep(TaskId task) {
  const std::string path = fmt::format("{}/{}", folder_, task);
  if (!write_file(path, std::string(kOutputBytes, 'x'))) {
    ::unlink(path.c_str());
    return false;
  }
  kept_.push_back(path);
  if (kept_.size() > kKept) {
    ::unlink(kept_.front().c_str());
    kept_.pop_front();
  }
  return true;
}

bool is_nearly_full(const std::string& folder) {
  struct statvfs info {};
  return ::statvfs(folder.c_str(), &info) != 0 || info.f_bavail * info.f_frsize < kReserve;
}

}  // namespace orchestrator
