#include "base/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "base/ids.h"
#include "base/text.h"

namespace squall::base {

namespace {

constexpr std::size_t kPseudoFileLimit = 64u << 20;

Error too_large(const std::string& path, std::size_t limit) {
  return Error{.code = ErrorCode::kExhausted,
               .message = fmt::format("{} is larger than {} bytes", path, limit),
               .hint = "check that this is the file you mean"};
}

// Reads to the end, growing as needed, and stops at one byte more than `limit`.
Status read_to_end(int fd, const std::string& path, std::size_t limit, std::string& out) {
  std::size_t used = 0;
  while (true) {
    if (used == out.size()) out.resize(std::max<std::size_t>(4096, 2 * used));
    const ssize_t got = ::read(fd, out.data() + used, out.size() - used);
    if (got < 0) {
      if (errno == EINTR) continue;
      return system_error(fmt::format("read {}", path), errno);
    }
    if (got == 0) break;
    used += static_cast<std::size_t>(got);
    if (used > limit) return too_large(path, limit);
  }
  out.resize(used);
  return {};
}

Result<UniqueFd> open_for_reading(const std::string& path) {
  UniqueFd fd;
  do {
    fd.reset(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
  } while (!fd.valid() && errno == EINTR);
  if (!fd.valid()) return system_error(fmt::format("open {}", path), errno);
  return fd;
}

std::string folder_of(const std::string& path) {
  const auto slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// Makes a rename durable. Some filesystems refuse to sync a folder (EINVAL); nothing is lost then.
Status sync_folder(const std::string& folder) {
  UniqueFd fd{::open(folder.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECTORY)};
  if (!fd.valid()) return system_error(fmt::format("open {}", folder), errno);
  if (::fsync(fd.get()) != 0 && errno != EINVAL)
    return system_error(fmt::format("sync {}", folder), errno);
  return {};
}

}  // namespace

Result<std::string> read_file(const std::string& path, std::size_t limit) {
  SQUALL_ASSIGN(const UniqueFd fd, open_for_reading(path));
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) return system_error(fmt::format("stat {}", path), errno);
  if (S_ISDIR(status.st_mode)) {
    return Error{.code = ErrorCode::kBadFile,
                 .message = fmt::format("{} is a directory", path),
                 .hint = "name a file in it"};
  }
  const auto size = static_cast<std::size_t>(std::max<off_t>(0, status.st_size));
  if (S_ISREG(status.st_mode) && size > limit) return too_large(path, limit);
  std::string content;
  content.resize(size + 1);  // one more, so that the end is seen without growing
  SQUALL_TRY(read_to_end(fd.get(), path, limit, content));
  return content;
}

Result<std::string> read_pseudo_file(const std::string& path) {
  SQUALL_ASSIGN(const UniqueFd fd, open_for_reading(path));
  std::string content;
  SQUALL_TRY(read_to_end(fd.get(), path, kPseudoFileLimit, content));
  return content;
}

Status write_all(int fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      return system_error("write", errno);
    }
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return {};
}

Status write_all(int fd, std::string_view text) {
  return write_all(fd, std::as_bytes(std::span{text.data(), text.size()}));
}

Status write_file_atomically(const std::string& path, std::string_view content, unsigned mode) {
  const std::string beside = fmt::format("{}.{:016x}.part", path, random_u64());
  UniqueFd fd{::open(beside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)};
  if (!fd.valid()) return system_error(fmt::format("create {}", beside), errno);
  const auto finish = [&]() -> Status {
    if (auto written = write_all(fd.get(), content); !written.ok())
      return std::move(written).error().within(fmt::format("writing {}", path));
    if (::fchmod(fd.get(), mode) != 0) return system_error(fmt::format("chmod {}", beside), errno);
    if (::fsync(fd.get()) != 0) return system_error(fmt::format("sync {}", beside), errno);
    if (::rename(beside.c_str(), path.c_str()) != 0)
      return system_error(fmt::format("rename {} to {}", beside, path), errno);
    return {};
  };
  if (auto done = finish(); !done.ok()) {
    ::unlink(beside.c_str());
    return done;
  }
  return sync_folder(folder_of(path));
}

Status make_directories(const std::string& path, unsigned mode) {
  for (std::size_t at = 0; at != std::string::npos && at < path.size();) {
    at = path.find('/', at + 1);
    const std::string folder = path.substr(0, at);
    if (::mkdir(folder.c_str(), mode) == 0 || errno == EEXIST) continue;
    return system_error(fmt::format("create folder {}", folder), errno);
  }
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return system_error(fmt::format("stat {}", path), errno);
  if (!S_ISDIR(status.st_mode)) {
    return Error{.code = ErrorCode::kConflict,
                 .message = fmt::format("{} exists and is not a folder", path),
                 .hint = "move it away, or choose another place"};
  }
  return {};
}

Result<std::string> make_temporary_directory(const std::string& prefix) {
  const char* where = std::getenv("TMPDIR");
  std::string path = join_path(where != nullptr && *where != '\0' ? where : "/tmp", prefix);
  path += "XXXXXX";
  if (::mkdtemp(path.data()) == nullptr)
    return system_error(fmt::format("create temporary folder {}", path), errno);
  return path;
}

Result<std::vector<std::string>> names_in_folder(const std::string& path) {
  DIR* folder = ::opendir(path.c_str());
  if (folder == nullptr) return system_error(fmt::format("open folder {}", path), errno);
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = ::readdir(folder)) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
    errno = 0;  // the end and an error look alike but for this
  }
  const int failure = errno;
  ::closedir(folder);
  if (failure != 0) return system_error(fmt::format("read folder {}", path), failure);
  return names;
}

Result<UniqueFd> open_without_links(const std::string& path, int flags, unsigned mode) {
  if (!path.starts_with('/'))
    return Error{.code = ErrorCode::kUsage, .message = path + " is no full path"};
  UniqueFd folder{::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC)};
  std::vector<std::string> parts;
  for (std::string& part : split(path, '/')) {
    if (part == "..") return Error{.code = ErrorCode::kBlocked, .message = path + " leads upwards"};
    if (!part.empty() && part != ".") parts.push_back(std::move(part));
  }
  if (parts.empty()) parts.emplace_back(".");
  // An unnamed file is made in the folder that is named last.
  if ((flags & O_TMPFILE) == O_TMPFILE && parts.back() != ".") parts.emplace_back(".");
  for (std::size_t i = 0; folder && i < parts.size(); ++i) {
    const bool last = i + 1 == parts.size();
    const int how = last ? flags : O_PATH | O_DIRECTORY;
    UniqueFd next{::openat(folder.get(), parts[i].c_str(), how | O_NOFOLLOW | O_CLOEXEC, mode)};
    const int error = errno;
    struct stat info {};
    // O_PATH opens the link itself.
    const bool link = ::fstatat(folder.get(), parts[i].c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0 &&
                      S_ISLNK(info.st_mode);
    const bool opened_link = next && ::fstat(next.get(), &info) == 0 && S_ISLNK(info.st_mode);
    if (opened_link || (!next && link)) {
      return Error{.code = ErrorCode::kBlocked,
                   .message = path + " leads over a symbolic link",
                   .hint = "write the real path: realpath " + path};
    }
    if (!next) return system_error("open " + path, error);
    folder = std::move(next);
  }
  if (!folder) return system_error("open /", errno);
  return folder;
}

std::string join_path(std::string_view folder, std::string_view name) {
  if (folder.empty() || name.starts_with('/')) return std::string(name);
  std::string path(folder);
  if (!path.ends_with('/')) path += '/';
  path += name;
  return path;
}

Result<std::uint64_t> free_space(const std::string& path) {
  struct statvfs status {};
  if (::statvfs(path.c_str(), &status) != 0)
    return system_error(fmt::format("read the free space of {}", path), errno);
  return std::uint64_t{status.f_bavail} * status.f_frsize;
}

}  // namespace squall::base
