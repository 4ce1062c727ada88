#include "inject/faults/resource/filesystem.h"

#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

#include <cstdlib>
#include <filesystem>

#include "base/files.h"
#include "inject/faults/resource/cgroup_limit.h"
#include "inject/faults/resource/shared_space.h"
#include "inject/state_directory.h"

namespace squall::inject {

base::Status check_not_our_own(const BindRequest& request, const std::string& path) {
  const StateDirectory state{request.state_directory};
  struct Own {
    std::string folder;
    std::string_view what;
  };
  for (const Own& own : {Own{state.leases(), "the journals by which faults are undone"},
                         Own{state.durable_leases(), "the journals by which faults are undone"},
                         Own{request.record_directory, "the record of the run"}}) {
    if (own.folder.empty() || !share_space(path, own.folder)) continue;
    return base::Error{
        .code = base::ErrorCode::kBlocked,
        .message =
            fmt::format("{} lies on the same filesystem as {} ({})", path, own.folder, own.what),
        .hint =
            "use up a filesystem that holds the service's data only; for a trial mount one of "
            "its own: mount -t tmpfs -o size=64m none FOLDER"};
  }
  return {};
}

std::string real_path(const std::string& path) {
  std::error_code error;
  const auto real = std::filesystem::canonical(path, error);
  return error ? path : real.string();
}

base::Result<std::string> disk_of(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return base::system_error("look at " + path, errno);
  const dev_t device = S_ISBLK(info.st_mode) ? info.st_rdev : info.st_dev;
  const std::string number = fmt::format("{}:{}", major(device), minor(device));
  std::error_code error;
  const auto folder = std::filesystem::canonical("/sys/dev/block/" + number, error);
  if (error) {
    return base::Error{
        .code = base::ErrorCode::kUnsupported,
        .message = fmt::format("{} lies on no disk that the kernel can throttle", path),
        .hint =
            "tmpfs has none; for overlay, btrfs and network filesystems name the disk itself: "
            "path: /dev/..."};
  }
  if (!std::filesystem::exists(folder / "partition", error)) return number;
  return read_limit((folder.parent_path() / "dev").string());
}

std::uint64_t available_memory() {
  const auto text = base::read_pseudo_file("/proc/meminfo");
  const std::size_t at = text.ok() ? text->find("MemAvailable:") : std::string::npos;
  return at == std::string::npos ? 0 : std::strtoull(text->c_str() + at + 13, nullptr, 10) * 1024;
}

}  // namespace squall::inject
