#include "inject/state_directory.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>

#include "base/files.h"
#include "base/text.h"

namespace squall::inject {

namespace {

constexpr int kLockAttempts = 100;
constexpr timespec kLockPause{.tv_sec = 0, .tv_nsec = 1'000'000};

bool on_tmpfs(const char* path) {
  struct statfs info {};
  return ::statfs(path, &info) == 0 && info.f_type == TMPFS_MAGIC;
}

std::string default_path() {
  if (on_tmpfs("/run") || !on_tmpfs("/dev/shm")) return "/run/squall";
  return "/dev/shm/squall";
}

// /dev/shm is writable for all, so whoever is there first could own our folder.
base::Status check_owner(const std::string& path) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0) return base::system_error("look at " + path, errno);
  const bool ours = info.st_uid == ::geteuid() || info.st_uid == 0;
  if (S_ISDIR(info.st_mode) && ours && (info.st_mode & (S_IWGRP | S_IWOTH)) == 0) return {};
  return base::Error{
      .code = base::ErrorCode::kPermission,
      .message = fmt::format("{} is not a folder that only its owner may write to, or the owner is "
                             "user {} and not us",
                             path, info.st_uid),
      .hint = fmt::format("look who made it, then remove {} and try again", path)};
}

// A missing folder is an empty one.
base::Result<std::vector<std::string>> list_files(const std::string& folder,
                                                  std::string_view suffix) {
  std::vector<std::string> files;
  const auto names = base::names_in_folder(folder);
  if (!names.ok() && names.error().code == base::ErrorCode::kNotFound) return files;
  if (!names.ok()) return names.error();
  for (const std::string& name : *names) {
    if (name.ends_with(suffix)) files.push_back(base::join_path(folder, name));
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

StateDirectory::StateDirectory(const std::string& path)
    : path_(path.empty() ? default_path() : path),
      durable_(path.empty() ? "/var/lib/squall" : path + "/durable") {}

base::Status StateDirectory::create() const {
  for (const std::string& folder : {path_, durable_, leases(), durable_leases(), runs()}) {
    SQUALL_TRY(base::make_directories(folder));
    SQUALL_TRY(check_owner(folder));
  }
  return {};
}

std::string StateDirectory::leases() const {
  return path_ + "/leases";
}
std::string StateDirectory::durable_leases() const {
  return durable_ + "/leases";
}
std::string StateDirectory::runs() const {
  return path_ + "/runs";
}
std::string StateDirectory::kill_switch() const {
  return path_ + "/kill-switch.json";
}

std::vector<std::string> StateDirectory::lease_files() const {
  std::vector<std::string> files = files_with_suffix(leases(), ".lease");
  for (std::string& file : files_with_suffix(durable_leases(), ".lease"))
    files.push_back(std::move(file));
  return files;
}

base::Result<std::vector<std::string>> StateDirectory::list_lease_files() const {
  SQUALL_ASSIGN(std::vector<std::string> files, list_files(leases(), ".lease"));
  SQUALL_ASSIGN(std::vector<std::string> durable, list_files(durable_leases(), ".lease"));
  for (std::string& file : durable) files.push_back(std::move(file));
  return files;
}

base::Result<base::UniqueFd> StateDirectory::lock() const {
  const std::string path = path_ + "/lock";
  base::UniqueFd file{::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)};
  if (!file) return base::system_error("open " + path, errno);
  for (int attempt = 0; attempt < kLockAttempts; ++attempt) {
    if (::flock(file.get(), LOCK_EX | LOCK_NB) == 0) return file;
    if (errno != EWOULDBLOCK && errno != EINTR) return base::system_error("lock " + path, errno);
    ::nanosleep(&kLockPause, nullptr);
  }
  return base::Error{.code = base::ErrorCode::kConflict,
                     .message = "another run is arming a fault at this moment and does not finish",
                     .hint = "see `squall status`, then try again"};
}

std::vector<std::string> files_with_suffix(const std::string& folder, std::string_view suffix) {
  return list_files(folder, suffix).value_or(std::vector<std::string>{});
}

std::string boot_id() {
  auto text = base::read_pseudo_file("/proc/sys/kernel/random/boot_id");
  return text.ok() ? std::string(base::trim(*text)) : std::string{};
}

}  // namespace squall::inject
