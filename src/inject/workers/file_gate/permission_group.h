#pragma once
// A fanotify permission group: the kernel holds accesses to marked files until we have answered.
// When its descriptor closes, all that waits goes through.

#include <cstdint>
#include <functional>
#include <string>

#include "base/fd.h"
#include "base/result.h"

namespace squall::inject {

// Of <linux/fanotify.h>; the last one is younger than some C libraries (Linux 6.14).
inline constexpr std::uint64_t kOpenEvent = 0x0001'0000;
inline constexpr std::uint64_t kReadEvent = 0x0002'0000;
inline constexpr std::uint64_t kAnyAccessEvent = 0x0010'0000;  // before reads and writes

struct HeldAccess {
  std::uint64_t events = 0;
  int file = -1;     // names it in the answer, which closes it
  pid_t thread = 0;  // 0: in a process namespace that we do not see
};

class PermissionGroup {
 public:
  // kPermission without CAP_SYS_ADMIN, kUnsupported when this kernel has none.
  static base::Result<PermissionGroup> open();
  int fd() const { return group_.get(); }
  // kUnsupported when the filesystem does not raise such events.
  base::Status mark(const std::string& path, std::uint64_t events, bool folder) const;
  // Hands over what waits, some hundred accesses at most. Never blocks.
  base::Status receive(const std::function<void(const HeldAccess&)>& take);
  // `error` 0: it goes through. False: the kernel does not take this answer.
  bool answer(const HeldAccess& access, int error) const;

 private:
  explicit PermissionGroup(base::UniqueFd group) : group_(std::move(group)) {}
  base::UniqueFd group_;
};

// Does the kernel let an access fail with this error (6.13: some; before: EPERM only)?
bool can_fail_with(int error);

}  // namespace squall::inject
