#pragma once
// A stand-in for systemd where none runs: `systemctl` with show, start and stop over files in
// /run/fake-units, seen only in the mount namespace of the caller.

#include <fmt/format.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <cerrno>
#include <string>

#include "base/files.h"
#include "base/result.h"

namespace squall::test {

inline constexpr const char* kFakeUnits = "/run/fake-units";

// A unit is a file with lines of `systemctl show`; its invocation lies beside it. `fail-stop` or
// `fail-start` in the folder makes that fail, `slow-stop` and `slow-start` last until they are
// gone.
inline constexpr const char* kFakeSystemctl = R"sh(#!/bin/sh
units=/run/fake-units
verb=
for word in "$@"; do
  case $word in show|start|stop) [ -n "$verb" ] || verb=$word ;; esac
  unit=$word
done
if [ "$verb" = show ]; then
  [ -e "$units/$unit" ] || { printf 'LoadState=not-found\nActiveState=inactive\n'; exit 0; }
  cat "$units/$unit"
  printf 'InvocationID=%s\n' "$(cat "$units/$unit-invocation" 2>/dev/null)"
  exit 0
fi
echo "$verb $unit" >> "$units/log"
while [ -e "$units/slow-$verb" ]; do sleep 0.01; done
if [ -e "$units/fail-$verb" ]; then echo "Job for $unit failed." >&2; exit 1; fi
case $verb in
  stop) sed -i 's/^ActiveState=.*/ActiveState=inactive/' "$units/$unit" ;;
  start)
    echo $$ > "$units/$unit-invocation"
    sed -i 's/^ActiveState=.*/ActiveState=active/' "$units/$unit" ;;
esac
)sh";

// In a mount namespace of the caller's own. Hides what the host has in /run.
inline base::Status stand_in_for_systemd(const std::string& folder) {
  if (::mount("none", "/run", "tmpfs", 0, "size=4m") != 0)
    return base::system_error("mount a filesystem over /run", errno);
  SQUALL_TRY(base::make_directories("/run/systemd/system"));
  SQUALL_TRY(base::make_directories(kFakeUnits));
  const std::string program = folder + "/systemctl";
  SQUALL_TRY(base::write_file_atomically(program, kFakeSystemctl, 0755));
  if (::mount(program.c_str(), "/usr/bin/systemctl", nullptr, MS_BIND, nullptr) != 0)
    return base::system_error("put the stand-in over systemctl", errno);
  return {};
}

inline base::Status write_fake_unit(const std::string& unit, const std::string& more = {}) {
  const std::string path = fmt::format("{}/{}", kFakeUnits, unit);
  SQUALL_TRY(base::write_file_atomically(path + "-invocation", "first"));
  return base::write_file_atomically(
      path,
      fmt::format("Id={}\nLoadState=loaded\nActiveState=active\nCanStop=yes\n{}", unit, more));
}

}  // namespace squall::test
