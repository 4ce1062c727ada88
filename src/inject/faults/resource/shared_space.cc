#include "inject/faults/resource/shared_space.h"

#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include <filesystem>

namespace squall::inject {

bool share_space(const std::string& one, std::string other) {
  std::error_code error;
  while (other.size() > 1 && !std::filesystem::exists(other, error))
    other = std::filesystem::path(other).parent_path().string();
  struct stat first {};
  struct stat second {};
  if (::stat(one.c_str(), &first) != 0 || ::stat(other.c_str(), &second) != 0) return true;
  if (first.st_dev == second.st_dev) return true;
  // Otherwise they have device numbers of their own, but the very same sizes.
  for (int attempt = 0; attempt < 3; ++attempt) {  // somebody may write between the two looks
    struct statfs a {};
    struct statfs b {};
    if (::statfs(one.c_str(), &a) != 0 || ::statfs(other.c_str(), &b) != 0) return true;
    // Two fresh tmpfs are alike, but never share.
    if (a.f_type == TMPFS_MAGIC || b.f_type == TMPFS_MAGIC) return false;
    if (a.f_blocks == b.f_blocks && a.f_bfree == b.f_bfree && a.f_files == b.f_files) return true;
  }
  return false;
}

}  // namespace squall::inject
