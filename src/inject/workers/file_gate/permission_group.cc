#include "inject/workers/file_gate/permission_group.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/fanotify.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>

#include "base/files.h"

namespace squall::inject {

namespace {

// Fewer than kRoom descriptors come out of one read.
constexpr std::size_t kBuffer = 4096;
constexpr unsigned kErrorShift = 24;  // FAN_DENY_ERRNO
constexpr unsigned kReportThread = 0x0000'0100;

base::Error not_opened(int error) {
  if (error == EPERM) {
    return {.code = base::ErrorCode::kPermission,
            .message = "to hold accesses to files CAP_SYS_ADMIN is needed",
            .hint = "run as root with it; in a container: --cap-add SYS_ADMIN"};
  }
  if (error == ENOSYS || error == EINVAL) {
    return {.code = base::ErrorCode::kUnsupported,
            .message = "this kernel has no fanotify permission events",
            .hint = "it must be built with CONFIG_FANOTIFY_ACCESS_PERMISSIONS"};
  }
  return base::system_error("open a fanotify group", error);
}

}  // namespace

base::Result<PermissionGroup> PermissionGroup::open() {
  // O_NONBLOCK: of the files that come with the events, some may be pipes.
  base::UniqueFd group{::fanotify_init(
      FAN_CLASS_PRE_CONTENT | FAN_CLOEXEC | FAN_NONBLOCK | FAN_UNLIMITED_QUEUE | kReportThread,
      O_RDONLY | O_LARGEFILE | O_CLOEXEC | O_NONBLOCK)};
  if (!group) return not_opened(errno);
  return PermissionGroup{std::move(group)};
}

base::Status PermissionGroup::mark(const std::string& path, std::uint64_t events,
                                   bool folder) const {
  const unsigned flags = FAN_MARK_ADD | (folder ? FAN_MARK_ONLYDIR : 0u);
  // Whoever may change folders on the way must not lead us elsewhere.
  SQUALL_ASSIGN(const base::UniqueFd there, base::open_without_links(path, O_PATH));
  const std::string name = fmt::format("/proc/self/fd/{}", there.get());
  if (::fanotify_mark(group_.get(), flags, events, AT_FDCWD, name.c_str()) == 0) return {};
  const int error = errno;
  if (error == EOPNOTSUPP || error == EINVAL || error == ENODEV) {
    const bool newest = (events & kAnyAccessEvent) != 0;
    return base::Error{
        .code = base::ErrorCode::kUnsupported,
        .message = fmt::format("{} to {} cannot be held before they happen",
                               newest ? "writes" : "accesses", path),
        .hint = newest ? "that needs Linux 6.14 and ext4, xfs or btrfs; `open` and `read` work on "
                         "older ones, and `open_files: trace` on files that are open already"
                       : "not on this kind of filesystem"};
  }
  return base::system_error("watch " + path, error);
}

base::Status PermissionGroup::receive(const std::function<void(const HeldAccess&)>& take) {
  alignas(fanotify_event_metadata) std::array<char, kBuffer> buffer;
  const ssize_t got = ::read(group_.get(), buffer.data(), buffer.size());
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return {};
  if (got < 0) return base::system_error("read what happens to files", errno);
  auto left = static_cast<std::size_t>(got);
  const char* at = buffer.data();
  while (left >= sizeof(fanotify_event_metadata)) {
    const auto* event = reinterpret_cast<const fanotify_event_metadata*>(at);
    if (event->event_len < sizeof *event || event->event_len > left) break;
    if (event->fd >= 0) take({.events = event->mask, .file = event->fd, .thread = event->pid});
    at += event->event_len;
    left -= event->event_len;
  }
  return {};
}

bool PermissionGroup::answer(const HeldAccess& access, int error) const {
  fanotify_response response{.fd = access.file, .response = FAN_ALLOW};
  if (error != 0) {
    response.response = FAN_DENY;
    if (error != EPERM) response.response |= static_cast<unsigned>(error) << kErrorShift;
  }
  const bool taken =
      ::write(group_.get(), &response, sizeof response) == static_cast<ssize_t>(sizeof response);
  if (!taken && error != 0 && errno == EINVAL) {
    response.response = FAN_ALLOW;
    [[maybe_unused]] const ssize_t let_go = ::write(group_.get(), &response, sizeof response);
  }
  ::close(access.file);
  return taken;
}

bool can_fail_with(int error) {
  if (error == EPERM) return true;
  // Nothing but a denied access tells, so the version must do.
  utsname name{};
  int major = 0;
  int minor = 0;
  if (::uname(&name) != 0 || std::sscanf(name.release, "%d.%d", &major, &minor) != 2) return false;
  if (major < 6 || (major == 6 && minor < 13)) return false;
  constexpr std::array kErrors{EIO, EBUSY, ETXTBSY, EAGAIN, ENOSPC, EDQUOT};
  return std::find(kErrors.begin(), kErrors.end(), error) != kErrors.end();
}

}  // namespace squall::inject
